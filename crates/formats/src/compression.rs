//! Compressed streams, decompressed in memory under a limit.

use std::io::Read;

use common::{Class, Error, Result};

use crate::lz4;

/// Memory limit of an xz or zstd decoder, in bytes.
const DECODER_MAX: u64 = 128 << 20;

/// Compression formats of images, kernels and squashfs layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, in squashfs only: it has no magic number.
    Zlib,
    /// The .xz container.
    Xz,
    /// RFC 8878.
    Zstd,
    /// The .lzma format (`lzma -9`, xz `doc/lzma-file-format.txt`).
    Lzma,
    /// The legacy frame of LZ4 (`lz4 -l`).
    Lz4,
    /// One LZ4 block, in squashfs only: it has no magic number.
    Lz4Block,
}

/// Magic numbers of formats that kernels and initramfs can have and that are not decompressed here.
const UNSUPPORTED: [(&[u8], &str); 3] =
    [(b"BZh", "bzip2"), (b"\x89LZO\0", "lzo"), (b"\x04\x22\x4d\x18", "lz4 without -l")];

/// Returns the name of a compression that is known but not supported.
#[must_use]
pub fn unsupported(bytes: &[u8]) -> Option<&'static str> {
    UNSUPPORTED.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, name)| *name)
}

/// Reason of the error for the compression `name`.
#[must_use]
pub fn not_supported(name: &str) -> String {
    format!("compressed with {name}, which cannot be read (only gzip, lz4, lzma, xz and zstd)")
}

impl Compression {
    /// Detects the compression by its magic number.
    #[must_use]
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            [0x02, 0x21, 0x4c, 0x18, ..] => Some(Self::Lz4),
            _ if is_lzma(bytes) => Some(Self::Lzma),
            _ => None,
        }
    }

    /// The format's usual name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zlib => "zlib",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lzma => "lzma",
            Self::Lz4 | Self::Lz4Block => "lz4",
        }
    }

    /// Decompresses the first stream of `bytes` to at most `max` bytes and ignores what follows it.
    pub fn decompress(self, bytes: &[u8], max: u64) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.decompress_into(bytes, max, &mut out)?;
        Ok(out)
    }

    /// As [`Compression::decompress`], into the empty `out`; returns the length of the stream. After an error `out` holds what was decompressed before it.
    pub(crate) fn decompress_into(self, bytes: &[u8], max: u64, out: &mut Vec<u8>) -> Result<usize> {
        let bad = |why: String| {
            Error::new(Class::UntrustedData, format!("cannot decompress a {} stream", self.name())).why(why)
        };
        let rest = self.take(bytes, max, out).map_err(|e| bad(e.to_string()))?;
        if out.len() as u64 > max {
            return Err(bad(format!("it decompresses to more than {max} bytes")));
        }
        Ok(bytes.len() - rest)
    }

    /// Decompresses up to one byte beyond the limit; returns the number of input bytes after the stream.
    fn take(self, bytes: &[u8], max: u64, out: &mut Vec<u8>) -> std::io::Result<usize> {
        let mut read = |reader: &mut dyn Read| reader.take(max.saturating_add(1)).read_to_end(out);
        Ok(match self {
            Self::Gzip => {
                let mut decoder = flate2::bufread::GzDecoder::new(bytes);
                read(&mut decoder)?;
                decoder.into_inner().len()
            }
            Self::Zlib => {
                let mut decoder = flate2::bufread::ZlibDecoder::new(bytes);
                read(&mut decoder)?;
                decoder.into_inner().len()
            }
            Self::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(DECODER_MAX, 0)?;
                let mut decoder = liblzma::bufread::XzDecoder::new_stream(bytes, stream);
                read(&mut decoder)?;
                decoder.into_inner().len()
            }
            Self::Lzma => {
                let stream = liblzma::stream::Stream::new_lzma_decoder(DECODER_MAX)?;
                let mut decoder = liblzma::bufread::XzDecoder::new_stream(bytes, stream);
                read(&mut decoder)?;
                decoder.into_inner().len()
            }
            Self::Lz4 => lz4::legacy(bytes, max, out)?,
            Self::Lz4Block => {
                lz4::block(bytes, usize::try_from(max).unwrap_or(usize::MAX - 1), out)?;
                0
            }
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(bytes)?.single_frame();
                decoder.window_log_max(DECODER_MAX.ilog2())?;
                read(&mut decoder)?;
                decoder.finish().len()
            }
        })
    }
}

/// Whether `bytes` begin with a header of .lzma as the kernel's decompressor and `lzma` write it: the usual properties, a dictionary of
/// 2^n bytes, and a plausible size or none.
fn is_lzma(bytes: &[u8]) -> bool {
    let [0x5d, d0, d1, d2, d3, size @ ..] = bytes else { return false };
    let dictionary = u32::from_le_bytes([*d0, *d1, *d2, *d3]);
    let size = size.first_chunk().map(|size| u64::from_le_bytes(*size));
    dictionary.is_power_of_two() && dictionary >= 4096 && size.is_some_and(|size| size == u64::MAX || size < 1 << 38)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::samples::{gzip, xz, zstd};

    #[test]
    fn stops_decompression_bombs_of_each_kind() {
        let zeros = vec![0; 1 << 20];
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        zlib.write_all(&zeros).unwrap();
        let block = lz4_zeros(1 << 20);
        let size = u32::try_from(block.len()).unwrap().to_le_bytes();
        for (kind, bytes) in [
            (Compression::Gzip, gzip(&zeros)),
            (Compression::Zlib, zlib.finish().unwrap()),
            (Compression::Xz, xz(&zeros)),
            (Compression::Zstd, zstd(&zeros)),
            (Compression::Lzma, lzma(&zeros)),
            (Compression::Lz4, [&lz4::LEGACY[..], &size, &block].concat()),
            (Compression::Lz4Block, block),
        ] {
            assert!(bytes.len() < 5000, "{kind:?} is not a bomb");
            assert_eq!(kind.decompress(&bytes, 1 << 20).unwrap(), zeros);
            let error = kind.decompress(&bytes, (1 << 20) - 1).unwrap_err();
            assert!(error.to_string().contains("more than 1048575 bytes"), "{error}");
            assert!(kind.decompress(&bytes[..bytes.len() / 2], 1 << 20).is_err(), "{kind:?} truncated");
            let has_magic = !matches!(kind, Compression::Zlib | Compression::Lz4Block);
            assert_eq!(Compression::detect(&bytes), has_magic.then_some(kind));
        }
    }

    fn lzma(bytes: &[u8]) -> Vec<u8> {
        let options = liblzma::stream::LzmaOptions::new_preset(6).unwrap();
        let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A block of one zero, a match that repeats it, and a last zero.
    fn lz4_zeros(count: usize) -> Vec<u8> {
        let more = count - 2 - 4 - 15;
        let mut block = vec![0x1f, 0, 1, 0];
        block.extend(vec![255; more / 255]);
        block.extend([u8::try_from(more % 255).unwrap(), 0x10, 0]);
        block
    }

    #[test]
    fn names_what_it_cannot_read() {
        for (bytes, name) in
            [(&b"BZh9"[..], "bzip2"), (b"\x89LZO\0\r\n", "lzo"), (b"\x04\x22\x4d\x18", "lz4 without -l")]
        {
            assert_eq!((unsupported(bytes), Compression::detect(bytes)), (Some(name), None));
        }
        assert_eq!(unsupported(b"\x1f\x8b"), None);
        for no_lzma in [&b"]\0\0\x80\0"[..], b"]abc\0\xff\xff\xff\xff\xff\xff\xff\xff", b"]\0\0\x80\0too large"] {
            assert_eq!(Compression::detect(no_lzma), None);
        }
    }
}
