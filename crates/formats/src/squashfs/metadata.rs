//! Reads metadata blocks: tables and inodes are split into length-prefixed blocks of at most 8 KiB.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use common::Result;

use super::bad;
use crate::compression::Compression;

/// Decompressed size of a block.
const BLOCK_MAX: usize = 8192;
/// Bit of a block's length: the block is stored uncompressed.
const STORED: u16 = 1 << 15;
/// Cached decompressed blocks: 32 MiB.
const KEPT: usize = 4096;

/// Reads consecutive little-endian numbers.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| bad("a field is truncated"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn u16(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from(self.u16()?) | u32::from(self.u16()?) << 16)
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from(self.u32()?) | u64::from(self.u32()?) << 32)
    }
}

/// A position in metadata. What begins there may continue in the blocks after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// Offset of a block in the image.
    pub at: u64,
    /// Offset in that block once decompressed.
    pub offset: usize,
}

/// Content of a block, and offset of the next one.
type Block = (Rc<[u8]>, u64);

/// Decompresses blocks on demand and caches them.
#[derive(Debug)]
pub(super) struct Metadata<'a> {
    bytes: &'a [u8],
    compression: Compression,
    /// Cache by offset in the image.
    kept: RefCell<BTreeMap<u64, Block>>,
}

impl<'a> Metadata<'a> {
    pub fn new(bytes: &'a [u8], compression: Compression) -> Self {
        Self { bytes, compression, kept: RefCell::default() }
    }

    /// Reads `length` bytes at `position`, across as many blocks as needed, and moves it behind them.
    pub fn read(&self, position: &mut Position, length: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < length {
            let (block, next) = self.block(position.at)?;
            let rest = block.get(position.offset..).ok_or_else(|| bad("metadata is truncated"))?;
            if rest.is_empty() {
                *position = Position { at: next, offset: 0 };
                continue;
            }
            let taken = rest.len().min(length - out.len());
            out.extend_from_slice(&rest[..taken]);
            position.offset += taken;
        }
        Ok(out)
    }

    /// Returns entry `index` of the pointer list at `table`.
    pub fn pointer(&self, table: u64, index: u64) -> Result<u64> {
        let at = table.checked_add(index * 8).and_then(|at| usize::try_from(at).ok());
        Fields(at.and_then(|at| self.bytes.get(at..)).ok_or_else(|| bad("a table is outside the image"))?).u64()
    }

    fn block(&self, at: u64) -> Result<Block> {
        let mut kept = self.kept.borrow_mut();
        if let Some((block, next)) = kept.get(&at) {
            return Ok((Rc::clone(block), *next));
        }
        let outside = || bad("a metadata block is outside the image");
        let mut fields = Fields(usize::try_from(at).ok().and_then(|at| self.bytes.get(at..)).ok_or_else(outside)?);
        let header = fields.u16()?;
        let length = usize::from(header & !STORED);
        if length == 0 || length > BLOCK_MAX {
            return Err(bad(format!("a metadata block of {length} bytes")));
        }
        let stored = fields.take(length)?;
        let block: Rc<[u8]> = match header & STORED {
            0 => self.compression.decompress(stored, BLOCK_MAX as u64)?.into(),
            _ => stored.into(),
        };
        if block.is_empty() {
            return Err(bad("an empty metadata block"));
        }
        let next = at + 2 + length as u64;
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(at, (Rc::clone(&block), next));
        Ok((block, next))
    }
}
