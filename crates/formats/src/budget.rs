//! Limits on decompressing and listing everything in one image, however deeply archives are nested.

use common::{Class, Error, Result};

use crate::Compression;

/// Largest file of an image that is decompressed into memory, in bytes.
pub const FILE_MAX: u64 = 1 << 30;
/// Total bytes decompressed for one image: several times the size of an installer with large extensions.
const BYTES_MAX: u64 = 4 << 30;
/// Members of all archives of an image together; one OCI layer has at most 200 000 entries.
const MEMBERS_MAX: usize = 500_000;
/// A member counts once more per this many bytes of its path: names take memory, too.
const PATH_UNIT: usize = 256;

/// The remaining limits. Everything in an image is charged to one budget, including what fails half-way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes left to decompress.
    pub bytes: u64,
    /// Largest decompressed size of one stream.
    pub stream: u64,
    /// Members left to list.
    pub members: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: BYTES_MAX, stream: FILE_MAX, members: MEMBERS_MAX }
    }
}

impl Budget {
    /// Whether the budget is used up.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.bytes == 0 || self.members == 0
    }

    /// Charges `bytes` before the work is done. An error leaves no bytes.
    pub fn spend(&mut self, bytes: u64) -> Result<()> {
        let left = self.bytes;
        self.bytes = left.saturating_sub(bytes);
        if bytes > left { Err(spent(format!("{bytes} more bytes needed, {left} are left"))) } else { Ok(()) }
    }

    /// Counts the member at `path`.
    pub fn enter(&mut self, path: &str) -> Result<()> {
        let cost = 1 + path.len() / PATH_UNIT;
        let left = self.members;
        self.members = left.saturating_sub(cost);
        if cost > left { Err(spent("the archives have too many members".to_owned())) } else { Ok(()) }
    }

    /// Charges for storing `path` and looking up each of its directories.
    pub fn keep(&mut self, path: &str) -> Result<()> {
        self.members = self.members.saturating_sub(path.len() / PATH_UNIT);
        self.spend((path.len() * (1 + path.matches('/').count())) as u64)
    }

    /// Decompresses the first stream of `bytes`; returns its content and its compressed length.
    pub fn decompress(&mut self, compression: Compression, bytes: &[u8]) -> Result<(Vec<u8>, usize)> {
        self.decompress_at_most(compression, bytes, self.stream)
    }

    /// As [`Budget::decompress`], with a limit of `max` bytes for this stream.
    pub fn decompress_at_most(&mut self, compression: Compression, bytes: &[u8], max: u64) -> Result<(Vec<u8>, usize)> {
        let mut out = Vec::new();
        let result = compression.decompress_into(bytes, max.min(self.bytes), &mut out);
        self.bytes = self.bytes.saturating_sub(out.len() as u64);
        Ok((out, result?))
    }
}

fn spent(why: String) -> Error {
    Error::new(Class::UntrustedData, "the image exceeds the decompression limits").why(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_decompression_is_charged() {
        let bomb = crate::samples::zstd(&vec![0; 1 << 20]);
        let mut budget = Budget { bytes: 3 << 20, members: 3, ..Budget::default() };
        budget.decompress(Compression::Zstd, &bomb).unwrap();
        assert_eq!(budget.bytes, 2 << 20);
        assert!(budget.decompress_at_most(Compression::Zstd, &bomb, 1 << 19).is_err());
        assert_eq!(budget.bytes, (2 << 20) - (1 << 19) - 1);
        assert!(budget.spend(2 << 20).is_err() && budget.is_spent());
    }

    #[test]
    fn a_long_path_counts_as_several_members() {
        let mut budget = Budget { bytes: 1, members: 3, ..Budget::default() };
        budget.enter("a").unwrap();
        assert!(budget.enter(&"x".repeat(600)).is_err() && budget.is_spent());
        let mut budget = Budget { bytes: 1 << 20, members: 8, ..Budget::default() };
        budget.keep(&"a/".repeat(300)).unwrap();
        assert_eq!(budget, Budget { bytes: (1 << 20) - 600 * 301, members: 6, ..Budget::default() });
    }
}
