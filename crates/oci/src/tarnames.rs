//! What the headers of a tar say of an entry. Whatever Go's `archive/tar` (reader.go), with which containerd and Docker unpack,
//! would read as something else is refused: a layer could hide files from us otherwise.

use std::io::Read;

use common::Result;
use tar::{EntryType, PaxExtensions};

use crate::tarentry::{Item, ItemKind, broken, refused};

/// Long names and PAX records above this are an attack.
const EXTENSION_LIMIT: u64 = 1 << 20;
/// `PATH_MAX` of Linux.
const PATH_LIMIT: usize = 4096;

/// Names that came before the header they belong to.
#[derive(Default)]
pub(crate) struct Names {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    /// Whether PAX records came: of several blocks, Go takes the last alone.
    pax: bool,
}

impl Names {
    /// Takes `entry` when it only describes the next one.
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
            return Err(refused(format!("a header extension of {} bytes", entry.size())));
        }
        let mut data = Vec::new();
        entry.read_to_end(&mut data).map_err(|e| broken(&e))?;
        match kind {
            EntryType::GNULongName => once(&mut self.path, until_nul(&data))?,
            EntryType::GNULongLink => once(&mut self.link, until_nul(&data))?,
            EntryType::XHeader => self.pax(&data)?,
            // Global records of git and others are comments and the like, which nobody heeds.
            _ => self.global(&data)?,
        }
        Ok(true)
    }

    fn pax(&mut self, data: &[u8]) -> Result<()> {
        if std::mem::replace(&mut self.pax, true) {
            return Err(refused("an entry has two blocks of PAX records".to_owned()));
        }
        for record in PaxExtensions::new(data) {
            let record = record.map_err(|e| broken(&e))?;
            match record.key_bytes() {
                b"path" => once(&mut self.path, record.value_bytes().to_vec())?,
                b"linkpath" => once(&mut self.link, record.value_bytes().to_vec())?,
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

    /// Go makes an entry of its own of a global header, and forgets what came before it.
    fn global(&self, data: &[u8]) -> Result<()> {
        if self.pax || self.path.is_some() || self.link.is_some() {
            return Err(refused("a global PAX header stands between an entry and its names".to_owned()));
        }
        for record in PaxExtensions::new(data) {
            let record = record.map_err(|e| broken(&e))?;
            let key = record.key_bytes();
            if matches!(key, b"path" | b"linkpath" | b"size" | b"hdrcharset") || key.starts_with(b"GNU.sparse.") {
                return Err(refused("a global PAX header changes the entries behind it".to_owned()));
            }
        }
        Ok(())
    }

    /// The entry of `header`, under the names that came before it.
    pub(crate) fn item(&mut self, header: &tar::Header) -> Result<Item> {
        let Self { path, link, size, .. } = std::mem::take(self);
        check_format(header)?;
        let written = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let path = plain(&written)?;
        let declared = header.entry_size().map_err(|e| broken(&e))?;
        if size.is_some_and(|size| size != declared) {
            return Err(refused(format!("{path} has two sizes")));
        }
        let link = link.or_else(|| header.link_name_bytes().map(|name| name.into_owned())).unwrap_or_default();
        let kind = kind(header.entry_type(), &path, &link, declared)?;
        // A trailing slash made a directory before POSIX, and does so still for Go.
        if matches!(kind, ItemKind::File(_)) && written.ends_with(b"/") {
            return Err(refused(format!("{path} is a file by its type and a directory by its name")));
        }
        // Go goes on with the next header, and finds entries in what is skipped here.
        if declared != 0 && !matches!(kind, ItemKind::File(_)) {
            return Err(refused(format!("{path} is no file and declares {declared} bytes")));
        }
        if path.is_empty() && kind != ItemKind::Dir {
            return Err(refused("the root of the image is no directory".to_owned()));
        }
        let mode = header.mode().map_err(|e| broken(&e))? & 0o7777;
        Ok(Item { path, kind, mode })
    }
}

fn kind(entry_type: EntryType, path: &str, link: &[u8], declared: u64) -> Result<ItemKind> {
    Ok(match entry_type {
        EntryType::Regular | EntryType::Continuous => ItemKind::File(declared),
        EntryType::Directory => ItemKind::Dir,
        EntryType::Symlink => match text(link)? {
            target if target.is_empty() => return Err(refused(format!("the link {path} has no target"))),
            target => ItemKind::Symlink(target),
        },
        EntryType::Link => ItemKind::Hardlink(plain(link)?),
        EntryType::Char | EntryType::Block | EntryType::Fifo => ItemKind::Special,
        other => return Err(refused(format!("{path} is of the unknown type {:?}", char::from(other.as_byte())))),
    })
}

/// Sets `place`, which nothing may have set before: Go prefers GNU's names to PAX's, others the later ones, and passes over empty ones.
fn once(place: &mut Option<Vec<u8>>, name: Vec<u8>) -> Result<()> {
    if name.is_empty() {
        return Err(refused("a header extension holds an empty name".to_owned()));
    }
    match place.replace(name) {
        None => Ok(()),
        Some(_) => Err(refused("an entry has two names from header extensions".to_owned())),
    }
}

/// Only ustar has a prefix of the name in its header. Go finds one in headers of star and in broken ones of GNU, too, and does not look
/// at ustar's version.
fn check_format(header: &tar::Header) -> Result<()> {
    const PREFIX: std::ops::Range<usize> = 345..500;
    let bytes = header.as_bytes();
    let prefix = bytes[PREFIX].iter().any(|byte| *byte != 0);
    let star = bytes.ends_with(b"tar\0");
    if prefix && (star || header.as_ustar().is_none()) {
        return Err(refused("a header of another format than ustar has a prefix".to_owned()));
    }
    Ok(())
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
