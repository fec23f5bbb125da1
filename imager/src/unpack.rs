//! Walks an initramfs image: any number of cpio archives, plain or compressed, one after the other, zeros between them
//! (kernel `init/initramfs.c`, `unpack_to_rootfs`).

use std::io::Read;

use common::{Class, Error, Result};

use crate::cpio::{self, Member};

/// All compressed parts together may not unpack to more than this many bytes.
const UNPACKED_MAX: u64 = 2 << 30;
/// Memory an xz decoder may take, in bytes.
const XZ_MEMORY_MAX: u64 = 128 << 20;

/// How a part of the image is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Plain cpio, as CPU microcode must be.
    None,
    /// RFC 8878.
    Zstd,
    /// The .xz container.
    Xz,
    /// RFC 1952.
    Gzip,
}

impl Compression {
    /// Tells the compression by the magic number, as the kernel does (`lib/decompress.c`).
    #[must_use]
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [b'0', b'7', b'0', b'7', b'0', b'1' | b'2', ..] => Some(Self::None),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x1f, 0x8b | 0x9e, ..] => Some(Self::Gzip),
            _ => None,
        }
    }
}

/// What a walk over an image tells of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which part of the image it is in, from 0.
    pub part: usize,
    /// How that part is compressed.
    pub compression: Compression,
    /// Path as unpacked.
    pub path: String,
    /// Type and permission bits.
    pub mode: u32,
    /// Bytes of content.
    pub size: usize,
}

impl Listed {
    pub(crate) fn new(part: usize, compression: Compression, member: &Member<'_>) -> Self {
        Self { part, compression, path: member.path.to_owned(), mode: member.mode, size: member.content.len() }
    }
}

/// Calls `visit` with every member of `image` in the order in which the kernel unpacks them.
///
/// # Errors
/// [`Class::BadInput`] naming the offset of the part that cannot be read, or what `visit` reports.
pub fn walk(image: &[u8], visit: &mut Visit<'_>) -> Result<()> {
    walk_within(image, UNPACKED_MAX, visit)
}

/// Takes the number of the part, how it is compressed, and a member of it.
pub type Visit<'a> = dyn FnMut(usize, Compression, &Member<'_>) -> Result<()> + 'a;

/// As [`walk`], for at most `left` unpacked bytes.
fn walk_within(image: &[u8], mut left: u64, visit: &mut Visit<'_>) -> Result<()> {
    let mut part = 0;
    let mut at = 0;
    while let Some(start) = next_part(image, at) {
        let bytes = &image[start..];
        let bad = |why: &str| Error::new(Class::BadInput, "malformed initramfs").why(format!("{why} at byte {start}"));
        let compression = Compression::detect(bytes).ok_or_else(|| bad("neither cpio nor a known compression"))?;
        if compression == Compression::None {
            if start % 4 != 0 {
                return Err(bad("a plain archive that is not aligned to four bytes"));
            }
            let (members, read) = cpio::read(bytes)?;
            members.iter().try_for_each(|member| visit(part, compression, member))?;
            at = start + read;
        } else {
            let (unpacked, read) = decompress(bytes, compression, left).map_err(|why| bad(&why))?;
            left -= unpacked.len() as u64;
            walk_unpacked(&unpacked, &mut |member| visit(part, compression, member))?;
            at = start + read;
        }
        part += 1;
    }
    Ok(())
}

/// A compressed part may hold several archives, too.
fn walk_unpacked(bytes: &[u8], visit: &mut dyn FnMut(&Member<'_>) -> Result<()>) -> Result<()> {
    let mut at = 0;
    while let Some(start) = next_part(bytes, at) {
        let (members, read) = cpio::read(&bytes[start..])?;
        members.iter().try_for_each(&mut *visit)?;
        at = start + read;
    }
    Ok(())
}

/// The first byte from `at` on that is not zero.
fn next_part(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..)?.iter().position(|&byte| byte != 0).map(|skip| at + skip)
}

/// Unpacks the compressed stream at the start of `bytes`, which may hold `limit` bytes; returns what it held and its compressed length.
fn decompress(bytes: &[u8], compression: Compression, limit: u64) -> Result<(Vec<u8>, usize), String> {
    let text = |e: std::io::Error| e.to_string();
    let (unpacked, rest) = match compression {
        Compression::None => (bytes.to_vec(), &[][..]),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(text)?.single_frame();
            (read_all(&mut decoder, limit)?, decoder.finish())
        }
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_MAX, 0).map_err(|e| e.to_string())?;
            let mut decoder = liblzma::bufread::XzDecoder::new_stream(bytes, stream);
            (read_all(&mut decoder, limit)?, decoder.into_inner())
        }
        Compression::Gzip => {
            let mut decoder = flate2::bufread::GzDecoder::new(bytes);
            (read_all(&mut decoder, limit)?, decoder.into_inner())
        }
    };
    Ok((unpacked, bytes.len() - rest.len()))
}

fn read_all(reader: &mut dyn Read, limit: u64) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    reader.take(limit + 1).read_to_end(&mut out).map_err(|e| e.to_string())?;
    if out.len() as u64 > limit { Err("the parts unpack to more than the limit".to_owned()) } else { Ok(out) }
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
    use std::io::Write as _;

    use super::*;

    fn archive(path: &str, content: &[u8]) -> Vec<u8> {
        let mut writer = cpio::Writer::default();
        writer.file(path, 0o644, content.to_vec()).unwrap();
        writer.finish(0)
    }

    fn mixed() -> Vec<u8> {
        let mut image = archive("microcode", b"plain");
        image.extend(zstd::encode_all(&archive("init", b"one")[..], 3).unwrap());
        image.extend([0; 5]);
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&[archive("a", b"x"), archive("b", b"y")].concat()).unwrap();
        image.extend(xz.finish().unwrap());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&archive("init", b"two")).unwrap();
        image.extend(gzip.finish().unwrap());
        image
    }

    #[test]
    fn walks_parts_of_every_kind() {
        use Compression::{Gzip, None, Xz, Zstd};
        let listed = list(&mixed()).unwrap();
        let short: Vec<_> = listed.iter().map(|l| (l.part, l.compression, l.path.as_str())).collect();
        assert_eq!(short, [(0, None, "microcode"), (1, Zstd, "init"), (2, Xz, "a"), (2, Xz, "b"), (3, Gzip, "init")]);
        assert_eq!(content(&mixed(), "init").unwrap().unwrap(), b"two");
        assert_eq!(content(&mixed(), "none").unwrap(), Option::None);
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
        let image = zstd::encode_all(&part[..], 3).unwrap().repeat(3);
        let walk = |limit| walk_within(&image, limit, &mut |_, _, _| Ok(()));
        walk(3 * size).unwrap();
        let error = walk(3 * size - 1).unwrap_err().to_string();
        assert!(error.contains("more than the limit"), "{error}");
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
