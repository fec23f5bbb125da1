//! Parses the headers of a tar as Go's `archive/tar` (reader.go) does, which containerd, Docker and Talos's imager use: a layer could hide
//! files from us otherwise. What other readers take differently is rejected.

use std::io::Read;

use common::Result;
use tar::{EntryType, PaxExtensions};

use crate::tarentry::{Item, ItemKind, malformed};

/// Largest size of long names and PAX records.
const EXTENSION_LIMIT: u64 = 1 << 20;
/// `PATH_MAX` of Linux.
const PATH_LIMIT: usize = 4096;
/// Fields of a header.
const NAME: std::ops::Range<usize> = 0..100;
const TYPE: usize = 156;
const PREFIX: std::ops::Range<usize> = 345..500;
const STAR_PREFIX: std::ops::Range<usize> = 345..476;

/// Names from header extensions that precede the header they belong to.
#[derive(Default)]
pub(crate) struct Names {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    /// Whether there were PAX records: of several blocks, Go uses only the last.
    pax: bool,
}

impl Names {
    /// Consumes the entry of `header` if it is a header extension of the next one; returns whether it was.
    pub(crate) fn take(&mut self, header: &tar::Header, data: &mut impl Read) -> Result<bool> {
        match header.entry_type() {
            EntryType::GNULongName => once(&mut self.path, until_nul(&extension(header, data)?))?,
            EntryType::GNULongLink => once(&mut self.link, until_nul(&extension(header, data)?))?,
            EntryType::XHeader => self.pax(&extension(header, data)?)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn pax(&mut self, data: &[u8]) -> Result<()> {
        if std::mem::replace(&mut self.pax, true) {
            return Err(malformed("an entry has two blocks of PAX records"));
        }
        for record in PaxExtensions::new(data) {
            let record = record.map_err(malformed)?;
            match record.key_bytes() {
                b"path" => once(&mut self.path, record.value_bytes().to_vec())?,
                b"linkpath" => once(&mut self.link, record.value_bytes().to_vec())?,
                b"size" => {
                    let size = record.value().ok().and_then(|v| v.parse().ok());
                    self.size = Some(size.ok_or_else(|| malformed("a PAX size is not a number"))?);
                }
                key if key.starts_with(b"GNU.sparse.") => return Err(malformed("it contains a sparse file")),
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads a global header. Go treats it as an entry of its own and drops the extensions before it.
    fn global(&self, header: &tar::Header, data: &mut impl Read) -> Result<Item> {
        if self.pax || self.path.is_some() || self.link.is_some() {
            return Err(malformed("a global PAX header is between an entry and its names"));
        }
        for record in PaxExtensions::new(&extension(header, data)?) {
            let record = record.map_err(malformed)?;
            let key = record.key_bytes();
            if matches!(key, b"path" | b"linkpath" | b"size" | b"hdrcharset") || key.starts_with(b"GNU.sparse.") {
                return Err(malformed("a global PAX header changes the entries after it"));
            }
        }
        let path = plain(&header.path_bytes())?;
        Ok(Item { path, kind: ItemKind::Comment, mode: 0, absolute: false })
    }

    /// Returns the entry of `header`, with the names and the size of the extensions before it.
    pub(crate) fn item(&mut self, header: &tar::Header, data: &mut impl Read) -> Result<Item> {
        if header.entry_type() == EntryType::XGlobalHeader {
            return self.global(header, data);
        }
        let Self { path, link, size, .. } = std::mem::take(self);
        let written = path.map_or_else(|| stored_path(header), Ok)?;
        let path = plain(&written)?;
        let declared = size.map_or_else(|| header.entry_size().map_err(malformed), Ok)?;
        let link = link.or_else(|| header.link_name_bytes().map(|name| name.into_owned())).unwrap_or_default();
        let is_dir = written.ends_with(b"/");
        let kind = match kind(header.entry_type(), &path, &link, declared)? {
            // Before POSIX the type was NUL and a trailing slash marked a directory.
            ItemKind::File(_) if is_dir && header.as_bytes()[TYPE] == 0 => ItemKind::Dir,
            ItemKind::File(_) if is_dir => {
                return Err(malformed(format!("{path} is a file by type and a directory by name")));
            }
            kind => kind,
        };
        if path.is_empty() && kind != ItemKind::Dir {
            return Err(malformed("the root of the image is not a directory"));
        }
        let mode = header.mode().map_err(malformed)? & 0o7777;
        Ok(Item { path, kind, mode, absolute: written.starts_with(b"/") })
    }
}

/// Reads the data of a header extension.
fn extension(header: &tar::Header, data: &mut impl Read) -> Result<Vec<u8>> {
    let size = header.entry_size().map_err(malformed)?;
    if size > EXTENSION_LIMIT {
        return Err(malformed(format!("a header extension of {size} bytes (max {EXTENSION_LIMIT})")));
    }
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes).map_err(malformed)?;
    Ok(bytes)
}

fn kind(entry_type: EntryType, path: &str, link: &[u8], declared: u64) -> Result<ItemKind> {
    Ok(match entry_type {
        EntryType::Regular | EntryType::Continuous => ItemKind::File(declared),
        EntryType::Directory => ItemKind::Dir,
        EntryType::Symlink => match text(link)? {
            target if target.is_empty() => return Err(malformed(format!("the link {path} has no target"))),
            target => ItemKind::Symlink(target),
        },
        EntryType::Link => ItemKind::Hardlink(plain(link)?),
        EntryType::Char | EntryType::Block | EntryType::Fifo => ItemKind::Special,
        EntryType::GNUSparse => return Err(malformed("it contains a sparse file")),
        other => return Err(malformed(format!("{path} has the unknown type {:?}", char::from(other.as_byte())))),
    })
}

/// Sets `place` once: with several names, Go prefers GNU's to PAX's and ignores empty ones, other readers use the last.
fn once(place: &mut Option<Vec<u8>>, name: Vec<u8>) -> Result<()> {
    if name.is_empty() {
        return Err(malformed("a header extension has an empty name"));
    }
    match place.replace(name) {
        None => Ok(()),
        Some(_) => Err(malformed("an entry has two names from header extensions")),
    }
}

/// Returns the path in `header`. The prefix of star is shorter than that of ustar, and times follow it (`star(5)`). Go also finds a
/// prefix in malformed GNU headers and ignores ustar's version; such headers are rejected.
fn stored_path(header: &tar::Header) -> Result<Vec<u8>> {
    let bytes = header.as_bytes();
    let is_set = |field: &[u8]| field.iter().any(|byte| *byte != 0);
    if header.as_ustar().is_some() && bytes.ends_with(b"tar\0") {
        let (prefix, name) = (until_nul(&bytes[STAR_PREFIX]), until_nul(&bytes[NAME]));
        return Ok(if prefix.is_empty() { name } else { [&prefix[..], b"/", &name].concat() });
    }
    if is_set(&bytes[PREFIX]) && header.as_ustar().is_none() {
        return Err(malformed("a header that is not ustar has a name prefix"));
    }
    Ok(header.path_bytes().into_owned())
}

/// Returns `bytes` as a path below the root of the image, cleaned as Go's `filepath.Clean` does. An absolute path begins at that root;
/// one that leaves the root is rejected, because readers disagree about it.
fn plain(bytes: &[u8]) -> Result<String> {
    let path = text(bytes)?;
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_some() || path.starts_with('/') => {}
            ".." => return Err(malformed(format!("the path {path:?} leaves the image root"))),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn text(bytes: &[u8]) -> Result<String> {
    if bytes.len() > PATH_LIMIT {
        return Err(malformed(format!("a path of {} bytes (max {PATH_LIMIT})", bytes.len())));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| malformed(format!("the path {:?} is not UTF-8", String::from_utf8_lossy(bytes))))?;
    if text.contains('\0') {
        return Err(malformed(format!("the path {text:?} contains NUL")));
    }
    Ok(text.to_owned())
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}
