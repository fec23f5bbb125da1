//! Reads the tar of a foreign layer, entry by entry, under limits and with bounded memory.
//!
//! Understood: ustar, GNU long names, PAX paths. Refused, for readers of tar disagree about them and an attacker lives on that: sparse
//! files, PAX sizes that differ from the header's, paths that are absolute or climb, and anything above the limits.

use std::io::{self, Read};

use common::digest::Hasher;
use common::{Class, Error, Result, Sha256};
use tar::{Archive, EntryType, PaxExtensions};

/// How much a foreign image may cost; checked while it is read, before anything is allocated or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries in one layer.
    pub entries: u64,
    /// Bytes of one file.
    pub file: u64,
    /// Bytes of one layer, uncompressed.
    pub layer: u64,
}

impl Limits {
    /// Several times what Talos's imager, the largest of its images, holds.
    pub const TALOS: Self = Self { entries: 200_000, file: 2 << 30, layer: 8 << 30 };
}

/// Long names and PAX records above this are an attack.
const EXTENSION_LIMIT: u64 = 1 << 20;
/// `PATH_MAX` of Linux.
const PATH_LIMIT: usize = 4096;

/// One entry of a layer; the path is relative and plain, empty for the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it goes.
    pub path: String,
    /// What it is.
    pub kind: ItemKind,
    /// Permission bits.
    pub mode: u32,
}

/// Kind of an [`Item`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// A regular file of so many bytes.
    File(u64),
    /// A directory.
    Dir,
    /// A symbolic link to this target, as written.
    Symlink(String),
    /// A hard link to this path, relative and plain.
    Hardlink(String),
    /// A device or named pipe.
    Special,
}

/// Calls `each` with the number, the entry and the data of every entry of the tar `stream`, reads the stream to its end,
/// and gives the digest of it all.
///
/// # Errors
/// [`Class::BadInput`] for what is no sound tar, and for what `limits` or the rules above forbid; and what `each` reports.
pub fn read(
    stream: impl Read,
    limits: Limits,
    each: &mut dyn FnMut(u64, &Item, &mut dyn Read) -> Result<()>,
) -> Result<Sha256> {
    let mut metered = Metered { inner: stream, hasher: Hasher::default(), left: limits.layer };
    let mut archive = Archive::new(&mut metered);
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
    io::copy(&mut metered, &mut io::sink()).map_err(|e| broken(&e))?;
    Ok(metered.hasher.finish().0)
}

/// Names that came before the header they belong to.
#[derive(Default)]
struct Names {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Names {
    /// Takes `entry` when it only describes the next one.
    fn take(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<bool> {
        let kind = entry.header().entry_type();
        let extension = matches!(
            kind,
            EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader
        );
        if !extension {
            return Ok(false);
        }
        if entry.size() > EXTENSION_LIMIT {
            return Err(refused(format!("a header extension of {} bytes", entry.size())));
        }
        let mut data = Vec::new();
        entry.read_to_end(&mut data).map_err(|e| broken(&e))?;
        match kind {
            EntryType::GNULongName => self.path = Some(until_nul(&data)),
            EntryType::GNULongLink => self.link = Some(until_nul(&data)),
            EntryType::XHeader => self.pax(&data)?,
            // Global records of git and others are comments; those that would rename entries are for no layer.
            _ => {}
        }
        Ok(true)
    }

    fn pax(&mut self, data: &[u8]) -> Result<()> {
        for record in PaxExtensions::new(data) {
            let record = record.map_err(|e| broken(&e))?;
            match record.key_bytes() {
                b"path" => self.path = Some(record.value_bytes().to_vec()),
                b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                b"size" => {
                    let size = record.value().ok().and_then(|v| v.parse().ok());
                    self.size = Some(size.ok_or_else(|| refused("a PAX size is no number".to_owned()))?);
                }
                key if key.starts_with(b"GNU.sparse.") => return Err(refused("it holds a sparse file".to_owned())),
                _ => {}
            }
        }
        Ok(())
    }

    /// The entry of `header`, under the names that came before it.
    fn item(&mut self, header: &tar::Header) -> Result<Item> {
        let Self { path, link, size } = std::mem::take(self);
        let path = plain(&path.unwrap_or_else(|| header.path_bytes().into_owned()))?;
        let declared = header.entry_size().map_err(|e| broken(&e))?;
        if size.is_some_and(|size| size != declared) {
            return Err(refused(format!("{path} has two sizes")));
        }
        let target = || link.or_else(|| header.link_name_bytes().map(|name| name.into_owned())).unwrap_or_default();
        let kind = match header.entry_type() {
            // A trailing slash made a directory before POSIX; nobody writes that into layers.
            EntryType::Regular | EntryType::Continuous => ItemKind::File(declared),
            EntryType::Directory => ItemKind::Dir,
            EntryType::Symlink => match text(&target())? {
                target if target.is_empty() => return Err(refused(format!("the link {path} has no target"))),
                target => ItemKind::Symlink(target),
            },
            EntryType::Link => ItemKind::Hardlink(plain(&target())?),
            EntryType::Char | EntryType::Block | EntryType::Fifo => ItemKind::Special,
            other => return Err(refused(format!("{path} is of the unknown type {:?}", char::from(other.as_byte())))),
        };
        let mode = header.mode().map_err(|e| broken(&e))? & 0o7777;
        Ok(Item { path, kind, mode })
    }
}

/// `bytes` as a relative path without empty parts and `.`; what is absolute or climbs is refused.
fn plain(bytes: &[u8]) -> Result<String> {
    let path = text(bytes)?;
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(refused(format!("the path {path:?} leads out of the image")));
    }
    Ok(path.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/"))
}

fn text(bytes: &[u8]) -> Result<String> {
    if bytes.len() > PATH_LIMIT {
        return Err(refused(format!("a path of {} bytes", bytes.len())));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| refused(format!("the path {:?} is not UTF-8", String::from_utf8_lossy(bytes))))?;
    if text.contains('\0') {
        return Err(refused(format!("the path {text:?} holds a NUL")));
    }
    Ok(text.to_owned())
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// Hashes and counts what is read, and fails once it is more than allowed: a bomb is stopped while it unfolds.
struct Metered<R> {
    inner: R,
    hasher: Hasher,
    left: u64,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "it unfolds to more than the limit of bytes"))?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

fn broken(e: &io::Error) -> Error {
    refused(e.to_string())
}

/// The layer is unsound or hostile.
pub(crate) fn refused(why: String) -> Error {
    Error::new(Class::BadInput, "a layer cannot be used").why(why)
}
