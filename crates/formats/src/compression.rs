//! Compressed streams, decompressed in memory under a limit.

use std::io::Read;

use common::{Class, Error, Result};

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
}

impl Compression {
    /// Detects the compression by its magic number.
    #[must_use]
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
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
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(bytes)?.single_frame();
                decoder.window_log_max(DECODER_MAX.ilog2())?;
                read(&mut decoder)?;
                decoder.finish().len()
            }
        })
    }
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
        for (kind, bytes) in [
            (Compression::Gzip, gzip(&zeros)),
            (Compression::Zlib, zlib.finish().unwrap()),
            (Compression::Xz, xz(&zeros)),
            (Compression::Zstd, zstd(&zeros)),
        ] {
            assert!(bytes.len() < 4096, "{kind:?} is not a bomb");
            assert_eq!(kind.decompress(&bytes, 1 << 20).unwrap(), zeros);
            let error = kind.decompress(&bytes, (1 << 20) - 1).unwrap_err();
            assert!(error.to_string().contains("more than 1048575 bytes"), "{error}");
            assert!(kind.decompress(&bytes[..bytes.len() / 2], 1 << 20).is_err(), "{kind:?} truncated");
            assert_eq!(Compression::detect(&bytes), (kind != Compression::Zlib).then_some(kind));
        }
    }
}
