//! Shared by the tests.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::path::Path;

use common::Sha256;
use images::{Entry, FileMap, NewImage, Writer, types};

pub const NAME: &str = "ghcr.io/our-org/sample:custom-solana-v1.10.3";
pub const EPOCH: u64 = 1_735_689_600;

pub fn tempdir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub fn sample_files(text: &str) -> FileMap {
    let mut files = FileMap::new();
    files.bytes("etc/motd", text, 0o644).unwrap();
    files.bytes("bin/tool", "#!/bin/sh\n", 0o755).unwrap();
    files.insert("lib64", Entry::Symlink { target: "usr/lib".into() }).unwrap();
    files.bytes(&format!("usr/lib/{}/{}", "a".repeat(120), "b".repeat(120)), "deep\n", 0o600).unwrap();
    files
}

/// Writes a layout with one image of one layer under two names, and gives the manifest's digest.
pub fn sample(dest: &Path, text: &str) -> Sha256 {
    let mut writer = Writer::create(dest).unwrap();
    let layer = writer.layer(&sample_files(text), EPOCH).unwrap();
    let names = [NAME.to_owned(), "ghcr.io/our-org/sample:latest".to_owned()];
    let config = types::RunConfig {
        entrypoint: Some(vec!["/bin/tool".into()]),
        labels: Some(BTreeMap::from([("alpha.talos.dev/version".into(), "v1.10.3".into())])),
        ..Default::default()
    };
    let history = vec![types::History { created_by: Some("solana-talos".into()), ..Default::default() }];
    let annotations = BTreeMap::from([("org.opencontainers.image.title".into(), "sample".into())]);
    let image = NewImage { names: &names, created: EPOCH, config, layers: &[layer], history, annotations };
    let digest = writer.image(&image).unwrap();
    writer.finish().unwrap();
    digest
}
