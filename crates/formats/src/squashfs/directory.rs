//! Reads inodes and directories: from the reference of the root to a list of paths.

use std::collections::BTreeSet;

use common::Result;

use super::metadata::{Fields, Metadata, Position};
use super::{CONTENT_MAX, Entry, File, Kind, NO_FRAGMENT, bad};

/// Largest number of entries, as for an OCI layer.
const ENTRIES_MAX: usize = 200_000;
/// Largest nesting of directories.
const DEPTH_MAX: usize = 128;
/// `PATH_MAX` of Linux.
const PATH_MAX: usize = 4096;
/// Bytes of one directory's listing: 200 000 names of usual length take half of it.
const LISTING_MAX: u32 = 16 << 20;
/// Bytes of paths and link targets in one image.
const TEXT_MAX: usize = 64 << 20;

/// Offsets of the tables.
pub(super) struct Tables<'a> {
    pub metadata: &'a Metadata<'a>,
    pub inodes: u64,
    pub directories: u64,
    pub owners: Vec<u32>,
}

/// Position of a directory's listing: block in the directory table, offset in it, length.
type Place = (u32, u16, u32);

/// A directory not read yet.
struct Listing {
    path: String,
    depth: usize,
    place: Place,
}

/// A parsed inode.
struct Inode {
    entry: Entry,
    listing: Option<Place>,
}

/// Remaining limits of one image.
struct Budget {
    entries: usize,
    content: u64,
    text: usize,
}

impl Tables<'_> {
    /// Returns every entry below the inode `root` and subtracts them from `members`; the superblock declares `inodes` of them.
    pub fn walk(&self, root: u64, inodes: u32, block_size: u32, members: &mut usize) -> Result<Vec<Entry>> {
        let most = ENTRIES_MAX.min(*members);
        let mut budget = Budget { entries: most, content: CONTENT_MAX, text: TEXT_MAX };
        let entries = self.below(root, inodes, block_size, &mut budget);
        *members -= most - budget.entries;
        entries
    }

    fn below(&self, root: u64, inodes: u32, block_size: u32, budget: &mut Budget) -> Result<Vec<Entry>> {
        let root = self.inode(root, String::new(), block_size, budget)?;
        let mut entries = Vec::new();
        let place = root.listing.ok_or_else(|| bad("the root is not a directory"))?;
        let mut open = vec![Listing { path: String::new(), depth: 0, place }];
        let mut seen = BTreeSet::from([(place.0, place.1)]);
        while let Some(dir) = open.pop() {
            if dir.depth > DEPTH_MAX {
                return Err(bad(format!("directories nested too deeply (max {DEPTH_MAX})")));
            }
            for (name, reference) in self.names(dir.place)? {
                let path = if dir.path.is_empty() { name } else { format!("{}/{name}", dir.path) };
                let inode = self.inode(reference, path.clone(), block_size, budget)?;
                if let Some(place) = inode.listing {
                    // Only empty directories share a position; any other duplicate is a loop.
                    if place.2 > 0 && !seen.insert((place.0, place.1)) {
                        return Err(bad(format!("directory {path} shares its listing with another one")));
                    }
                    open.push(Listing { path, depth: dir.depth + 1, place });
                }
                entries.push(inode.entry);
            }
        }
        if entries.len() as u64 + 1 < u64::from(inodes) {
            return Err(bad(format!(
                "the superblock declares {inodes} inodes, {} are in directories",
                entries.len() + 1
            )));
        }
        entries.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
        Ok(entries)
    }

    /// Returns the names in the directory at `place` with references to their inodes. Duplicates are rejected: the kernel would show one of them.
    fn names(&self, (block, offset, length): Place) -> Result<Vec<(String, u64)>> {
        if length > LISTING_MAX {
            return Err(bad(format!("a directory listing of {length} bytes (max {LISTING_MAX})")));
        }
        let at = self.directories.checked_add(block.into()).ok_or_else(|| bad("a directory is outside the image"))?;
        let bytes = self.metadata.read(&mut Position { at, offset: offset.into() }, length as usize)?;
        let mut fields = Fields(&bytes);
        let (mut names, mut seen) = (Vec::new(), BTreeSet::new());
        while !fields.0.is_empty() {
            let (count, inodes, _number) = (fields.u32()?, fields.u32()?, fields.u32()?);
            for _ in 0..=count {
                let (offset, _delta, _kind, length) = (fields.u16()?, fields.u16()?, fields.u16()?, fields.u16()?);
                let name = text(fields.take(usize::from(length) + 1)?)?;
                if name.contains('/') || !common::path::is_plain(&name) {
                    return Err(bad(format!("invalid name {name:?}")));
                }
                if names.len() >= ENTRIES_MAX {
                    return Err(bad("too many entries"));
                }
                if !seen.insert(name.clone()) {
                    return Err(bad(format!("duplicate name {name:?} in a directory")));
                }
                names.push((name, u64::from(inodes) << 16 | u64::from(offset)));
            }
        }
        Ok(names)
    }

    fn inode(&self, reference: u64, path: String, block_size: u32, budget: &mut Budget) -> Result<Inode> {
        let text_left = budget.text.checked_sub(path.len()).ok_or_else(|| bad("the paths are too long in total"))?;
        budget.text = text_left;
        budget.entries = budget.entries.checked_sub(1).ok_or_else(|| bad("too many entries"))?;
        if path.len() > PATH_MAX {
            return Err(bad("a path is too long"));
        }
        let (block, offset) = (reference >> 16, (reference & 0xffff) as usize);
        let at = self.inodes.checked_add(block).ok_or_else(|| bad("an inode is outside the image"))?;
        let mut position = Position { at, offset };
        let head = self.metadata.read(&mut position, 16)?;
        let mut fields = Fields(&head);
        let (kind, mode, user, group) = (fields.u16()?, fields.u16()?, fields.u16()?, fields.u16()?);
        let mtime = fields.u32()?;
        let owner =
            |at: u16| self.owners.get(usize::from(at)).copied().ok_or_else(|| bad("an inode has an unknown owner"));
        let owner = (owner(user)?, owner(group)?);
        let (kind, listing) = self.body(kind, position, block_size, budget)?;
        Ok(Inode { entry: Entry { path, kind, mode: mode & 0o7777, owner, mtime }, listing })
    }

    /// Parses the part of an inode that depends on its kind.
    fn body(
        &self,
        kind: u16,
        mut position: Position,
        block_size: u32,
        budget: &mut Budget,
    ) -> Result<(Kind, Option<Place>)> {
        // The length of a directory includes three bytes for `.` and `..`, which are not stored.
        let listing = |block, offset, length: u32| Ok((Kind::Dir, Some((block, offset, length.saturating_sub(3)))));
        let mut fixed = |length| self.metadata.read(&mut position, length);
        match kind {
            1 => {
                let bytes = fixed(16)?;
                let mut f = Fields(&bytes);
                let (block, _links, length, start) = (f.u32()?, f.u32()?, f.u16()?, f.u16()?);
                listing(block, start, length.into())
            }
            8 => {
                let bytes = fixed(24)?;
                let mut f = Fields(&bytes);
                let (_links, length, block, _parent) = (f.u32()?, f.u32()?, f.u32()?, f.u32()?);
                let (_indexes, start) = (f.u16()?, f.u16()?);
                listing(block, start, length)
            }
            2 | 9 => {
                let long = kind == 9;
                let head = fixed(if long { 40 } else { 16 })?;
                let mut f = Fields(&head);
                let start = if long { f.u64()? } else { f.u32()?.into() };
                let size = if long { f.u64()? } else { 0 };
                if long {
                    let (_sparse, _links) = (f.u64()?, f.u32()?);
                }
                let fragment = (f.u32()?, f.u32()?);
                let size = if long { size } else { f.u32()?.into() };
                let file = self.file(position, (start, size, fragment), block_size, budget)?;
                Ok((Kind::File(file), None))
            }
            3 | 10 => {
                let bytes = fixed(8)?;
                let mut f = Fields(&bytes);
                let (_links, length) = (f.u32()?, f.u32()? as usize);
                if length > PATH_MAX {
                    return Err(bad(format!("a link target of {length} bytes")));
                }
                budget.text =
                    budget.text.checked_sub(length).ok_or_else(|| bad("the link targets are too long in total"))?;
                Ok((Kind::Symlink(text(&self.metadata.read(&mut position, length)?)?), None))
            }
            4..=7 | 11..=14 => Ok((Kind::Special, None)),
            other => Err(bad(format!("unknown inode type {other}"))),
        }
    }

    fn file(
        &self,
        mut position: Position,
        (start, size, (fragment, inside)): (u64, u64, (u32, u32)),
        block_size: u32,
        budget: &mut Budget,
    ) -> Result<File> {
        let left = budget.content.checked_sub(size);
        budget.content = left.ok_or_else(|| bad(format!("the files have more than {CONTENT_MAX} bytes in total")))?;
        let whole = size / u64::from(block_size);
        let has_tail = size % u64::from(block_size) != 0;
        let blocks = if fragment == NO_FRAGMENT && has_tail { whole + 1 } else { whole };
        // At most 8 GiB of blocks of at least 4 KiB, four bytes each.
        let bytes = self.metadata.read(&mut position, blocks as usize * 4)?;
        let mut fields = Fields(&bytes);
        let lengths = (0..blocks).map(|_| fields.u32()).collect::<Result<Vec<_>>>()?;
        let fragment = (fragment != NO_FRAGMENT).then_some((fragment, inside));
        Ok(File { size, start, blocks: lengths, fragment })
    }
}

fn text(bytes: &[u8]) -> Result<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(bad(format!("invalid name {:?}", String::from_utf8_lossy(bytes)))),
    }
}
