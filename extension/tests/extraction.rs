//! What Talos extracts from the layers of an extension image.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::path::Path;

use common::Sha256;
use extension::{Target, extraction};
use oci::types::{self, MediaType};
use oci::{Layout, Limits};

/// One entry: type flag, path, link target, content.
type Entry = (u8, &'static str, &'static str, &'static str);

const DIRS: [Entry; 5] = [
    (b'0', "manifest.yaml", "", "x"),
    (b'5', "rootfs/", "", ""),
    (b'5', "rootfs/usr/", "", ""),
    (b'5', "rootfs/usr/local/", "", ""),
    (b'5', "rootfs/usr/local/bin/", "", ""),
];
const TOOL: Entry = (b'0', "rootfs/usr/local/bin/tool", "", "#!/bin/sh");

fn with(more: &[Entry]) -> Vec<Entry> {
    [&DIRS[..], more].concat()
}

fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, path, link, data) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.as_old_mut().linkflag = [*kind];
        header.set_mode(0o755);
        header.set_size(data.len() as u64);
        header.set_cksum();
        bytes.extend(header.as_bytes());
        bytes.extend(data.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// Writes a layout with an image of these layers, lowest first.
fn layout(root: &Path, layers: &[Vec<Entry>]) -> Layout {
    let blobs = root.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: MediaType, bytes: &[u8]| {
        std::fs::write(blobs.join(Sha256::of(bytes).to_string()), bytes).unwrap();
        types::descriptor(media_type, Sha256::of(bytes), bytes.len() as u64)
    };
    let layers: Vec<_> = layers.iter().map(|layer| put(MediaType::ImageLayer, &tar(layer))).collect();
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.digest().to_string()).collect();
    let rootfs = serde_json::json!({"type": "layers", "diff_ids": diff_ids});
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).to_string();
    let manifest = types::manifest(put(MediaType::ImageConfig, config.as_bytes()), layers).unwrap();
    let manifest = put(MediaType::ImageManifest, &types::canonical(&manifest).unwrap());
    std::fs::write(root.join("index.json"), types::canonical(&types::index(vec![manifest])).unwrap()).unwrap();
    std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    Layout::open(root).unwrap()
}

fn violations(talos: &str, layers: &[Vec<Entry>]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(dir.path(), layers);
    let image = layout.images().unwrap().remove(0);
    let target = Target::new(talos, "6.12.117-talos".to_owned()).unwrap();
    let found = extraction::check(&layout, &image, Limits::SYSTEM, &target).unwrap();
    found.iter().map(ToString::to_string).collect()
}

const ALL: [&str; 3] = ["v1.10.3", "v1.13.9", "v1.14.1"];

/// Expects nothing in `taken`, and one violation with these words in the other releases.
#[track_caller]
fn check(layers: &[Vec<Entry>], taken: &[&str], words: &[&str]) {
    for talos in ALL {
        let found = violations(talos, layers);
        if taken.contains(&talos) {
            assert_eq!(found, Vec::<String>::new(), "{talos}");
        } else {
            assert_eq!(found.len(), 1, "{talos}: {found:?}");
            assert!(words.iter().all(|word| found[0].contains(word)), "{talos}: {words:?} in {found:?}");
        }
    }
}

#[test]
fn complete_layers_are_taken() {
    check(&[with(&[TOOL, (b'2', "rootfs/usr/local/bin/alias", "tool", "")])], &ALL, &[]);
    check(&[[&[(b'5', "./", "", "")][..], &with(&[TOOL])].concat()], &ALL, &[]);
    // A directory may have an entry in every layer, and a file may replace one of a lower layer.
    check(&[with(&[TOOL]), with(&[TOOL])], &ALL, &[]);
    check(&[with(&[TOOL]), with(&[(b'0', "rootfs/usr/local/bin/.wh.tool", "", "")])], &ALL, &[]);
}

#[test]
fn talos_writes_an_empty_file_for_a_hard_link() {
    let link = (b'1', "rootfs/usr/local/bin/alias", "rootfs/usr/local/bin/tool", "");
    check(&[with(&[TOOL, link])], &[], &["rootfs/usr/local/bin/alias: ", "empty file", "symbolic link"]);
    let device = (b'3', "rootfs/usr/local/null", "", "");
    check(&[with(&[device])], &[], &["rootfs/usr/local/null: ", "empty file"]);
}

/// `crane append` of a tar with plain paths, bazel and `umoci insert` make such layers.
#[test]
fn untar_makes_missing_directories_from_1_14_on() {
    check(&[[&DIRS[..4], &[TOOL]].concat()], &["v1.14.1"], &["rootfs/usr/local/bin: ", "no entry"]);
    for talos in ["v1.8.0", "v1.13.9"] {
        let found = violations(talos, &[vec![DIRS[0], TOOL]]);
        let missing = ["rootfs: ", "rootfs/usr: ", "rootfs/usr/local: ", "rootfs/usr/local/bin: "];
        assert_eq!(found.len(), missing.len(), "{found:?}");
        assert!(found.iter().zip(missing).all(|(line, path)| line.starts_with(path)), "{found:?}");
    }
    // The upper layer is written first.
    check(
        &[
            with(&[]),
            vec![(b'5', "rootfs/", "", ""), (b'5', "rootfs/usr/", "", ""), (b'5', "rootfs/usr/local/", "", ""), TOOL],
        ],
        &["v1.14.1"],
        &["rootfs/usr/local/bin: ", "no entry"],
    );
    // A directory after its file is too late.
    check(&[[&DIRS[..4], &[TOOL, DIRS[4]]].concat()], &["v1.14.1"], &["rootfs/usr/local/bin: "]);
}

/// kaniko names the root `/`.
#[test]
fn untar_rejects_an_entry_named_slash_from_1_14_on() {
    let root: Vec<Entry> = [&[(b'5', "/", "", "")][..], &with(&[TOOL])].concat();
    check(&[root], &["v1.10.3", "v1.13.9"], &["/: ", "named /"]);
    let absolute = (b'0', "/rootfs/usr/local/bin/tool", "", "y");
    check(&[with(&[absolute])], &ALL, &[]);
    check(&[with(&[TOOL, absolute])], &[], &["rootfs/usr/local/bin/tool: ", "exists already"]);
}

#[test]
fn a_global_header_becomes_a_file() {
    let header = (b'g', "pax_global_header", "", "13 comment=a\n");
    check(&[[&[header][..], &with(&[TOOL])].concat()], &[], &["pax_global_header: ", "git archive"]);
}

/// Crane drops what is below a path that is not a directory.
#[test]
fn nothing_is_extracted_below_a_link() {
    let inside = [(b'2', "rootfs/usr/bin", "local/bin", ""), (b'0', "rootfs/usr/bin/tool", "", "x")];
    check(&[with(&inside)], &[], &["rootfs/usr/local/bin/tool: ", "something else"]);
    check(&[with(&inside[..1])], &ALL, &[]);
}

#[test]
fn talos_flattens_layers_as_crane_does() {
    let opaque = (b'0', "rootfs/usr/local/bin/.wh..wh..opq", "", "");
    check(&[with(&[TOOL]), with(&[opaque])], &[], &["rootfs/usr/local/bin/tool: ", "opaque whiteouts"]);
    let again = (b'0', "rootfs/usr/local/bin/tool", "", "another");
    check(&[with(&[TOOL, again])], &[], &["rootfs/usr/local/bin/tool: ", "something else"]);
    let replaced = [(b'0', "rootfs/usr/local/bin/.wh.tool", "", ""), again];
    check(&[with(&[TOOL]), with(&replaced)], &[], &["rootfs/usr/local/bin/tool: ", "something else"]);
}
