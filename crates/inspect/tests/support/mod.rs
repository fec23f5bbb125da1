//! Shared by the tests.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

use std::path::{Path, PathBuf};

use common::Sha256;
use oci::types::RunConfig;
use oci::{FileMap, NewImage, Writer};

pub use formats::samples::{elf, gzip, pe, squashfs};

pub const NAME: &str = "ghcr.io/our-org/sample:custom-solana-v1.10.3";

pub fn data(name: &str) -> Vec<u8> {
    if let Some((_, bytes)) = formats::samples::SQUASHFS.iter().find(|(sample, _)| *sample == name) {
        return bytes.to_vec();
    }
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

/// A cpio archive of these files.
pub fn cpio(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = formats::cpio::Writer::default();
    for (path, content) in files {
        writer.file(path, 0o644, content.to_vec()).unwrap();
    }
    writer.finish(7)
}

/// A module with an invalid signature.
pub fn module(text: &[u8]) -> Vec<u8> {
    let message = b"a PKCS#7 message";
    let mut out = elf(&[(".text", text), (".data", b"data")]);
    formats::module_signature::append(&mut out, message).unwrap();
    out
}

/// A bzImage whose payload is `payload`.
pub fn bzimage(payload: &[u8]) -> Vec<u8> {
    formats::samples::bzimage_of("6.12.117-talos x", payload)
}

/// A unified kernel image whose initramfs has a plain archive, and a compressed one with a squashfs layer.
pub fn uki(cmdline: &str, layer: &[u8]) -> Vec<u8> {
    let archive = cpio(&[("0.sqsh", layer), ("extensions.yaml", b"layers: []\n")]);
    let initrd = [cpio(&[("early", b"1")]), formats::samples::zstd(&archive)].concat();
    pe(&[(".cmdline", cmdline.as_bytes()), (".uname", b"6.12.117-talos"), (".initrd", &initrd)])
}

/// Returns the archive without its trailer, so that another one can be appended.
pub fn without_trailer(mut archive: Vec<u8>) -> Vec<u8> {
    let name = archive.windows(10).rposition(|bytes| bytes == b"TRAILER!!!").unwrap();
    archive.truncate(name - 110);
    archive
}

/// Writes a layout with one image of these files; returns its directory and the manifest's digest.
pub fn layout(dir: &Path, name: &str, files: &[(&str, &[u8])]) -> (PathBuf, Sha256) {
    let mut map = FileMap::new();
    for (path, content) in files {
        map.bytes(path, *content, 0o644).unwrap();
    }
    image(dir, name, &map, RunConfig::default())
}

/// As [`layout`], of any entries, and with a configuration.
pub fn image(dir: &Path, name: &str, map: &FileMap, config: RunConfig) -> (PathBuf, Sha256) {
    let dest = dir.join(name);
    let image = NewImage { names: &[NAME.to_owned()], created: 7, config, ..NewImage::default() };
    let digest = Writer::one_image(&dest, map, image).unwrap();
    (dest, digest)
}
