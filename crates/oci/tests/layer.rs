//! Layers: reproducible bytes, complete content.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

use std::collections::BTreeMap;
use std::io::Read as _;

use common::{Class, Sha256};
use flate2::read::GzDecoder;
use oci::types::Named as _;
use oci::{Entry, FileMap, Source, layer};
use proptest::prelude::*;

const EPOCH: u64 = 1_735_689_600;

fn sample() -> FileMap {
    let mut map = FileMap::new();
    map.bytes("usr/bin/tool", "#!/bin/sh\n", 0o755).unwrap();
    map.bytes("etc/motd", "hello\n", 0o644).unwrap();
    map.insert("usr/lib64", Entry::Symlink { target: "lib".into() }).unwrap();
    map.bytes(&format!("deep/{}/file", "d".repeat(160)), "long path\n", 0o644).unwrap();
    map.insert("long-link", Entry::Symlink { target: "t".repeat(180) }).unwrap();
    let xattrs = BTreeMap::from([("security.selinux".to_owned(), b"system_u:object_r:lib_t:s0\0".to_vec())]);
    let labelled = Entry::File { source: Source::Bytes(b"x".to_vec()), mode: 0o600, xattrs };
    map.insert("usr/lib/labelled", labelled).unwrap();
    map
}

fn written(map: &FileMap) -> (oci::Layer, Vec<u8>) {
    let mut bytes = Vec::new();
    let layer = layer::write(map, EPOCH, &mut bytes).unwrap();
    (layer, bytes)
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut tar).unwrap();
    tar
}

/// When a digest changes, all images change: note it in the changelog, then update the digests here.
#[test]
fn layers_are_reproducible() {
    let (layer, bytes) = written(&sample());
    assert_eq!(layer.descriptor.sha256().unwrap(), Sha256::of(&bytes));
    assert_eq!(layer.descriptor.size(), bytes.len() as u64);
    assert_eq!(layer.diff_id, Sha256::of(gunzip(&bytes)));
    assert_eq!(layer.diff_id.to_string(), "9b6ed3b7a0f36ac637519ea6e01e5eb407e02e76fca0710a6b5b380599bf0c30");
    assert_eq!(
        layer.descriptor.sha256().unwrap().to_string(),
        "a1479d588b28e360776dad8fe272d9db82f1e481ee437300427c022447a9fd60"
    );
}

#[test]
fn the_digest_depends_on_the_time() {
    let other = layer::write(&sample(), EPOCH + 1, std::io::sink()).unwrap();
    assert_ne!(other.diff_id, written(&sample()).0.diff_id);
}

#[test]
fn entries_are_independent_of_the_host() {
    let tar = gunzip(&written(&sample()).1);
    let mut archive = tar::Archive::new(tar.as_slice());
    let mut seen = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, EPOCH));
        assert_eq!((header.username().unwrap(), header.groupname().unwrap()), (Some(""), Some("")));
        seen.push(entry.path().unwrap().to_str().unwrap().to_owned());
    }
    let long = format!("deep/{}", "d".repeat(160));
    let expected = [
        "deep/",
        &format!("{long}/"),
        &format!("{long}/file"),
        "etc/",
        "etc/motd",
        "long-link",
        "usr/",
        "usr/bin/",
        "usr/bin/tool",
        "usr/lib/",
        "usr/lib/labelled",
        "usr/lib64",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn long_links_and_attributes_are_pax_records() {
    let tar = gunzip(&written(&sample()).1);
    let mut archive = tar::Archive::new(tar.as_slice());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let pax: BTreeMap<String, Vec<u8>> = entry
            .pax_extensions()
            .unwrap()
            .into_iter()
            .flatten()
            .map(|record| record.map(|r| (r.key().unwrap().to_owned(), r.value_bytes().to_vec())).unwrap())
            .collect();
        match path.as_str() {
            "long-link" => assert_eq!(pax["linkpath"], "t".repeat(180).as_bytes()),
            "usr/lib/labelled" => assert_eq!(pax["SCHILY.xattr.security.selinux"], b"system_u:object_r:lib_t:s0\0"),
            "etc/motd" | "usr/bin/tool" => assert!(pax.is_empty(), "{path}"),
            _ => {}
        }
    }
}

#[test]
fn a_missing_host_file_is_named() {
    let mut map = FileMap::new();
    map.host("a", "/nonexistent/input".as_ref(), 0o644).unwrap();
    let error = layer::write(&map, 0, std::io::sink()).unwrap_err();
    assert_eq!(error.class(), Class::BadInput);
    assert!(error.to_string().contains("/nonexistent/input"), "{error}");
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::File::create("/dev/full").unwrap();
    let mut map = FileMap::new();
    map.bytes("a", vec![1; 1 << 20], 0o644).unwrap();
    let error = layer::write(&map, 0, full).unwrap_err();
    assert_eq!(error.class(), Class::Infrastructure, "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]
    #[test]
    fn files_survive_a_round_trip(files in prop::collection::btree_map("([a-z]{1,40}/){0,6}[a-zA-Z0-9 é._-]{1,110}", prop::collection::vec(any::<u8>(), 0..2000), 0..12)) {
        let mut map = FileMap::new();
        // The map rejects '.', '..' and paths below a file.
        let kept: BTreeMap<_, _> = files.into_iter().filter(|(path, data)| map.bytes(path, data.clone(), 0o644).is_ok()).collect();
        let (layer, bytes) = written(&map);
        let tar = gunzip(&bytes);
        prop_assert_eq!(layer.diff_id, Sha256::of(&tar));
        let mut found = BTreeMap::new();
        for entry in tar::Archive::new(tar.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.header().entry_type().is_file() {
                let path = entry.path().unwrap().to_str().unwrap().to_owned();
                let mut data = Vec::new();
                entry.read_to_end(&mut data).unwrap();
                found.insert(path, data);
            }
        }
        prop_assert_eq!(found, kept);
    }
}
