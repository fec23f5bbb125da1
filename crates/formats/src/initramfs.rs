//! Walks an initramfs image: any number of cpio archives, plain or compressed, one after the other, zeros between them
//! (kernel `init/initramfs.c`, `unpack_to_rootfs`).

use std::ops::Range;

use common::{Class, Error, Result};

use crate::cpio::{self, Member};
use crate::{Budget, Compression};

/// All compressed parts of one image together may not decompress to more than this many bytes.
const DECOMPRESSED_MAX: u64 = 2 << 30;

/// One part of an image.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// Where it lies in the image, without the zeros around it.
    pub range: Range<usize>,
    /// What it holds.
    pub body: Body<'a>,
}

/// What a [`Part`] holds.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// A plain archive, as CPU microcode must be.
    Archive(Vec<Member<'a>>),
    /// A compressed stream and its content, in which there may be several archives.
    Stream(Compression, Vec<u8>),
}

impl Body<'_> {
    /// How the part is compressed; `None` for a plain archive.
    #[must_use]
    pub const fn compression(&self) -> Option<Compression> {
        match self {
            Self::Archive(_) => None,
            Self::Stream(compression, _) => Some(*compression),
        }
    }
}

/// The first byte from `at` on that is not zero: where the next part begins.
#[must_use]
pub fn next(image: &[u8], at: usize) -> Option<usize> {
    image.get(at..)?.iter().position(|&byte| byte != 0).map(|skip| at + skip)
}

/// Reads the part of `image` that begins at `start`; what it decompresses to is drawn on `budget`.
///
/// # Errors
/// [`Class::BadInput`] naming the offset of a part that cannot be read.
pub fn part<'a>(image: &'a [u8], start: usize, budget: &mut Budget) -> Result<Part<'a>> {
    let bad = |why: &str| Error::new(Class::BadInput, "malformed initramfs").why(format!("{why} at byte {start}"));
    let bytes = image.get(start..).unwrap_or_default();
    let (body, length) = match Compression::detect(bytes) {
        Some(compression) => {
            let (content, length) = budget.decompress(compression, bytes).map_err(|e| bad(&e.one_line()))?;
            (Body::Stream(compression, content), length)
        }
        None if !cpio::detect(bytes) => return Err(bad("neither cpio nor a known compression")),
        // The kernel takes it for no archive and stops.
        None if !start.is_multiple_of(4) => return Err(bad("a plain archive that is not aligned to four bytes")),
        None => {
            let (members, length) = cpio::read(bytes)?;
            (Body::Archive(members), length)
        }
    };
    if length == 0 {
        return Err(bad("an archive of no length"));
    }
    Ok(Part { range: start..start + length, body })
}

/// What a walk over an image shows of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which part of the image it is in, from 0.
    pub part: usize,
    /// How that part is compressed; `None` for a plain archive.
    pub compression: Option<Compression>,
    /// Path as unpacked.
    pub path: String,
    /// Type and permission bits.
    pub mode: u32,
    /// Bytes of content.
    pub size: usize,
}

impl Listed {
    /// What is listed of `member`.
    #[must_use]
    pub fn new(part: usize, compression: Option<Compression>, member: &Member<'_>) -> Self {
        Self { part, compression, path: member.path.to_owned(), mode: member.mode, size: member.content.len() }
    }
}

/// Takes the number of the part, how it is compressed, and a member of it.
pub type Visit<'a> = dyn FnMut(usize, Option<Compression>, &Member<'_>) -> Result<()> + 'a;

/// Calls `visit` with every member of `image` in the order in which the kernel unpacks them.
///
/// # Errors
/// [`Class::BadInput`] naming the offset of the part that cannot be read, or what `visit` reports.
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

/// The archives in a stream, one after the other; in it the kernel takes no further compression.
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
///
/// # Errors
/// As [`walk`].
pub fn list(image: &[u8]) -> Result<Vec<Listed>> {
    let mut out = Vec::new();
    walk(image, &mut |part, compression, member| {
        out.push(Listed::new(part, compression, member));
        Ok(())
    })?;
    Ok(out)
}

/// Content of the file `path` as the kernel leaves it: of several, the last one counts.
///
/// # Errors
/// As [`walk`].
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
    fn says_where_an_image_breaks() {
        let mut image = mixed();
        let junk = image.len();
        image.extend(b"junk");
        assert!(list(&image).unwrap_err().to_string().contains(&format!("at byte {junk}")));
        let unaligned = [&[0][..], &archive("a", b"")].concat();
        assert!(list(&unaligned).unwrap_err().to_string().contains("aligned"));
        assert!(list(&mixed()[..mixed().len() - 4]).is_err(), "cut off in the gzip part");
    }

    /// Each part may be within the limit and all of them above it.
    #[test]
    fn the_limit_is_that_of_all_parts() {
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
