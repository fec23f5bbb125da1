//! Parses the headers of a tar. Headers that Go's `archive/tar` (reader.go), which containerd and Docker use, would read differently
//! are rejected: a layer could hide files from us otherwise.

use std::io::Read;

use common::Result;
use tar::{EntryType, PaxExtensions};

use crate::tarentry::{Item, ItemKind, malformed};

/// Largest size of long names and PAX records.
const EXTENSION_LIMIT: u64 = 1 << 20;
/// `PATH_MAX` of Linux.
const PATH_LIMIT: usize = 4096;

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
    /// Consumes `entry` if it is a header extension of the next one.
    pub(crate) fn take(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<bool> {
        let kind = entry.header().entry_type();
        let extension = matches!(
            kind,
            EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader
        );
        if !extension {
            return Ok(false);
        }
        if entry.size() > EXTENSION_LIMIT {
            return Err(malformed(format!("a header extension of {} bytes (max {EXTENSION_LIMIT})", entry.size())));
        }
        let mut data = Vec::new();
        entry.read_to_end(&mut data).map_err(malformed)?;
        match kind {
            EntryType::GNULongName => once(&mut self.path, until_nul(&data))?,
            EntryType::GNULongLink => once(&mut self.link, until_nul(&data))?,
            EntryType::XHeader => self.pax(&data)?,
            // Global records, such as git's, hold comments, which have no effect.
            _ => self.global(&data)?,
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

    /// Go treats a global header as an entry of its own and drops the extensions before it.
    fn global(&self, data: &[u8]) -> Result<()> {
        if self.pax || self.path.is_some() || self.link.is_some() {
            return Err(malformed("a global PAX header is between an entry and its names"));
        }
        for record in PaxExtensions::new(data) {
            let record = record.map_err(malformed)?;
            let key = record.key_bytes();
            if matches!(key, b"path" | b"linkpath" | b"size" | b"hdrcharset") || key.starts_with(b"GNU.sparse.") {
                return Err(malformed("a global PAX header changes the entries after it"));
            }
        }
        Ok(())
    }

    /// Returns the entry of `header`, with the names of the extensions before it.
    pub(crate) fn item(&mut self, header: &tar::Header) -> Result<Item> {
        let Self { path, link, size, .. } = std::mem::take(self);
        check_format(header)?;
        let written = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let path = plain(&written)?;
        let declared = header.entry_size().map_err(malformed)?;
        if size.is_some_and(|size| size != declared) {
            return Err(malformed(format!("{path} has two different sizes")));
        }
        let link = link.or_else(|| header.link_name_bytes().map(|name| name.into_owned())).unwrap_or_default();
        let kind = kind(header.entry_type(), &path, &link, declared)?;
        // A trailing slash marked a directory before POSIX, and still does for Go.
        if matches!(kind, ItemKind::File(_)) && written.ends_with(b"/") {
            return Err(malformed(format!("{path} is a file by type and a directory by name")));
        }
        // Go continues with the next header and would find entries in the data that is skipped here.
        if declared != 0 && !matches!(kind, ItemKind::File(_)) {
            return Err(malformed(format!("{path} is not a file but declares {declared} bytes")));
        }
        if path.is_empty() && kind != ItemKind::Dir {
            return Err(malformed("the root of the image is not a directory"));
        }
        let mode = header.mode().map_err(malformed)? & 0o7777;
        Ok(Item { path, kind, mode })
    }
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

/// Only ustar headers have a name prefix. Go also finds one in headers of star and in malformed GNU headers, and ignores ustar's version.
fn check_format(header: &tar::Header) -> Result<()> {
    const PREFIX: std::ops::Range<usize> = 345..500;
    let bytes = header.as_bytes();
    let prefix = bytes[PREFIX].iter().any(|byte| *byte != 0);
    let star = bytes.ends_with(b"tar\0");
    if prefix && (star || header.as_ustar().is_none()) {
        return Err(malformed("a header that is not ustar has a name prefix"));
    }
    Ok(())
}

/// Returns `bytes` as a relative path without empty parts and `.`; absolute paths and `..` are rejected.
fn plain(bytes: &[u8]) -> Result<String> {
    let path = text(bytes)?;
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(malformed(format!("the path {path:?} leaves the image root")));
    }
    Ok(path.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/"))
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
