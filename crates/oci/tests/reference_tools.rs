//! Checks our layouts with the reference tools skopeo, umoci and oras, from the toolchain's root filesystem (`SOLANA_TALOS_ROOTFS`).
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::collections::BTreeMap;
use std::fs;

use oci::types::{MediaType, Named as _};
use oci::{Limits, Unpacked};
use support::{NAME, RawTar, gzip, raw_layout, run, sample, tempdir, toolchain, tree};

#[test]
fn skopeo_reads_and_copies_it() {
    let Some(sandbox) = toolchain() else { return };
    let dir = tempdir();
    let digest = sample(&dir.path().join("a.oci"), "hello\n");
    let text = run(&sandbox, dir.path(), "skopeo inspect oci:a.oci:$1").unwrap();
    let inspected: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(inspected["Digest"], digest.oci());
    assert_eq!(inspected["Architecture"], "amd64");
    assert_eq!(inspected["Labels"]["alpha.talos.dev/version"], "v1.10.3");
    run(&sandbox, dir.path(), "skopeo copy --insecure-policy oci:a.oci:$1 oci:b.oci:copy").unwrap();
    let copied = oci::Layout::open(&dir.path().join("b.oci")).unwrap().image("copy").unwrap();
    assert_eq!(copied.digest, digest, "skopeo changed the image");
}

#[test]
fn umoci_unpacks_the_same_tree() {
    let Some(sandbox) = toolchain() else { return };
    let dir = tempdir();
    sample(&dir.path().join("a.oci"), "hello\n");
    run(&sandbox, dir.path(), "umoci unpack --rootless --image a.oci:$1 out").unwrap();
    let deep = format!("usr/lib/{}/{}", "a".repeat(120), "b".repeat(120));
    let expected = BTreeMap::from([
        ("bin/tool".to_owned(), ("#!/bin/sh\n".to_owned(), 0o755)),
        ("etc/motd".to_owned(), ("hello\n".to_owned(), 0o644)),
        ("lib64".to_owned(), ("usr/lib".to_owned(), 0o777)),
        (deep, ("deep\n".to_owned(), 0o600)),
    ]);
    assert_eq!(tree(&dir.path().join("out/rootfs")), expected);
}

#[test]
fn oras_lists_both_names() {
    let Some(sandbox) = toolchain() else { return };
    let dir = tempdir();
    sample(&dir.path().join("a.oci"), "hello\n");
    let tags = run(&sandbox, dir.path(), "oras repo tags --oci-layout a.oci").unwrap();
    assert_eq!(tags.lines().collect::<Vec<_>>(), [NAME, "ghcr.io/our-org/sample:latest"]);
}

/// Our check agrees with those of the reference tools.
#[test]
fn every_tool_rejects_a_flipped_byte_in_the_layer() {
    let Some(sandbox) = toolchain() else { return };
    let dir = tempdir();
    let dest = dir.path().join("a.oci");
    sample(&dest, "hello\n");
    let layout = oci::Layout::open(&dest).unwrap();
    let layer = layout.image(NAME).unwrap().layers[0].descriptor.clone();
    let path = dest.join("blobs/sha256").join(layer.sha256().unwrap().to_string());
    let mut bytes = fs::read(&path).unwrap();
    // The byte of the gzip header that names an operating system: only the digest shows the change.
    bytes[9] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(layout.blob(&layer).unwrap_err().class(), common::Class::Verification);
    let skopeo = run(&sandbox, dir.path(), "skopeo copy --insecure-policy oci:a.oci:$1 oci:b.oci:copy").unwrap_err();
    assert!(skopeo.contains("Digest did not match") || skopeo.contains("digest"), "{skopeo}");
    let umoci = run(&sandbox, dir.path(), "umoci unpack --rootless --image a.oci:$1 out").unwrap_err();
    assert!(umoci.contains("verified reader") || umoci.contains("digest") || umoci.contains("checksum"), "{umoci}");
}

/// Covers whiteouts, opaque directories, links and replaced file types.
#[test]
fn unpacks_layers_like_umoci() {
    let Some(sandbox) = toolchain() else { return };
    let dir = tempdir();
    let lower = RawTar::default()
        .dir("./")
        .dir("usr/lib/")
        .symlink("lib", "usr/lib")
        .file("usr/lib/keep", "keep")
        .file("usr/lib/gone", "gone")
        .dir("opaque/")
        .file("opaque/old", "old")
        .file("opaque/sub/old", "old")
        .file("was-file", "file")
        .dir("was-dir/")
        .file("was-dir/below", "below")
        .file("a", "linked")
        .hardlink("b", "a")
        .done();
    let upper = RawTar::default()
        .file("usr/lib/.wh.gone", "")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/new", "new")
        .dir("was-file/")
        .file("was-file/now", "dir")
        .symlink("was-dir", "usr")
        .file(".wh.b", "")
        .done();
    let layout = raw_layout(&dir.path().join("a.oci"), &MediaType::ImageLayerGzip, &[lower, upper], gzip);
    let image = layout.image(NAME).unwrap();
    Unpacked::open(&layout, &image, Limits::SYSTEM).unwrap().apply(&dir.path().join("ours")).unwrap();
    run(&sandbox, dir.path(), "umoci unpack --rootless --image a.oci:$1 theirs").unwrap();
    let ours = tree(&dir.path().join("ours"));
    assert_eq!(ours, tree(&dir.path().join("theirs/rootfs")));
    assert_eq!(ours.keys().collect::<Vec<_>>(), ["a", "lib", "opaque/new", "usr/lib/keep", "was-dir", "was-file/now"]);
}
