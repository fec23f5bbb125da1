//! Shared by the tests.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use common::Sha256;
use oci::types::RunConfig;
use oci::{FileMap, NewImage, Writer};

mod elf;
mod squashfs;

pub use elf::elf;
pub use squashfs::squashfs;

pub const NAME: &str = "ghcr.io/our-org/sample:custom-solana-v1.10.3";

pub fn data(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

/// A PE32+ image with these sections, each in a file block of its own.
pub fn pe(sections: &[(&str, &[u8])]) -> Vec<u8> {
    const OPTIONAL: usize = 0x58;
    let mut bytes = vec![0; 0x400];
    let put = |bytes: &mut Vec<u8>, at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    for (at, value) in [(0, &b"MZ"[..]), (0x3c, &[0x40]), (0x40, b"PE\0\0"), (0x44, &[0x64, 0x86])] {
        put(&mut bytes, at, value);
    }
    put(&mut bytes, 0x46, &u16::try_from(sections.len()).unwrap().to_le_bytes());
    put(&mut bytes, 0x54, &240u16.to_le_bytes());
    for (at, value) in [(0, 0x20b_u32), (32, 0x1000), (36, 0x200), (60, 0x400), (108, 16)] {
        put(&mut bytes, OPTIONAL + at, &value.to_le_bytes());
    }
    for (at, (name, content)) in sections.iter().enumerate() {
        let row = OPTIONAL + 240 + at * 40;
        let raw = u32::try_from(content.len().next_multiple_of(0x200)).unwrap();
        let offset = u32::try_from(bytes.len()).unwrap();
        put(&mut bytes, row, name.as_bytes());
        let address = 0x1000 * (u32::try_from(at).unwrap() + 1);
        for (field, value) in [(8, u32::try_from(content.len()).unwrap()), (12, address), (16, raw), (20, offset)] {
            put(&mut bytes, row + field, &value.to_le_bytes());
        }
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(0x200), 0);
    }
    bytes
}

/// A cpio archive of these files.
pub fn cpio(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = imager::cpio::Writer::default();
    for (path, content) in files {
        writer.file(path, 0o644, content.to_vec()).unwrap();
    }
    writer.finish(7)
}

/// A module, signed in form only.
pub fn module(text: &[u8]) -> Vec<u8> {
    let message = b"a PKCS#7 message";
    let mut out = elf(&[(".text", text), (".data", b"data")]);
    out.extend(message);
    out.extend([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, u8::try_from(message.len()).unwrap()]);
    out.extend(b"~Module signature appended~\n");
    out
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A bzImage with an EFI stub in form only, whose payload is `payload`.
pub fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 1024];
    image[0x1f1] = 1;
    image[0x1fe..0x206].copy_from_slice(b"\x55\xaa\xeb\x66HdrS");
    image[0x248] = 16;
    image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    image.extend([0; 16]);
    image.extend(payload);
    image.extend(b"after");
    image
}

/// A unified kernel image whose initramfs has a plain archive, and a compressed one with a squashfs layer.
pub fn uki(cmdline: &str, layer: &[u8]) -> Vec<u8> {
    let archive = cpio(&[("0.sqsh", layer), ("extensions.yaml", b"layers: []\n")]);
    let initrd = [cpio(&[("early", b"1")]), zstd::encode_all(&archive[..], 3).unwrap()].concat();
    pe(&[(".cmdline", cmdline.as_bytes()), (".uname", b"6.12.117-talos"), (".initrd", &initrd)])
}

/// The same archive without its trailer, for another one to go on with it.
pub fn unended(mut archive: Vec<u8>) -> Vec<u8> {
    let name = archive.windows(10).rposition(|bytes| bytes == b"TRAILER!!!").unwrap();
    archive.truncate(name - 110);
    archive
}

/// Writes a layout with one image of these files; gives its directory and the manifest's digest.
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
    let mut writer = Writer::create(&dest).unwrap();
    let layer = writer.layer(map, 7).unwrap();
    let names = [NAME.to_owned()];
    let annotations = BTreeMap::new();
    let image = NewImage { names: &names, created: 7, config, layers: &[layer], history: vec![], annotations };
    let digest = writer.image(&image).unwrap();
    writer.finish().unwrap();
    (dest, digest)
}
