//! Small files of each format, for tests.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test may stop at once")]

use std::io::Write as _;

mod elf;
mod pe;
mod squashfs;

pub use elf::elf;
pub use pe::{OPTIONAL, bzimage, bzimage_of, pe, stub};
pub use squashfs::squashfs;

/// The same tree as written by `mksquashfs` with gzip, xz and zstd; see `tests/data/README.md`.
pub const SQUASHFS: [(&str, &[u8]); 3] = [
    ("sample-gzip.sqsh", include_bytes!("../../tests/data/sample-gzip.sqsh")),
    ("sample-xz.sqsh", include_bytes!("../../tests/data/sample-xz.sqsh")),
    ("sample-zstd.sqsh", include_bytes!("../../tests/data/sample-zstd.sqsh")),
];

/// `bytes` as gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `bytes` as .xz.
pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `bytes` as one zstd frame.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}
