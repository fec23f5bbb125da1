//! The `newc` cpio format of the kernel's initramfs
//! (kernel `Documentation/driver-api/early-userspace/buffer-format.rst`, `init/initramfs.c`).
//!
//! The writer is deterministic: entries in byte order of their paths, owner 0:0, one modification time, inode numbers
//! counted from 1. The reader accepts what other tools write (`newc` and `crc`).

use std::collections::BTreeMap;

use common::path::is_plain;
use common::{Class, Error, Result};

const HEADER: usize = 110;
const TRAILER: &str = "TRAILER!!!";
/// `PATH_MAX`: the kernel skips members with longer names.
const NAME_MAX: usize = 4096;

/// File type bits of `c_mode`, as in stat(2).
const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// Builds an archive: paths relative to the root, each at most once.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    entries: BTreeMap<String, (u32, Vec<u8>)>,
}

impl Writer {
    /// Adds a regular file with permission bits `perm`; missing parents become directories of mode 0755.
    ///
    /// # Errors
    /// [`Class::BadInput`] for an invalid or duplicate path, or content of 4 GiB or more.
    pub fn file(&mut self, path: &str, perm: u32, content: Vec<u8>) -> Result<()> {
        self.insert(path, S_IFREG | (perm & 0o7777), content)
    }

    /// Adds a symbolic link to `target`.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        self.insert(path, S_IFLNK | 0o777, target.into())
    }

    fn insert(&mut self, path: &str, mode: u32, content: Vec<u8>) -> Result<()> {
        check_path(path)?;
        let bad =
            |why: &str| Err(Error::new(Class::BadInput, "cannot add a file to a cpio archive").file(path).why(why));
        if u32::try_from(content.len()).is_err() {
            return bad("the newc format is limited to 4 GiB per file");
        }
        for (at, _) in path.match_indices('/') {
            let parent = self.entries.entry(path[..at].to_owned()).or_insert((S_IFDIR | 0o755, Vec::new()));
            if parent.0 & S_IFMT != S_IFDIR {
                return bad("a parent of the path is not a directory");
            }
        }
        if self.entries.insert(path.to_owned(), (mode, content)).is_some() {
            return bad("the path already exists");
        }
        Ok(())
    }

    /// Returns the archive with its trailer, padded to 4 bytes. `mtime` is in seconds since the epoch.
    #[must_use]
    pub fn finish(self, mtime: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let mut inode = 0;
        for (path, (mode, content)) in self.entries {
            inode += 1;
            let links = if mode & S_IFMT == S_IFDIR { 2 } else { 1 };
            header(&mut out, [inode, mode, links, mtime], content.len(), &path);
            out.extend_from_slice(&content);
            pad4(&mut out);
        }
        header(&mut out, [0, 0, 1, 0], 0, TRAILER);
        out
    }
}

/// Appends header and name. `size` fits 32 bits: `Writer::insert` checks it.
fn header(out: &mut Vec<u8>, [inode, mode, links, mtime]: [u32; 4], size: usize, name: &str) {
    let fields =
        [inode as usize, mode as usize, 0, 0, links as usize, mtime as usize, size, 0, 0, 0, 0, name.len() + 1, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    pad4(out);
}

/// Pads with zeros to a multiple of four bytes, as the kernel requires before every header.
pub fn pad4(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

fn check_path(path: &str) -> Result<()> {
    if is_plain(path) && path.len() < NAME_MAX && path != TRAILER {
        return Ok(());
    }
    Err(Error::new(Class::BadInput, format!("invalid path {path:?} for a cpio archive"))
        .why("expected a relative path without empty parts, `.` and `..`"))
}

/// One member of a parsed archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Path without a leading `./` or `/`, as the kernel would unpack it.
    pub path: &'a str,
    /// Type and permission bits as in stat(2).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since the epoch.
    pub mtime: u32,
    /// Content of a file, target of a symbolic link.
    pub content: &'a [u8],
    /// Where the content begins in the archive.
    pub at: usize,
}

impl Member<'_> {
    /// Whether the member is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.mode & S_IFMT == S_IFREG
    }

    /// Whether the member is a symbolic link.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.mode & S_IFMT == S_IFLNK
    }

    /// Whether the member is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.mode & S_IFMT == S_IFDIR
    }
}

/// Whether `bytes` start with the magic number of an archive.
#[must_use]
pub fn detect(bytes: &[u8]) -> bool {
    [b"070701", b"070702"].iter().any(|magic| bytes.starts_with(*magic))
}

/// Reads one archive from the start of `bytes` up to its trailer; returns the members and the number of bytes read,
/// including the trailer's padding.
pub fn read(bytes: &[u8]) -> Result<(Vec<Member<'_>>, usize)> {
    let mut members = Vec::new();
    let mut at = 0;
    loop {
        let (member, next) = read_member(bytes, at)?;
        at = next;
        if member.path == TRAILER {
            return Ok((members, at.min(bytes.len())));
        }
        members.push(member);
    }
}

/// Reads the member at `at`; returns it and the offset of the next header.
fn read_member(bytes: &[u8], at: usize) -> Result<(Member<'_>, usize)> {
    let bad =
        |why: &str| Error::new(Class::UntrustedData, "cpio archive is malformed").why(format!("{why} at byte {at}"));
    let fields = read_fields(bytes.get(at..).unwrap_or_default()).ok_or_else(|| bad("no newc header"))?;
    let [_, mode, uid, gid, _, mtime, size, _, _, _, _, name_len, _] = fields;
    if name_len == 0 || name_len as usize > NAME_MAX {
        return Err(bad("invalid name length"));
    }
    let name_at = at + HEADER;
    let name = bytes.get(name_at..name_at + name_len as usize).ok_or_else(|| bad("truncated name"))?;
    let name = name
        .strip_suffix(b"\0")
        .filter(|name| !name.contains(&0))
        .ok_or_else(|| bad("name without terminating NUL"))?;
    let name = std::str::from_utf8(name).map_err(|_| bad("name is not UTF-8"))?;
    let body_at = (name_at + name_len as usize).next_multiple_of(4);
    let end = body_at.checked_add(size as usize).ok_or_else(|| bad("invalid size"))?;
    // The padding of the very last member may be missing; an empty body may then start past the end.
    let content = if size == 0 { &[][..] } else { bytes.get(body_at..end).ok_or_else(|| bad("truncated content"))? };
    let path = name.strip_prefix("./").unwrap_or(name).trim_start_matches('/');
    Ok((Member { path, mode, uid, gid, mtime, content, at: body_at }, end.next_multiple_of(4)))
}

/// The thirteen numbers of a header: magic, then eight hexadecimal digits each.
fn read_fields(bytes: &[u8]) -> Option<[u32; 13]> {
    let digits = bytes.strip_prefix(b"070701").or_else(|| bytes.strip_prefix(b"070702"))?.get(..HEADER - 6)?;
    let mut fields = [0; 13];
    for (field, digits) in fields.iter_mut().zip(digits.chunks_exact(8)) {
        for &digit in digits {
            *field = *field << 4 | char::from(digit).to_digit(16)?;
        }
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut writer = Writer::default();
        writer.file("usr/lib/firmware/a.bin", 0o644, b"12345".to_vec()).unwrap();
        writer.file("init", 0o755, Vec::new()).unwrap();
        writer.symlink("bin", "usr/bin").unwrap();
        writer.finish(1_700_000_000)
    }

    #[test]
    fn reads_back_what_it_wrote_in_order() {
        let bytes = sample();
        let (members, read) = read(&bytes).unwrap();
        assert_eq!(read, bytes.len());
        assert_eq!(read % 4, 0);
        let paths: Vec<_> = members.iter().map(|m| m.path).collect();
        assert_eq!(paths, ["bin", "init", "usr", "usr/lib", "usr/lib/firmware", "usr/lib/firmware/a.bin"]);
        let last = members.last().unwrap();
        assert_eq!((last.content, last.mode, last.mtime), (&b"12345"[..], 0o100_644, 1_700_000_000));
        assert!(last.is_file() && members[2].is_dir() && members.iter().all(|m| m.uid == 0 && m.gid == 0));
    }

    #[test]
    fn archive_is_reproducible() {
        let digest = common::Sha256::of(sample()).to_string();
        assert_eq!(digest, "f945c29b56224ea9d12b1e2ca11ec9bf34d9888cd12d74c9080b5fe106b09571");
    }

    #[test]
    fn rejects_invalid_and_duplicate_paths() {
        for bad in ["", "/etc", "a//b", "a/", "./a", "../a", "a/../b", "TRAILER!!!", "a\0b", &"x".repeat(5000)] {
            assert!(Writer::default().file(bad, 0o644, Vec::new()).is_err(), "{bad:?}");
        }
        let mut writer = Writer::default();
        writer.file("a", 0o644, Vec::new()).unwrap();
        assert!(writer.file("a", 0o644, Vec::new()).unwrap_err().to_string().contains("already"));
        assert!(writer.file("a/b", 0o644, Vec::new()).unwrap_err().to_string().contains("a parent"));
    }

    #[test]
    fn reports_the_offset_of_damage() {
        let bytes = sample();
        for cut in [0, 5, 109, 115, bytes.len() - 20] {
            let error = read(&bytes[..cut]).unwrap_err().to_string();
            assert!(error.contains("at byte"), "{cut}: {error}");
        }
        let mut other = bytes.clone();
        other[7] = b'g';
        assert!(read(&other).is_err());
        other[..6].copy_from_slice(b"070707");
        assert!(read(&other).is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(flips in proptest::collection::vec((0usize..700, 0u8..), 0..20), cut in 0usize..700) {
            let mut bytes = sample();
            for (at, value) in flips {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            let cut = cut.min(bytes.len());
            let _ = read(&bytes[..cut]);
        }
    }
}
