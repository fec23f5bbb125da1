//! Reads the tar of an untrusted layer, entry by entry, under limits and with bounded memory.
//!
//! Read as by Go's `archive/tar` (reader.go), which containerd, Docker and Talos's imager use: ustar and star headers, GNU long names, PAX
//! paths and sizes, absolute paths (which begin at the root of the image), `..` within a path. Rejected, because tar readers disagree
//! about them and an attacker could use that: sparse files, paths that leave the root, names from two places, empty names, name prefixes
//! in headers of other formats; and anything above the limits.

use std::io::{self, Read};

use common::digest::Hasher;
use common::{Result, Sha256};

use crate::tarblocks::Blocks;
use crate::tarentry::malformed;
pub use crate::tarentry::{Item, ItemKind};
use crate::tarnames::Names;

/// Limits for an untrusted image; checked while it is read, before anything is allocated or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries in one layer.
    pub entries: u64,
    /// Bytes of one file.
    pub file: u64,
    /// Bytes of one layer, uncompressed.
    pub layer: u64,
    /// Bytes of all layers of an image together, uncompressed; also of the unpacked image, in which hard links become copies.
    pub image: u64,
}

impl Limits {
    /// For images of a whole operating system: several times the largest known one.
    pub const SYSTEM: Self = Self { entries: 200_000, file: 2 << 30, layer: 8 << 30, image: 16 << 30 };
}

/// Digest and size of a whole tar stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Digest of the stream.
    pub digest: Sha256,
    /// Size in bytes.
    pub size: u64,
}

/// Calls `each` with the number, header and data of every entry of the tar `stream`, reads the stream to its end, and returns its digest
/// and size.
///
/// # Errors
/// [`Class::UntrustedData`](common::Class) for a malformed tar and for what `limits` or the rules above forbid.
pub fn read(stream: impl Read, limits: Limits, each: &mut Each<'_>) -> Result<Whole> {
    let left = limits.layer.min(limits.image);
    let mut metered = Metered { inner: stream, hasher: Hasher::default(), left, failed: None };
    let result = entries(&mut metered, limits, each);
    // A copy in `each` cannot tell a read error of this stream from a write error of its file.
    if let Some(why) = metered.failed {
        return Err(malformed(why));
    }
    result?;
    let (digest, size) = metered.hasher.finish();
    Ok(Whole { digest, size })
}

/// Receives the number, header and data of an entry.
pub type Each<'a> = dyn FnMut(u64, &Item, &mut dyn Read) -> Result<()> + 'a;

fn entries<R: Read>(metered: &mut Metered<R>, limits: Limits, each: &mut Each<'_>) -> Result<()> {
    let mut blocks = Blocks::new(&mut *metered);
    let mut names = Names::default();
    let mut count = 0;
    while let Some(header) = blocks.next()? {
        count += 1;
        if count > limits.entries {
            return Err(malformed(format!("it has more than {} entries", limits.entries)));
        }
        if names.take(&header, &mut blocks)? {
            continue;
        }
        let item = names.item(&header, &mut blocks)?;
        match item.kind {
            ItemKind::File(size) if size > limits.file => {
                return Err(malformed(format!("{} declares {size} bytes (max {})", item.path, limits.file)));
            }
            ItemKind::File(size) => blocks.data(size),
            ItemKind::Dir => blocks.data(0),
            _ => {}
        }
        each(count, &item, &mut blocks)?;
    }
    io::copy(metered, &mut io::sink()).map(drop).map_err(malformed)
}

/// Hashes and counts what is read and fails above the limit: stops a decompression bomb while it is decompressed.
struct Metered<R> {
    inner: R,
    hasher: Hasher,
    left: u64,
    /// Reason of the first failed read.
    failed: Option<String>,
}

impl<R: Read> Metered<R> {
    fn fetch(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "it decompresses to more than the limit"))?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fetch(buffer).inspect_err(|e| {
            // Interrupted reads are retried; an error of the operating system is not the layer's fault.
            if e.kind() != io::ErrorKind::Interrupted && e.raw_os_error().is_none() {
                self.failed.get_or_insert_with(|| e.to_string());
            }
        })
    }
}
