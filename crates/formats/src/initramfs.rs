//! Walks an initramfs image: concatenated cpio archives, plain or compressed, with zero padding between them
//! (kernel `init/initramfs.c`, `unpack_to_rootfs`).

use std::ops::Range;

use common::{Class, Error, Result};

use crate::cpio::{self, Member};
use crate::{Budget, Compression, compression};

/// All compressed parts of one image together may not decompress to more than this many bytes.
const DECOMPRESSED_MAX: u64 = 2 << 30;

/// One part of an image.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// Range in the image, without padding.
    pub range: Range<usize>,
    /// Content.
    pub body: Body<'a>,
}

/// Content of a [`Part`].
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// A plain archive, as CPU microcode must be.
    Archive(Vec<Member<'a>>),
    /// A compressed stream and its decompressed content, which may hold several archives.
    Stream(Compression, Vec<u8>),
}

impl Body<'_> {
    /// Compression of the part; `None` for a plain archive.
    #[must_use]
    pub const fn compression(&self) -> Option<Compression> {
        match self {
            Self::Archive(_) => None,
            Self::Stream(compression, _) => Some(*compression),
        }
    }
}

/// Returns the offset of the next part: the first byte from `at` on that is not zero.
#[must_use]
pub fn next(image: &[u8], at: usize) -> Option<usize> {
    image.get(at..)?.iter().position(|&byte| byte != 0).map(|skip| at + skip)
}

/// Reads the part of `image` that starts at `start`; decompressed bytes are charged to `budget`.
pub fn part<'a>(image: &'a [u8], start: usize, budget: &mut Budget) -> Result<Part<'a>> {
    let bad =
        |why: &str| Error::new(Class::UntrustedData, "initramfs is malformed").why(format!("{why} at byte {start}"));
    let bytes = image.get(start..).unwrap_or_default();
    let (body, length) = match Compression::detect(bytes) {
        Some(compression) => {
            let (content, length) = budget.decompress(compression, bytes).map_err(|e| bad(&e.one_line()))?;
            (Body::Stream(compression, content), length)
        }
        None if !cpio::detect(bytes) => {
            let known = compression::unsupported(bytes).map(compression::not_supported);
            return Err(bad(known.as_deref().unwrap_or("neither cpio nor a supported compression")));
        }
        // The kernel does not recognise such an archive and stops.
        None if !start.is_multiple_of(4) => return Err(bad("plain archive is not aligned to four bytes")),
        None => {
            let (members, length) = cpio::read(bytes)?;
            (Body::Archive(members), length)
        }
    };
    if length == 0 {
        return Err(bad("empty archive"));
    }
    Ok(Part { range: start..start + length, body })
}

/// One member as listed by [`list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Number of the part of the image, from 0.
    pub part: usize,
    /// Compression of that part; `None` for a plain archive.
    pub compression: Option<Compression>,
    /// Path as unpacked.
    pub path: String,
    /// Type and permission bits.
    pub mode: u32,
    /// Bytes of content.
    pub size: usize,
}

impl Listed {
    /// Describes `member`.
    #[must_use]
    pub fn new(part: usize, compression: Option<Compression>, member: &Member<'_>) -> Self {
        Self { part, compression, path: member.path.to_owned(), mode: member.mode, size: member.content.len() }
    }
}

/// Receives the number of the part, its compression, and a member of it.
pub type Visit<'a> = dyn FnMut(usize, Option<Compression>, &Member<'_>) -> Result<()> + 'a;

/// Calls `visit` with every member of `image` in the order in which the kernel unpacks them.
pub fn walk(image: &[u8], visit: &mut Visit<'_>) -> Result<()> {
    let mut budget = Budget { bytes: DECOMPRESSED_MAX, stream: DECOMPRESSED_MAX, members: usize::MAX };
    walk_within(image, &mut budget, visit)
}

fn walk_within(image: &[u8], budget: &mut Budget, visit: &mut Visit<'_>) -> Result<()> {
    let (mut at, mut number) = (0, 0);
    while let Some(start) = next(image, at) {
        let Part { range, body } = part(image, start, budget)?;
        let compression = body.compression();
        let mut each = |member: &Member<'_>| visit(number, compression, member);
        match body {
            Body::Archive(members) => members.iter().try_for_each(&mut each)?,
            Body::Stream(_, content) => archives(&content, &mut each)?,
        }
        at = range.end;
        number += 1;
    }
    Ok(())
}

/// Walks the archives in a stream; the kernel does not decompress nested streams.
fn archives(bytes: &[u8], visit: &mut dyn FnMut(&Member<'_>) -> Result<()>) -> Result<()> {
    let mut at = 0;
    while let Some(start) = next(bytes, at) {
        let (members, read) = cpio::read(&bytes[start..])?;
        members.iter().try_for_each(&mut *visit)?;
        at = start + read;
    }
    Ok(())
}

/// Lists every member of `image`.
pub fn list(image: &[u8]) -> Result<Vec<Listed>> {
    let mut out = Vec::new();
    walk(image, &mut |part, compression, member| {
        out.push(Listed::new(part, compression, member));
        Ok(())
    })?;
    Ok(out)
}

/// Returns the content of the file `path` after unpacking: of several, the last one counts.
pub fn content(image: &[u8], path: &str) -> Result<Option<Vec<u8>>> {
    let mut found = None;
    walk(image, &mut |_, _, member| {
        if member.path == path && member.is_file() {
            found = Some(member.content.to_vec());
        }
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{gzip, xz, zstd};

    fn archive(path: &str, content: &[u8]) -> Vec<u8> {
        let mut writer = cpio::Writer::default();
        writer.file(path, 0o644, content.to_vec()).unwrap();
        writer.finish(0)
    }

    fn mixed() -> Vec<u8> {
        let mut image = archive("microcode", b"plain");
        image.extend(zstd(&archive("init", b"one")));
        image.extend([0; 5]);
        image.extend(xz(&[archive("a", b"x"), archive("b", b"y")].concat()));
        image.extend(gzip(&archive("init", b"two")));
        image
    }

    #[test]
    fn walks_parts_of_every_kind() {
        use Compression::{Gzip, Xz, Zstd};
        let listed = list(&mixed()).unwrap();
        let short: Vec<_> = listed.iter().map(|l| (l.part, l.compression, l.path.as_str())).collect();
        assert_eq!(
            short,
            [
                (0, None, "microcode"),
                (1, Some(Zstd), "init"),
                (2, Some(Xz), "a"),
                (2, Some(Xz), "b"),
                (3, Some(Gzip), "init")
            ]
        );
        assert_eq!(content(&mixed(), "init").unwrap().unwrap(), b"two");
        assert_eq!(content(&mixed(), "none").unwrap(), None);
    }

    #[test]
    fn reports_the_offset_of_damage() {
        let mut image = mixed();
        let junk = image.len();
        image.extend(b"junk");
        assert!(list(&image).unwrap_err().to_string().contains(&format!("at byte {junk}")));
        let unaligned = [&[0][..], &archive("a", b"")].concat();
        assert!(list(&unaligned).unwrap_err().to_string().contains("aligned"));
        assert!(list(&mixed()[..mixed().len() - 4]).is_err(), "truncated in the gzip part");
    }

    #[test]
    fn the_limit_covers_all_parts_together() {
        let part = archive("a", &[0; 4096]);
        let size = part.len() as u64;
        let image = zstd(&part).repeat(3);
        let walk = |bytes| {
            let mut budget = Budget { bytes, ..Budget::default() };
            walk_within(&image, &mut budget, &mut |_, _, _| Ok(()))
        };
        walk(3 * size).unwrap();
        let error = walk(3 * size - 1).unwrap_err().to_string();
        assert!(error.contains("more than"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(flips in proptest::collection::vec((0usize..2000, 0u8..), 0..8)) {
            let mut bytes = mixed();
            for (at, value) in flips {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            let _ = list(&bytes);
        }
    }
}
