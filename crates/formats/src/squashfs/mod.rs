//! Reads squashfs 4.0 images (kernel `Documentation/filesystems/squashfs.rst`, `fs/squashfs/squashfs_fs.h`) from memory.
//!
//! For untrusted images: no declared size is used before the bytes are read, directory loops are rejected, and the total work per image
//! is bounded. Extended attributes are not read.

mod directory;
mod metadata;

use std::cell::RefCell;
use std::rc::Rc;

use common::{Class, Error, Result};

use crate::compression::Compression;
use metadata::{Fields, Metadata, Position};

const MAGIC: &[u8] = b"hsqs";
const SUPERBLOCK: usize = 96;
/// Largest block size of the format, in bytes.
const BLOCK_MAX: u32 = 1 << 20;
/// Bit of a data block's length: the block is stored uncompressed.
const STORED: u32 = 1 << 24;
/// Entries in one block of the fragment table.
const FRAGMENTS_PER_BLOCK: u64 = 512;
/// Total size of all files of one image, in bytes: sparse files can declare any length for free.
const CONTENT_MAX: u64 = 8 << 30;
/// Marks a file without fragment: its tail has a block of its own.
const NO_FRAGMENT: u32 = u32::MAX;

/// The entry at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root, which is the empty path.
    pub path: String,
    /// File type.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u16,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Seconds since the epoch.
    pub mtime: u32,
}

/// Kind of an [`Entry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File(File),
    /// A directory.
    Dir,
    /// A symbolic link to this target.
    Symlink(String),
    /// A device, pipe or socket.
    Special,
}

/// Location of the bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Length in bytes.
    pub size: u64,
    start: u64,
    blocks: Vec<u32>,
    /// Number of the fragment and offset in it.
    fragment: Option<(u32, u32)>,
}

/// An open image: the tree has been read, files are decompressed on demand.
#[derive(Debug)]
pub struct Image<'a> {
    bytes: &'a [u8],
    block_size: u32,
    compression: Compression,
    fragments: u32,
    fragment_table: u64,
    entries: Vec<Entry>,
    /// Cache of the last decompressed fragment: small files share one.
    kept: RefCell<Option<(u32, Rc<[u8]>)>>,
}

pub(crate) fn bad(why: impl std::fmt::Display) -> Error {
    Error::new(Class::UntrustedData, "squashfs image is malformed").why(why)
}

impl<'a> Image<'a> {
    /// Whether `bytes` start with the magic number of squashfs.
    #[must_use]
    pub fn detect(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    /// Reads the superblock and the whole tree.
    pub fn open(bytes: &'a [u8]) -> Result<Self> {
        Self::within(bytes, &mut { usize::MAX })
    }

    /// As [`Image::open`]; the entries read are subtracted from `members`, also after an error.
    pub fn within(bytes: &'a [u8], members: &mut usize) -> Result<Self> {
        if !Self::detect(bytes) || bytes.len() < SUPERBLOCK {
            return Err(bad("the superblock is missing"));
        }
        let mut fields = Fields(&bytes[4..SUPERBLOCK]);
        let (inodes, _mtime, block_size, fragments) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let (compressor, log, _flags, ids) = (fields.u16()?, fields.u16()?, fields.u16()?, fields.u16()?);
        let version = (fields.u16()?, fields.u16()?);
        let (root, used) = (fields.u64()?, fields.u64()?);
        let (id_table, _xattrs) = (fields.u64()?, fields.u64()?);
        let (inode_table, directory_table, fragment_table) = (fields.u64()?, fields.u64()?, fields.u64()?);
        if version != (4, 0) {
            return Err(bad(format!("version {}.{}, expected 4.0", version.0, version.1)));
        }
        if !(4096..=BLOCK_MAX).contains(&block_size) || block_size.checked_ilog2() != Some(log.into()) {
            return Err(bad(format!("invalid block size {block_size}")));
        }
        if used > bytes.len() as u64 {
            return Err(bad(format!("truncated: {used} bytes expected, got {}", bytes.len())));
        }
        let compression = match compressor {
            1 => Compression::Zlib,
            2 => Compression::Lzma,
            3 => return Err(bad(crate::compression::not_supported("lzo"))),
            4 => Compression::Xz,
            5 => Compression::Lz4Block,
            6 => Compression::Zstd,
            other => return Err(bad(format!("unknown compressor {other}"))),
        };
        let metadata = Metadata::new(bytes, compression);
        let owners = owners(&metadata, id_table, ids)?;
        let tree = directory::Tables { metadata: &metadata, inodes: inode_table, directories: directory_table, owners };
        let entries = tree.walk(root, inodes, block_size, members)?;
        Ok(Self { bytes, block_size, compression, fragments, fragment_table, entries, kept: RefCell::default() })
    }

    /// Returns all entries but the root; a directory comes before its children.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Passes the content of `file` to `sink`, block by block.
    pub fn read(&self, file: &File, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut at = file.start;
        let mut left = file.size;
        for &length in &file.blocks {
            let expected = left.min(u64::from(self.block_size));
            left -= expected;
            if length == 0 {
                // A hole of a sparse file.
                sink(&vec![0; expected as usize])?;
                continue;
            }
            let block = self.block(at, length, expected)?;
            if block.len() as u64 != expected {
                return Err(bad(format!("a block of {} bytes, expected {expected}", block.len())));
            }
            sink(&block)?;
            at += u64::from(length & !STORED);
        }
        if let Some((number, offset)) = file.fragment {
            let fragment = self.fragment(number)?;
            let end = u64::from(offset) + left;
            let tail = usize::try_from(end).ok().and_then(|end| fragment.get(offset as usize..end));
            sink(tail.ok_or_else(|| bad("the tail of a file is outside its fragment"))?)?;
        }
        Ok(())
    }

    /// Returns the content of `file`; one longer than `max` bytes is an error.
    pub fn content(&self, file: &File, max: u64) -> Result<Vec<u8>> {
        if file.size > max {
            return Err(bad(format!("a file of {} bytes (max {max})", file.size)));
        }
        let mut out = Vec::new();
        self.read(file, &mut |block| {
            out.extend_from_slice(block);
            Ok(())
        })?;
        Ok(out)
    }

    /// Returns the bytes to decompress for `file`: its own, and a block when its fragment is not cached.
    #[must_use]
    pub fn cost(&self, file: &File) -> u64 {
        let is_kept = |number| self.kept.borrow().as_ref().is_some_and(|(kept, _)| *kept == number);
        let fragment = file.fragment.map_or(0, |(number, _)| if is_kept(number) { 0 } else { self.block_size.into() });
        file.size.saturating_add(fragment)
    }

    fn fragment(&self, number: u32) -> Result<Rc<[u8]>> {
        if let Some((_, content)) = self.kept.borrow().as_ref().filter(|(kept, _)| *kept == number) {
            return Ok(Rc::clone(content));
        }
        if number >= self.fragments {
            return Err(bad(format!("fragment {number}, but there are only {}", self.fragments)));
        }
        let (block, row) = (u64::from(number) / FRAGMENTS_PER_BLOCK, u64::from(number) % FRAGMENTS_PER_BLOCK);
        let metadata = Metadata::new(self.bytes, self.compression);
        let at = metadata.pointer(self.fragment_table, block)?;
        let row = metadata.read(&mut Position { at, offset: row as usize * 16 }, 16)?;
        let mut fields = Fields(&row);
        let (start, length) = (fields.u64()?, fields.u32()?);
        let content: Rc<[u8]> = self.block(start, length, self.block_size.into())?.into();
        *self.kept.borrow_mut() = Some((number, Rc::clone(&content)));
        Ok(content)
    }

    /// Reads the block of `length` bytes at `at`, decompressed to at most `max` bytes.
    fn block(&self, at: u64, length: u32, max: u64) -> Result<Vec<u8>> {
        let stored = length & !STORED;
        if stored > self.block_size {
            return Err(bad("a block is longer than the block size"));
        }
        let end = at.checked_add(u64::from(stored)).and_then(|end| usize::try_from(end).ok());
        let bytes = end.and_then(|end| self.bytes.get(at as usize..end)).ok_or_else(|| bad("a block is truncated"))?;
        if length & STORED != 0 {
            return Ok(bytes.to_vec());
        }
        self.compression.decompress(bytes, max)
    }
}

/// Reads the ID table, which the owners in inodes are indexes into.
fn owners(metadata: &Metadata<'_>, table: u64, count: u16) -> Result<Vec<u32>> {
    const PER_BLOCK: usize = 2048;
    let mut owners = Vec::new();
    let count = usize::from(count);
    for block in 0..count.div_ceil(PER_BLOCK) {
        let rows = (count - block * PER_BLOCK).min(PER_BLOCK);
        let at = metadata.pointer(table, block as u64)?;
        let bytes = metadata.read(&mut Position { at, offset: 0 }, rows * 4)?;
        let mut fields = Fields(&bytes);
        for _ in 0..rows {
            owners.push(fields.u32()?);
        }
    }
    Ok(owners)
}
