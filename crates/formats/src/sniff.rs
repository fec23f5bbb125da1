//! What a file is, by the bytes it begins with.

use crate::{Compression, bzimage, initramfs, squashfs};

/// The formats that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A program, object or module for Linux.
    Elf,
    /// A squashfs image.
    Squashfs,
    /// Archives and compressed streams, one after the other: an initramfs, a single archive, or a single stream.
    Archives,
    /// A kernel with its setup header, which may also be a PE image.
    BzImage,
    /// A program for UEFI.
    Pe,
}

/// The format of the file `bytes`.
#[must_use]
pub fn sniff(bytes: &[u8]) -> Option<Format> {
    let archives = || {
        let rest = &bytes[initramfs::next(bytes, 0)?..];
        (rest.starts_with(b"07070") || Compression::detect(rest).is_some()).then_some(Format::Archives)
    };
    match bytes {
        [0x7f, b'E', b'L', b'F', ..] => Some(Format::Elf),
        _ if squashfs::Image::detect(bytes) => Some(Format::Squashfs),
        // An archive may hold the marks of a kernel where a kernel has them; what it begins with decides.
        _ => archives().or_else(|| match bytes {
            _ if bzimage::payload(bytes).is_some() => Some(Format::BzImage),
            [b'M', b'Z', ..] => Some(Format::Pe),
            _ => None,
        }),
    }
}
