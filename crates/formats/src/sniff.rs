//! Detects the format of a file by its first bytes.

use crate::{Compression, bzimage, compression, initramfs, squashfs};

/// Known formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A Linux program, object or module.
    Elf,
    /// A squashfs image.
    Squashfs,
    /// Concatenated archives and compressed streams: an initramfs, a single archive, or a single stream.
    Archives,
    /// A kernel with its setup header; may also be a PE image.
    BzImage,
    /// A UEFI program.
    Pe,
}

/// Returns the format of the file `bytes`.
#[must_use]
pub fn sniff(bytes: &[u8]) -> Option<Format> {
    let archives = || {
        let rest = &bytes[initramfs::next(bytes, 0)?..];
        let is_packed = Compression::detect(rest).is_some() || compression::unsupported(rest).is_some();
        (rest.starts_with(b"07070") || is_packed).then_some(Format::Archives)
    };
    match bytes {
        [0x7f, b'E', b'L', b'F', ..] => Some(Format::Elf),
        _ if squashfs::Image::detect(bytes) => Some(Format::Squashfs),
        // An archive may contain a kernel's magic numbers at a kernel's offsets, so its own magic number is checked first.
        _ => archives().or_else(|| match bytes {
            _ if bzimage::payload(bytes).is_some() => Some(Format::BzImage),
            [b'M', b'Z', ..] => Some(Format::Pe),
            _ => None,
        }),
    }
}
