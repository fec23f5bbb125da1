//! Shared by the tests.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use common::Sha256;
use common::sandbox::{Run, Sandbox};
use oci::types::{self, MediaType, Named as _};
use oci::{Entry, FileMap, Layout, NewImage, Writer};

pub const NAME: &str = "ghcr.io/our-org/sample:custom-solana-v1.10.3";
pub const EPOCH: u64 = 1_735_689_600;

pub fn tempdir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Checks that `result` is an error whose text contains `word`; returns it.
#[track_caller]
pub fn fails<T>(result: common::Result<T>, word: &str) -> common::Error {
    let error = result.err().unwrap();
    assert!(error.to_string().contains(word), "no {word:?} in {error}");
    error
}

pub fn sample_files(text: &str) -> FileMap {
    let mut files = FileMap::new();
    files.bytes("etc/motd", text, 0o644).unwrap();
    files.bytes("bin/tool", "#!/bin/sh\n", 0o755).unwrap();
    files.insert("lib64", Entry::Symlink { target: "usr/lib".into() }).unwrap();
    files.bytes(&format!("usr/lib/{}/{}", "a".repeat(120), "b".repeat(120)), "deep\n", 0o600).unwrap();
    files
}

/// Writes a layout with one image of one layer under two names; returns the manifest's digest.
pub fn sample(dest: &Path, text: &str) -> Sha256 {
    let names = [NAME.to_owned(), "ghcr.io/our-org/sample:latest".to_owned()];
    let config = types::RunConfig {
        entrypoint: Some(vec!["/bin/tool".into()]),
        labels: Some(BTreeMap::from([("alpha.talos.dev/version".into(), "v1.10.3".into())])),
        ..Default::default()
    };
    let history = vec![types::History { created_by: Some("solana-talos".into()), ..Default::default() }];
    let annotations = BTreeMap::from([("org.opencontainers.image.title".into(), "sample".into())]);
    let image = NewImage { names: &names, created: EPOCH, config, layers: &[], history, annotations };
    Writer::one_image(dest, &sample_files(text), image).unwrap()
}

/// The toolchain; `None` skips the test.
pub fn toolchain() -> Option<Sandbox> {
    skip::toolchain(&["skopeo", "umoci"]).map(Sandbox::new)
}

/// Runs `script` in the toolchain with `dir` at `/build/w`; returns its output or the error.
pub fn run(sandbox: &Sandbox, dir: &Path, script: &str) -> Result<String, String> {
    let run = Run::script(script, &[NAME]).write(dir, "/build/w").directory("/build/w");
    sandbox.output(&run).map(|out| String::from_utf8_lossy(&out).into_owned()).map_err(|e| e.to_string())
}

/// Content (or link target) and permission bits of everything but directories under `dir`.
pub fn tree(dir: &Path) -> BTreeMap<String, (String, u32)> {
    let mut found = BTreeMap::new();
    walk(dir, "", &mut found);
    found
}

fn walk(dir: &Path, prefix: &str, found: &mut BTreeMap<String, (String, u32)>) {
    for item in fs::read_dir(dir).unwrap() {
        let item = item.unwrap();
        let path = format!("{prefix}{}", item.file_name().to_str().unwrap());
        let meta = item.metadata().unwrap();
        if meta.is_dir() {
            walk(&item.path(), &format!("{path}/"), found);
        } else if meta.is_symlink() {
            found.insert(path, (fs::read_link(item.path()).unwrap().to_str().unwrap().to_owned(), 0o777));
        } else {
            found.insert(path, (fs::read_to_string(item.path()).unwrap(), meta.permissions().mode() & 0o7777));
        }
    }
}

/// Writes a layout with one image named [`NAME`] of these raw tars as layers, packed by `pack`.
pub fn raw_layout(dest: &Path, media_type: &MediaType, tars: &[Vec<u8>], pack: fn(&[u8]) -> Vec<u8>) -> Layout {
    let blobs = dest.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: MediaType, bytes: &[u8]| {
        fs::write(blobs.join(Sha256::of(bytes).to_string()), bytes).unwrap();
        types::descriptor(media_type, Sha256::of(bytes), bytes.len() as u64)
    };
    let layers: Vec<_> = tars.iter().map(|tar| put(media_type.clone(), &pack(tar))).collect();
    let diff_ids: Vec<_> = tars.iter().map(|tar| Sha256::of(tar).oci()).collect();
    let rootfs = serde_json::json!({"type": "layers", "diff_ids": diff_ids});
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).to_string();
    let config = put(MediaType::ImageConfig, config.as_bytes());
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
    let mut manifest = put(MediaType::ImageManifest, manifest.as_bytes());
    manifest.annotate(types::REF_NAME, NAME);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]}).to_string();
    fs::write(dest.join("index.json"), index).unwrap();
    fs::write(dest.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    Layout::open(dest).unwrap()
}

/// Builds a tar as GNU tar or an attacker could: names are not checked.
#[derive(Default)]
pub struct RawTar(Vec<u8>);

impl RawTar {
    pub fn entry(self, kind: u8, path: &str, link: &str, data: &[u8]) -> Self {
        self.entry_as(tar::Header::new_gnu(), kind, path, link, data)
    }

    /// As [`RawTar::entry`], in the format of `header`.
    pub fn entry_as(mut self, mut header: tar::Header, kind: u8, path: &str, link: &str, data: &[u8]) -> Self {
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.as_old_mut().linkflag = [kind];
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_size(data.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, path: &str, data: &str) -> Self {
        self.entry(b'0', path, "", data.as_bytes())
    }

    pub fn dir(self, path: &str) -> Self {
        self.entry(b'5', path, "", b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(b'2', path, target, b"")
    }

    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.entry(b'1', path, target, b"")
    }

    pub fn done(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}
