//! Deterministic tar+gzip layers: the same map and time always give the same bytes.
//!
//! ustar headers (POSIX.1-1988) with owner 0:0, no names of users, no device numbers; PAX records (POSIX.1-2001) only for what ustar
//! cannot store: long paths, long link targets, extended attributes. The gzip header carries no time and no name.
//! The gzip stream depends on the compressor (zlib-rs, level 6): after its upgrade, compare diff IDs, not digests.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write};

use common::digest::Hasher;
use common::{Class, Error, Result, Sha256};
use flate2::{Compression, GzBuilder, write::GzEncoder};
use tar::{EntryType, Header};

use crate::filemap::{Entry, FileMap, Source};
use crate::types::{self, Descriptor, MediaType};

/// Higher levels gain little: the large files are compressed already.
const LEVEL: u32 = 6;

/// A layer stored in a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Media type, digest and size of the stored blob.
    pub descriptor: Descriptor,
    /// Digest of the uncompressed tar (image-spec, config.md, `diff_ids`).
    pub diff_id: Sha256,
}

/// Writes a layer of `files` to `sink`; every entry has the modification time `mtime` (seconds since the epoch).
///
/// Memory is bounded: files of the host are streamed.
pub fn write(files: &FileMap, mtime: u64, sink: impl Write) -> Result<Layer> {
    let gzip = GzBuilder::new().mtime(0).operating_system(255).write(Tee::new(sink), Compression::new(LEVEL));
    let mut tar = tar::Builder::new(Tee::new(gzip));
    for (path, entry) in files.iter() {
        append(&mut tar, path, entry, mtime).map_err(|e| failed(path, entry, &e))?;
    }
    finish(tar).map_err(|e| Error::new(Class::Infrastructure, "cannot finish a layer").why(e))
}

fn finish<W: Write>(tar: tar::Builder<Tee<GzEncoder<Tee<W>>>>) -> io::Result<Layer> {
    let tee = tar.into_inner()?;
    let (diff_id, _) = tee.hasher.finish();
    let mut compressed = tee.inner.finish()?;
    compressed.flush()?;
    let (digest, size) = compressed.hasher.finish();
    Ok(Layer { descriptor: types::descriptor(MediaType::ImageLayerGzip, digest, size), diff_id })
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &str, entry: &Entry, mtime: u64) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.set_mtime(mtime);
    match entry {
        Entry::Dir { mode } => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(*mode);
            append_entry(tar, header, &format!("{path}/"), Pax::new(), io::empty())
        }
        Entry::Symlink { target } => {
            let mut pax = Pax::new();
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            if header.set_link_name_literal(target).is_err() {
                pax.insert("linkpath".to_owned(), target.as_bytes());
            }
            append_entry(tar, header, path, pax, io::empty())
        }
        Entry::File { source, mode, xattrs } => {
            let pax = xattrs.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.as_slice())).collect();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(*mode);
            match source {
                Source::Bytes(bytes) => {
                    header.set_size(bytes.len() as u64);
                    append_entry(tar, header, path, pax, bytes.as_slice())
                }
                Source::Host(host) => append_host(tar, header, path, pax, host),
            }
        }
    }
}

fn append_host<W: Write>(
    tar: &mut tar::Builder<W>,
    mut header: Header,
    path: &str,
    pax: Pax<'_>,
    host: &std::path::Path,
) -> io::Result<()> {
    let file = std::fs::File::open(host)?;
    let size = file.metadata()?.len();
    header.set_size(size);
    let mut exact = file.take(size);
    append_entry(tar, header, path, pax, &mut exact)?;
    // A file that shrank would shift every later header, one that grew would be truncated.
    if exact.limit() != 0 || exact.into_inner().read(&mut [0])? != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file size changed while it was read"));
    }
    Ok(())
}

type Pax<'a> = BTreeMap<String, &'a [u8]>;

/// Appends the PAX records, the header with its path and checksum, and the data.
fn append_entry<'a, W: Write>(
    tar: &mut tar::Builder<W>,
    mut header: Header,
    path: &'a str,
    mut pax: Pax<'a>,
    data: impl io::Read,
) -> io::Result<()> {
    if header.set_path(path).is_err() {
        // Readers ignore the header's path then; keep it constant.
        header.set_path("long-path")?;
        pax.insert("path".to_owned(), path.as_bytes());
    }
    tar.append_pax_extensions(pax.iter().map(|(key, value)| (key.as_str(), *value)))?;
    header.set_cksum();
    tar.append(&header, data)
}

fn failed(path: &str, entry: &Entry, e: &io::Error) -> Error {
    let what = format!("cannot add {path} to a layer");
    match entry {
        Entry::File { source: Source::Host(host), .. } if e.kind() == io::ErrorKind::InvalidData => {
            Error::new(Class::BadInput, what).file(host).why(e)
        }
        Entry::File { source: Source::Host(host), .. } => Error::io(what, host, e),
        _ => Error::new(Class::Infrastructure, what).why(e),
    }
}

/// Forwards writes and hashes them.
struct Tee<W> {
    inner: W,
    hasher: Hasher,
}

impl<W> Tee<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::default() }
    }
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
