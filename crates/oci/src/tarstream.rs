//! Reads the tar of a foreign layer, entry by entry, under limits and with bounded memory.
//!
//! Understood: ustar, GNU long names, PAX paths. Refused, for readers of tar disagree about them and an attacker lives on that: sparse
//! files, PAX sizes that differ from the header's, paths that are absolute or climb, and anything above the limits. So is what Go's
//! `archive/tar` (reader.go), with which containerd and Docker unpack, would read as something else: data of what is no file,
//! names from two places, names that are empty, and parts of names in headers of other formats.

use std::io::{self, Read};

use common::digest::Hasher;
use common::{Result, Sha256};
use tar::Archive;

pub use crate::tarentry::{Item, ItemKind};
use crate::tarentry::{broken, refused};
use crate::tarnames::Names;

/// How much a foreign image may cost; checked while it is read, before anything is allocated or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries in one layer.
    pub entries: u64,
    /// Bytes of one file.
    pub file: u64,
    /// Bytes of one layer, uncompressed.
    pub layer: u64,
    /// Bytes of all layers of an image together, uncompressed; also of what the image is written out to, where links become copies.
    pub image: u64,
}

impl Limits {
    /// For images of a whole operating system: several times what the largest known one holds.
    pub const SYSTEM: Self = Self { entries: 200_000, file: 2 << 30, layer: 8 << 30, image: 16 << 30 };
}

/// What a tar stream was, read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Digest of it all.
    pub digest: Sha256,
    /// Bytes.
    pub size: u64,
}

/// Calls `each` with the number, the entry and the data of every entry of the tar `stream`, reads the stream to its end,
/// and tells what it was.
///
/// # Errors
/// [`Class::BadInput`] for what is no sound tar, and for what `limits` or the rules above forbid; and what `each` reports.
pub fn read(stream: impl Read, limits: Limits, each: &mut Each<'_>) -> Result<Whole> {
    let left = limits.layer.min(limits.image);
    let mut metered = Metered { inner: stream, hasher: Hasher::default(), left, failed: None };
    let result = entries(&mut metered, limits, each);
    // Whoever copies an entry takes the failure of this stream for one of its own files.
    if let Some(why) = metered.failed {
        return Err(refused(why));
    }
    result?;
    let (digest, size) = metered.hasher.finish();
    Ok(Whole { digest, size })
}

/// Takes the number, the entry and the data of an entry.
pub type Each<'a> = dyn FnMut(u64, &Item, &mut dyn Read) -> Result<()> + 'a;

fn entries<R: Read>(metered: &mut Metered<R>, limits: Limits, each: &mut Each<'_>) -> Result<()> {
    let mut archive = Archive::new(&mut *metered);
    let mut names = Names::default();
    let mut count = 0;
    for entry in archive.entries().map_err(|e| broken(&e))?.raw(true) {
        let mut entry = entry.map_err(|e| broken(&e))?;
        count += 1;
        if count > limits.entries {
            return Err(refused(format!("it has more than {} entries", limits.entries)));
        }
        if names.take(&mut entry)? {
            continue;
        }
        let item = names.item(entry.header())?;
        if entry.size() > limits.file {
            return Err(refused(format!(
                "{} declares {} bytes, {} are the limit",
                item.path,
                entry.size(),
                limits.file
            )));
        }
        each(count, &item, &mut entry)?;
    }
    io::copy(metered, &mut io::sink()).map(drop).map_err(|e| broken(&e))
}

/// Hashes and counts what is read, and fails once it is more than allowed: a bomb is stopped while it is decompressed.
struct Metered<R> {
    inner: R,
    hasher: Hasher,
    left: u64,
    /// Why reading failed.
    failed: Option<String>,
}

impl<R: Read> Metered<R> {
    fn fetch(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, "it decompresses to more than the limit of bytes")
        })?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fetch(buffer).inspect_err(|e| {
            // What was interrupted is read again, and what the machine cannot read is no fault of the layer's.
            if e.kind() != io::ErrorKind::Interrupted && e.raw_os_error().is_none() {
                self.failed.get_or_insert_with(|| e.to_string());
            }
        })
    }
}
