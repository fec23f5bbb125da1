//! Splits a file into parts: sections of programs, members of archives, content of a compressed stream.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use common::{Class, Error, Result, Sha256};
use formats::budget::FILE_MAX;
use formats::initramfs::{self, Body};
use formats::pe::Pe;
use formats::squashfs::{self, Kind};
use formats::{Budget, Compression, bzimage, cpio, elf, module_signature, sniff};

/// Longer link targets are replaced by their digest (`PATH_MAX` of Linux).
const TARGET_MAX: usize = 4096;

/// Supported formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A kernel with its setup header.
    BzImage,
    /// A UEFI program: a unified kernel image, a boot loader.
    Pe,
    /// A Linux program or object.
    Elf,
    /// A kernel module with its signature.
    SignedModule,
    /// One cpio archive.
    Cpio,
    /// Several concatenated archives or streams.
    Initramfs,
    /// One compressed stream.
    Stream(Compression),
    /// A squashfs image.
    Squashfs,
}

/// One member of a file.
#[derive(Clone, Debug)]
pub struct Part {
    /// Name, unique in the file.
    pub name: String,
    /// Metadata other than content and time: mode, owner, link target. Empty for sections.
    pub attributes: String,
    /// Seconds since the epoch.
    time: Option<u32>,
    /// Length of the suffix that makes the name unique.
    added: usize,
    body: Bytes,
}

#[derive(Clone, Debug)]
enum Bytes {
    /// A range of the file.
    Here(Range<usize>),
    /// Decompressed content of the file.
    Decompressed(Vec<u8>),
    /// Blocks of a squashfs image.
    Blocks(squashfs::File),
    /// No content: a directory, a link, a device.
    None,
}

impl Part {
    fn here(name: impl Into<String>, range: Range<usize>) -> Self {
        Self { name: name.into(), attributes: String::new(), time: None, added: 0, body: Bytes::Here(range) }
    }

    /// Whether it has content of its own, unlike directories and links.
    #[must_use]
    pub fn is_file(&self) -> bool {
        !matches!(self.body, Bytes::None)
    }

    /// Name as stored in the file; may not be unique.
    #[must_use]
    pub fn original(&self) -> &str {
        &self.name[..self.name.len() - self.added]
    }

    /// All metadata.
    #[must_use]
    pub fn facts(&self) -> String {
        self.time.map_or_else(String::new, |time| format!("{}, time {time}", self.attributes))
    }

    /// Range in the file, if known.
    #[must_use]
    pub fn range(&self) -> Option<Range<usize>> {
        match &self.body {
            Bytes::Here(range) => Some(range.clone()),
            Bytes::None => Some(0..0),
            _ => None,
        }
    }
}

/// A file split into parts. Every byte is in a part or in headers, tables or padding around them.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Format.
    pub format: Format,
    /// Parts in file order.
    pub members: Vec<Part>,
    /// Offset of the part of an initramfs that cannot be read, and the error: nothing from there on is in a member.
    pub unread: Option<(usize, Error)>,
    bytes: &'a [u8],
    squashfs: Option<squashfs::Image<'a>>,
}

impl<'a> Parts<'a> {
    /// Splits `bytes`; `None` for an unknown format, a damaged file, or one above the limits.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        Self::within(bytes, &mut Budget::default())
    }

    /// As [`Parts::of`], charged to `budget`, which callers share for nested parts.
    #[must_use]
    pub fn within(bytes: &'a [u8], budget: &mut Budget) -> Option<Self> {
        Self::split(bytes, budget).ok()
    }

    /// As [`Parts::within`], with the reason.
    pub fn split(bytes: &'a [u8], budget: &mut Budget) -> Result<Self> {
        let new =
            |format, members| Ok(Self { format, members: numbered(members), unread: None, bytes, squashfs: None });
        let damaged = || Error::new(Class::UntrustedData, "the format is unknown or the file is damaged");
        match sniff(bytes).ok_or_else(damaged)? {
            formats::Format::Elf => match module_signature::split(bytes) {
                Some((module, message)) => {
                    new(Format::SignedModule, vec![Part::here("module", module), Part::here("signature", message)])
                }
                None => {
                    let sections = elf::sections(bytes).ok_or_else(damaged)?;
                    new(Format::Elf, sections.into_iter().map(|s| Part::here(s.name, s.range)).collect())
                }
            },
            formats::Format::Squashfs => {
                let image = squashfs::Image::within(bytes, &mut budget.members)?;
                let members = image.entries().iter().map(inode).collect();
                Ok(Self { format: Format::Squashfs, members, unread: None, bytes, squashfs: Some(image) })
            }
            formats::Format::BzImage => {
                let payload = bzimage::payload(bytes).ok_or_else(damaged)?;
                new(Format::BzImage, vec![Part::here("payload", payload)])
            }
            formats::Format::Pe => new(Format::Pe, pe(bytes)?),
            formats::Format::Archives => {
                let (format, members, unread) = sequence(bytes, budget)?;
                Ok(Self { format, members: numbered(members), unread, bytes, squashfs: None })
            }
        }
    }

    /// Returns the content of `part`; decompressed bytes are charged to `budget`.
    pub fn content<'b>(&'b self, part: &'b Part, budget: &mut Budget) -> Result<Cow<'b, [u8]>> {
        match (&part.body, &self.squashfs) {
            (Bytes::Here(range), _) => Ok(Cow::Borrowed(self.bytes.get(range.clone()).unwrap_or_default())),
            (Bytes::Decompressed(bytes), _) => Ok(Cow::Borrowed(bytes)),
            (Bytes::None, _) => Ok(Cow::Borrowed(&[])),
            (Bytes::Blocks(file), Some(image)) => {
                // A file above the limit is not charged: it is rejected below.
                if file.size <= FILE_MAX {
                    budget.spend(image.cost(file))?;
                }
                image.content(file, FILE_MAX).map(Cow::Owned)
            }
            (Bytes::Blocks(_), None) => {
                Err(Error::new(Class::UntrustedData, "a file of another image").file(&part.name))
            }
        }
    }

    /// Describes the byte at `offset`, which is in no part.
    #[must_use]
    pub fn outside(&self, offset: usize) -> String {
        let after = self.members.iter().filter_map(|p| Some((p.range()?, &p.name))).find(|(r, _)| r.start > offset);
        match (self.format, after) {
            (Format::Cpio | Format::Initramfs, Some((_, name))) => format!("header of {name}"),
            (Format::Cpio | Format::Initramfs, None) => "the end of the archive".to_owned(),
            (Format::Stream(compression), _) => format!("the {} form of equal content", compression.name()),
            (Format::Squashfs, _) => "the tables of the squashfs image".to_owned(),
            (Format::SignedModule, _) => "the trailer after the signature".to_owned(),
            (Format::BzImage, Some(_)) => "the setup code before the payload".to_owned(),
            (Format::BzImage, None) => "what follows the payload".to_owned(),
            (Format::Pe | Format::Elf, Some((_, name))) => format!("headers or padding before {name}"),
            (Format::Pe, None) => "what follows the sections, such as a signature".to_owned(),
            (Format::Elf, None) => "the section table".to_owned(),
        }
    }

    /// Returns the name for its parts.
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

fn pe(bytes: &[u8]) -> Result<Vec<Part>> {
    let pe = Pe::parse(bytes)?;
    let part = |section: &formats::pe::Section| {
        let start = section.raw_offset as usize;
        // Without padding.
        let length = section.raw_size.min(section.virtual_size) as usize;
        (length > 0).then(|| Part::here(&section.name, start..start + length))
    };
    let mut parts: Vec<_> = pe.sections().iter().filter_map(part).collect();
    parts.sort_by_key(|part| part.range().map(|range| range.start));
    Ok(parts)
}

fn inode(entry: &squashfs::Entry) -> Part {
    let squashfs::Entry { path, kind, mode, owner, mtime } = entry;
    let (kind, body) = match kind {
        Kind::File(file) => (String::new(), Bytes::Blocks(file.clone())),
        Kind::Dir => ("directory, ".to_owned(), Bytes::None),
        Kind::Symlink(target) => (format!("link to {target}, "), Bytes::None),
        Kind::Special => ("device, pipe or socket, ".to_owned(), Bytes::None),
    };
    let attributes = format!("{kind}mode {mode:04o}, owner {}:{}", owner.0, owner.1);
    Part { name: path.clone(), attributes, time: Some(*mtime), added: 0, body }
}

/// Format and members of a sequence, and the offset and error of the first unreadable part.
type Sequence = (Format, Vec<Part>, Option<(usize, Error)>);

/// Reads concatenated archives and streams with zero padding between them.
fn sequence(bytes: &[u8], budget: &mut Budget) -> Result<Sequence> {
    // The content of a stream is needed only if nothing follows it.
    let (mut found, mut content, mut unread) = (Vec::<(Range<usize>, &str)>::new(), None, None);
    while let Some(start) = initramfs::next(bytes, found.last().map_or(0, |(range, _)| range.end)) {
        content = content.filter(|body| matches!(body, Body::Archive(_)));
        match budget.enter("").and_then(|()| initramfs::part(bytes, start, budget)) {
            Ok(initramfs::Part { range, body }) => {
                found.push((range, body.compression().map_or("plain cpio", Compression::name)));
                content = Some(body);
            }
            Err(e) => {
                unread = Some((start, e));
                break;
            }
        }
    }
    let (format, members) = match (found.as_slice(), content) {
        ([], _) => {
            let empty = || Error::new(Class::UntrustedData, "the archive is empty");
            return Err(unread.map_or_else(empty, |(_, error)| error));
        }
        ([(range, _)], Some(Body::Archive(list))) if range.start == 0 => (Format::Cpio, members(&list, budget)?),
        ([(range, _)], Some(Body::Stream(compression, content))) if range.start == 0 && unread.is_none() => {
            let part = Part { body: Bytes::Decompressed(content), ..Part::here("content", 0..0) };
            (Format::Stream(compression), vec![part])
        }
        _ => (Format::Initramfs, found.into_iter().enumerate().map(piece).collect()),
    };
    Ok((format, members, unread))
}

fn piece((at, (range, kind)): (usize, (Range<usize>, &str))) -> Part {
    Part::here(format!("{at} ({kind})"), range)
}

fn members(members: &[cpio::Member<'_>], budget: &mut Budget) -> Result<Vec<Part>> {
    let part = |member: &cpio::Member<'_>| {
        let cpio::Member { path, mode, uid, gid, mtime, content, at } = member;
        budget.enter(path)?;
        let attributes = format!("{}mode {mode:06o}, owner {uid}:{gid}", link(member));
        let body = if member.is_file() { Bytes::Here(*at..at + content.len()) } else { Bytes::None };
        Ok(Part { name: (*path).to_owned(), attributes, time: Some(*mtime), added: 0, body })
    };
    members.iter().map(part).collect()
}

/// Describes the target of a symbolic link, which is its content.
fn link(member: &cpio::Member<'_>) -> String {
    match std::str::from_utf8(member.content) {
        _ if !member.is_symlink() => String::new(),
        Ok(target) if target.len() <= TARGET_MAX => format!("link to {target}, "),
        _ => format!("link to a path with the digest {}, ", Sha256::of(member.content)),
    }
}

/// Makes names unique by numbering duplicates.
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
