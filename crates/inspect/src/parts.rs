//! Takes one file apart: sections of programs, members of archives, what is inside a compressed stream.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use common::{Class, Error, Result, Sha256};
use imager::cpio;
use imager::pe::Pe;

use crate::budget::Budget;
use crate::squashfs::{self, Kind};
use crate::unfold::Compression;
use crate::{FILE_MAX, bzimage, elf, signature};

/// Longer targets of links are told by their digest (`PATH_MAX` of Linux).
const TARGET_MAX: usize = 4096;
/// File type bits of a member's mode, as in stat(2), and two of the types.
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

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
    /// What there is to say of it beside content and time: mode, owner, link target. Empty for sections.
    pub attributes: String,
    /// Seconds since the epoch.
    time: Option<u32>,
    /// Bytes that the name ends with to be there once.
    added: usize,
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
    /// No content: a directory, a link, a device.
    None,
}

impl Part {
    fn here(name: impl Into<String>, range: Range<usize>) -> Self {
        Self { name: name.into(), attributes: String::new(), time: None, added: 0, body: Body::Here(range) }
    }

    /// Whether it has content of its own, unlike directories and links.
    #[must_use]
    pub fn is_file(&self) -> bool {
        !matches!(self.body, Body::None)
    }

    /// Its name as the file has it, where several may share one.
    #[must_use]
    pub fn original(&self) -> &str {
        &self.name[..self.name.len() - self.added]
    }

    /// All there is to say of it beside its content.
    #[must_use]
    pub fn facts(&self) -> String {
        self.time.map_or_else(String::new, |time| format!("{}, time {time}", self.attributes))
    }

    /// Where it lies in the file, where that is known.
    #[must_use]
    pub fn range(&self) -> Option<Range<usize>> {
        match &self.body {
            Body::Here(range) => Some(range.clone()),
            Body::None => Some(0..0),
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
    /// Where the part of an initramfs begins that cannot be read, and why: what follows it is in no member.
    pub unread: Option<(usize, Error)>,
    bytes: &'a [u8],
    squashfs: Option<squashfs::Image<'a>>,
}

impl<'a> Parts<'a> {
    /// Takes `bytes` apart; `None` for what is of no known format, damaged, or costs more than one image may.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        Self::within(bytes, &mut Budget::default())
    }

    /// As [`Parts::of`], drawn on `budget`: whoever opens parts of parts draws on it again.
    #[must_use]
    pub fn within(bytes: &'a [u8], budget: &mut Budget) -> Option<Self> {
        let new =
            |format, members| Some(Self { format, members: numbered(members), unread: None, bytes, squashfs: None });
        if bytes.starts_with(b"\x7fELF") {
            if let Some((module, message)) = signature::split(bytes) {
                return new(Format::SignedModule, vec![Part::here("module", module), Part::here("signature", message)]);
            }
            return new(Format::Elf, elf::sections(bytes)?.into_iter().map(|s| Part::here(s.name, s.range)).collect());
        }
        if squashfs::Image::detect(bytes) {
            let image = squashfs::Image::within(bytes, &mut budget.members).ok()?;
            let members = image.entries().iter().map(inode).collect();
            return Some(Self { format: Format::Squashfs, members, unread: None, bytes, squashfs: Some(image) });
        }
        // An archive may hold the marks of a kernel where a kernel has them; what it begins with decides.
        if let Some(payload) = bzimage::payload(bytes).filter(|_| !begins_archive(bytes)) {
            return new(Format::BzImage, vec![Part::here("payload", payload)]);
        }
        if bytes.starts_with(b"MZ") {
            return new(Format::Pe, pe(bytes)?);
        }
        let (format, members, unread) = sequence(bytes, budget)?;
        Some(Self { format, members: numbered(members), unread, bytes, squashfs: None })
    }

    /// What `part` holds; what has to be unfolded for it is drawn on `budget`.
    ///
    /// # Errors
    /// [`Class::BadInput`] when it is damaged, or larger than the limit.
    pub fn content<'b>(&'b self, part: &'b Part, budget: &mut Budget) -> Result<Cow<'b, [u8]>> {
        match (&part.body, &self.squashfs) {
            (Body::Here(range), _) => Ok(Cow::Borrowed(self.bytes.get(range.clone()).unwrap_or_default())),
            (Body::Unfolded(bytes), _) => Ok(Cow::Borrowed(bytes)),
            (Body::None, _) => Ok(Cow::Borrowed(&[])),
            (Body::Blocks(file), Some(image)) => {
                // What is refused for its own size takes nothing from the others.
                if file.size <= FILE_MAX {
                    budget.spend(image.cost(file))?;
                }
                image.content(file, FILE_MAX).map(Cow::Owned)
            }
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
        Kind::Dir => ("directory, ".to_owned(), Body::None),
        Kind::Symlink(target) => (format!("link to {target}, "), Body::None),
        Kind::Special => ("device, pipe or socket, ".to_owned(), Body::None),
    };
    let attributes = format!("{kind}mode {mode:04o}, owner {}:{}", owner.0, owner.1);
    Part { name: path.clone(), attributes, time: Some(*mtime), added: 0, body }
}

/// Whether the first byte that is not zero begins an archive or a compressed stream.
pub(crate) fn begins_archive(bytes: &[u8]) -> bool {
    let rest = next(bytes, 0).map_or(&[][..], |start| &bytes[start..]);
    rest.starts_with(b"07070") || Compression::detect(rest).is_some()
}

/// The first byte from `at` on that is not zero.
fn next(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..)?.iter().position(|&byte| byte != 0).map(|skip| at + skip)
}

/// An archive or stream of an initramfs.
struct Element {
    range: Range<usize>,
    /// With what a stream unfolds to.
    packed: Option<(Compression, Vec<u8>)>,
}

/// What a sequence is, its members, and where what cannot be read begins.
type Sequence = (Format, Vec<Part>, Option<(usize, Error)>);

/// Archives and streams, one after the other, with zeros between (kernel `init/initramfs.c`).
fn sequence(bytes: &[u8], budget: &mut Budget) -> Option<Sequence> {
    let (mut found, mut unread) = (Vec::<Element>::new(), None);
    while let Some(start) = next(bytes, found.last().map_or(0, |element| element.range.end)) {
        // What the earlier ones unfold to is needed only where there is but one.
        if let Some(Element { packed: Some((_, content)), .. }) = found.last_mut() {
            *content = Vec::new();
        }
        match element(bytes, start, budget) {
            Ok(element) => found.push(element),
            Err(e) => {
                unread = Some((start, e));
                break;
            }
        }
    }
    let (format, members) = parts(bytes, found, unread.is_none(), budget)?;
    Some((format, members, unread))
}

/// The archive or stream that begins at `start`.
fn element(bytes: &[u8], start: usize, budget: &mut Budget) -> Result<Element> {
    let bad = |why: &str| Error::new(Class::BadInput, "malformed initramfs").why(why);
    budget.enter("")?;
    let rest = &bytes[start..];
    let (packed, read) = match Compression::detect(rest) {
        Some(compression) => {
            let (content, read) = budget.unfold(compression, rest)?;
            (Some((compression, content)), read)
        }
        // The kernel takes it for no archive and stops.
        None if !start.is_multiple_of(4) => return Err(bad("a plain archive that is not aligned to four bytes")),
        None => (None, cpio::read(rest)?.1),
    };
    if read == 0 {
        return Err(bad("an archive of no length"));
    }
    Ok(Element { range: start..start + read, packed })
}

/// The elements as parts; one that stands alone is opened.
fn parts(bytes: &[u8], mut found: Vec<Element>, whole: bool, budget: &mut Budget) -> Option<(Format, Vec<Part>)> {
    let alone = matches!(found.as_slice(), [element] if element.range.start == 0);
    if alone && let Some(Element { range, packed }) = found.pop() {
        return match packed {
            None => Some((Format::Cpio, members(&bytes[range], budget).ok()?)),
            Some((compression, content)) if whole => {
                let body = Body::Unfolded(content);
                Some((Format::Stream(compression), vec![Part { body, ..Part::here("content", 0..0) }]))
            }
            Some(packed) => Some((Format::Initramfs, vec![piece((0, &Element { range, packed: Some(packed) }))])),
        };
    }
    (!found.is_empty()).then(|| (Format::Initramfs, found.iter().enumerate().map(piece).collect()))
}

fn piece((at, element): (usize, &Element)) -> Part {
    let kind = element.packed.as_ref().map_or("plain cpio", |(compression, _)| compression.name());
    Part::here(format!("{at} ({kind})"), element.range.clone())
}

fn members(archive: &[u8], budget: &mut Budget) -> Result<Vec<Part>> {
    let (members, _) = cpio::read(archive)?;
    let part = |member: &cpio::Member<'_>| {
        let cpio::Member { path, mode, uid, gid, mtime, content, .. } = member;
        budget.enter(path)?;
        let attributes = format!("{}mode {mode:06o}, owner {uid}:{gid}", link(*mode, content));
        let body = if mode & S_IFMT == S_IFREG { Body::Here(place(archive, content)) } else { Body::None };
        Ok(Part { name: (*path).to_owned(), attributes, time: Some(*mtime), added: 0, body })
    };
    members.iter().map(part).collect()
}

/// Where in `archive` the slice `content` of it lies.
fn place(archive: &[u8], content: &[u8]) -> Range<usize> {
    let start = (content.as_ptr() as usize).wrapping_sub(archive.as_ptr() as usize);
    let end = start.checked_add(content.len()).filter(|end| *end <= archive.len() && !content.is_empty());
    end.map_or(0..0, |end| start..end)
}

/// What a symbolic link points at, which is its content.
fn link(mode: u32, content: &[u8]) -> String {
    match std::str::from_utf8(content) {
        _ if mode & S_IFMT != S_IFLNK => String::new(),
        Ok(target) if target.len() <= TARGET_MAX => format!("link to {target}, "),
        _ => format!("link to a path with the digest {}, ", Sha256::of(content)),
    }
}

/// Those that share a name get a number.
fn numbered(mut members: Vec<Part>) -> Vec<Part> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for part in &mut members {
        let times = seen.entry(part.name.clone()).or_default();
        *times += 1;
        if *times > 1 {
            let length = part.name.len();
            part.name = format!("{}#{times}", part.name);
            part.added = part.name.len() - length;
        }
    }
    members
}
