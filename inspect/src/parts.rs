//! Takes one file apart: sections of programs, members of archives, what is inside a compressed stream.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use common::{Class, Error, Result};
use imager::cpio;
use imager::pe::Pe;

use crate::squashfs::{self, Kind};
use crate::unfold::Compression;
use crate::{FILE_MAX, bzimage, elf, signature};

/// As many members as an OCI layer may have.
const MEMBERS_MAX: usize = 200_000;

/// The formats that are taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A kernel with its setup header.
    BzImage,
    /// A program for UEFI: a unified kernel image, a boot loader.
    Pe,
    /// A program or object for Linux.
    Elf,
    /// A kernel module with its signature.
    SignedModule,
    /// One cpio archive.
    Cpio,
    /// Several archives or streams, one after the other.
    Initramfs,
    /// One compressed stream.
    Stream(Compression),
    /// A squashfs image.
    Squashfs,
}

/// One member of a file.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its name, once in a file.
    pub name: String,
    /// What there is to say of it beside its content: mode, owner, time, link target. Empty for sections.
    pub facts: String,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    /// These bytes of the file.
    Here(Range<usize>),
    /// What the file unfolds to.
    Unfolded(Vec<u8>),
    /// Blocks of a squashfs image.
    Blocks(squashfs::File),
}

impl Part {
    fn here(name: impl Into<String>, range: Range<usize>) -> Self {
        Self { name: name.into(), facts: String::new(), body: Body::Here(range) }
    }

    /// Whether it has content of its own, unlike directories, links and empty files.
    #[must_use]
    pub fn is_file(&self) -> bool {
        !matches!(&self.body, Body::Here(range) if range.is_empty())
    }

    /// Bytes of content.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.body {
            Body::Here(range) => range.len() as u64,
            Body::Unfolded(bytes) => bytes.len() as u64,
            Body::Blocks(file) => file.size,
        }
    }

    /// Where it lies in the file, where that is known.
    #[must_use]
    pub fn range(&self) -> Option<Range<usize>> {
        match &self.body {
            Body::Here(range) => Some(range.clone()),
            _ => None,
        }
    }
}

/// A file, taken apart. Every byte of it lies in a part or in what holds the parts together.
#[derive(Debug)]
pub struct Parts<'a> {
    /// What it is.
    pub format: Format,
    /// Its members in the order of the file.
    pub members: Vec<Part>,
    bytes: &'a [u8],
    squashfs: Option<squashfs::Image<'a>>,
    max: u64,
}

impl<'a> Parts<'a> {
    /// Takes `bytes` apart; `None` for what is of no known format, damaged, or unfolds to more than [`FILE_MAX`].
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        Self::within(bytes, FILE_MAX)
    }

    /// As [`Parts::of`], with a limit of `max` bytes: whoever opens parts of parts divides it among them, so that archives in archives
    /// do not come to more than one.
    #[must_use]
    pub fn within(bytes: &'a [u8], max: u64) -> Option<Self> {
        let new = |format, members| Some(Self { format, members: numbered(members), bytes, squashfs: None, max });
        if bytes.starts_with(b"\x7fELF") {
            if let Some((module, message)) = signature::split(bytes) {
                return new(Format::SignedModule, vec![Part::here("module", module), Part::here("signature", message)]);
            }
            return new(Format::Elf, elf::sections(bytes)?.into_iter().map(|s| Part::here(s.name, s.range)).collect());
        }
        if let Some(payload) = bzimage::payload(bytes) {
            return new(Format::BzImage, vec![Part::here("payload", payload)]);
        }
        if bytes.starts_with(b"MZ") {
            return new(Format::Pe, pe(bytes)?);
        }
        if squashfs::Image::detect(bytes) {
            let image = squashfs::Image::open(bytes).ok()?;
            let members = image.entries().iter().map(inode).collect();
            return Some(Self { format: Format::Squashfs, members, bytes, squashfs: Some(image), max });
        }
        let (format, members) = sequence(bytes, max)?;
        new(format, members)
    }

    /// What `part` holds.
    ///
    /// # Errors
    /// [`Class::BadInput`] when it is damaged, or larger than the limit.
    pub fn content<'b>(&'b self, part: &'b Part) -> Result<Cow<'b, [u8]>> {
        match (&part.body, &self.squashfs) {
            (Body::Here(range), _) => Ok(Cow::Borrowed(self.bytes.get(range.clone()).unwrap_or_default())),
            (Body::Unfolded(bytes), _) => Ok(Cow::Borrowed(bytes)),
            (Body::Blocks(file), Some(image)) => image.content(file, self.max).map(Cow::Owned),
            (Body::Blocks(_), None) => Err(Error::new(Class::BadInput, "a file of another image").file(&part.name)),
        }
    }

    /// Names what the byte at `offset`, which is in no part, is for.
    #[must_use]
    pub fn outside(&self, offset: usize) -> String {
        let after = self.members.iter().filter_map(|p| Some((p.range()?, &p.name))).find(|(r, _)| r.start > offset);
        match (self.format, after) {
            (Format::Cpio | Format::Initramfs, Some((_, name))) => format!("header of {name}"),
            (Format::Cpio | Format::Initramfs, None) => "the end of the archive".to_owned(),
            (Format::Stream(compression), _) => format!("the {} form of equal content", compression.name()),
            (Format::Squashfs, _) => "the tables of the squashfs image".to_owned(),
            (Format::SignedModule, _) => "the trailer behind the signature".to_owned(),
            (Format::BzImage, Some(_)) => "the setup code before the payload".to_owned(),
            (Format::BzImage, None) => "what follows the payload".to_owned(),
            (Format::Pe | Format::Elf, Some((_, name))) => format!("headers or padding before {name}"),
            (Format::Pe, None) => "what follows the sections, such as a signature".to_owned(),
            (Format::Elf, None) => "the section table".to_owned(),
        }
    }

    /// What its members are called.
    #[must_use]
    pub const fn member_kind(&self) -> &'static str {
        match self.format {
            Format::BzImage | Format::Pe | Format::Elf => "section",
            Format::SignedModule | Format::Initramfs => "part",
            Format::Cpio => "member",
            Format::Stream(_) => "inside",
            Format::Squashfs => "file",
        }
    }
}

fn pe(bytes: &[u8]) -> Option<Vec<Part>> {
    let pe = Pe::parse(bytes).ok()?;
    let part = |section: &imager::pe::Section| {
        let start = section.raw_offset as usize;
        // The file's padding is none of the section's content.
        let length = section.raw_size.min(section.virtual_size) as usize;
        (length > 0).then(|| Part::here(&section.name, start..start + length))
    };
    let mut parts: Vec<_> = pe.sections().iter().filter_map(part).collect();
    parts.sort_by_key(|part| part.range().map(|range| range.start));
    Some(parts)
}

fn inode(entry: &squashfs::Entry) -> Part {
    let squashfs::Entry { path, kind, mode, owner, mtime } = entry;
    let (kind, body) = match kind {
        Kind::File(file) => (String::new(), Body::Blocks(file.clone())),
        Kind::Dir => ("directory, ".to_owned(), Body::Here(0..0)),
        Kind::Symlink(target) => (format!("link to {target}, "), Body::Here(0..0)),
        Kind::Special => ("device, pipe or socket, ".to_owned(), Body::Here(0..0)),
    };
    let facts = format!("{kind}mode {mode:04o}, owner {}:{}, time {mtime}", owner.0, owner.1);
    Part { name: path.clone(), facts, body }
}

/// Archives and streams, one after the other, with zeros between (kernel `init/initramfs.c`).
fn sequence(bytes: &[u8], max: u64) -> Option<(Format, Vec<Part>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(skip) = bytes.get(at..)?.iter().position(|&byte| byte != 0) {
        let start = at + skip;
        let rest = &bytes[start..];
        let element = match Compression::detect(rest) {
            Some(compression) => compression.unfold_first(rest, max).ok().map(|(_, read)| (Some(compression), read)),
            None => cpio::read(rest).ok().map(|(_, read)| (None, read)),
        };
        let Some((compression, read)) = element.filter(|(_, read)| *read > 0) else { break };
        found.push((start..start + read, compression));
        if found.len() > MEMBERS_MAX {
            return None;
        }
        at = start + read;
    }
    match found.as_slice() {
        [] => None,
        [(range, None)] if range.start == 0 => Some((Format::Cpio, members(&bytes[range.clone()])?)),
        [(range, Some(compression))] if range.start == 0 => {
            let unfolded = compression.unfold(bytes, max).ok()?;
            let part = Part { name: "content".to_owned(), facts: String::new(), body: Body::Unfolded(unfolded) };
            Some((Format::Stream(*compression), vec![part]))
        }
        many => {
            let name = |(at, compression): (usize, &Option<Compression>)| {
                format!("{at} ({})", compression.map_or("plain cpio", Compression::name))
            };
            let part = |(at, (range, compression)): (usize, &(Range<usize>, Option<Compression>))| {
                Part::here(name((at, compression)), range.clone())
            };
            Some((Format::Initramfs, many.iter().enumerate().map(part).collect()))
        }
    }
}

fn members(archive: &[u8]) -> Option<Vec<Part>> {
    let (members, _) = cpio::read(archive).ok()?;
    let part = |member: &cpio::Member<'_>| {
        // The content is borrowed from the archive, so its place is a difference of addresses.
        let start = (member.content.as_ptr() as usize).wrapping_sub(archive.as_ptr() as usize);
        let end =
            start.checked_add(member.content.len()).filter(|end| *end <= archive.len() && !member.content.is_empty());
        let cpio::Member { path, mode, uid, gid, mtime, .. } = member;
        let facts = format!("mode {mode:06o}, owner {uid}:{gid}, time {mtime}");
        Part { name: (*path).to_owned(), facts, body: Body::Here(end.map_or(0..0, |end| start..end)) }
    };
    Some(members.iter().map(part).collect())
}

/// Those that share a name get a number.
fn numbered(mut members: Vec<Part>) -> Vec<Part> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for part in &mut members {
        let times = seen.entry(part.name.clone()).or_default();
        *times += 1;
        if *times > 1 {
            part.name = format!("{}#{times}", part.name);
        }
    }
    members
}
