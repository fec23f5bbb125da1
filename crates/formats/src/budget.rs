//! What taking one image apart may cost, whatever is packed into what.

use common::{Class, Error, Result};

use crate::Compression;

/// What one file of an image may come to in memory, decompressed, in bytes.
pub const FILE_MAX: u64 = 1 << 30;
/// All that is decompressed out of one image, in bytes: several times what an installer with large extensions comes to.
const BYTES_MAX: u64 = 4 << 30;
/// Members of all its archives together, an OCI layer having at most 200 000 entries.
const MEMBERS_MAX: usize = 500_000;
/// With every so many bytes of its path, a member counts once more: names take memory, too.
const PATH_UNIT: usize = 256;

/// How much is left. Everything that is in an image draws on one budget, also what fails half-way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that may still be decompressed.
    pub bytes: u64,
    /// Bytes that one stream may decompress to.
    pub stream: u64,
    /// Members that may still be listed.
    pub members: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: BYTES_MAX, stream: FILE_MAX, members: MEMBERS_MAX }
    }
}

impl Budget {
    /// Whether nothing more can be taken apart.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.bytes == 0 || self.members == 0
    }

    /// Draws `bytes` for work that is about to be done.
    ///
    /// # Errors
    /// [`Class::BadInput`] when they are not left; then none are.
    pub fn spend(&mut self, bytes: u64) -> Result<()> {
        let left = self.bytes;
        self.bytes = left.saturating_sub(bytes);
        if bytes > left { Err(spent(format!("{bytes} bytes more, {left} are left"))) } else { Ok(()) }
    }

    /// Counts the member at `path`.
    ///
    /// # Errors
    /// As [`Budget::spend`].
    pub fn enter(&mut self, path: &str) -> Result<()> {
        let cost = 1 + path.len() / PATH_UNIT;
        let left = self.members;
        self.members = left.saturating_sub(cost);
        if cost > left { Err(spent("its archives have too many members".to_owned())) } else { Ok(()) }
    }

    /// Draws what keeping `path` and looking for each directory of it takes.
    ///
    /// # Errors
    /// As [`Budget::spend`].
    pub fn keep(&mut self, path: &str) -> Result<()> {
        self.members = self.members.saturating_sub(path.len() / PATH_UNIT);
        self.spend((path.len() * (1 + path.matches('/').count())) as u64)
    }

    /// The content of the first stream of `bytes`, and the length of that stream.
    ///
    /// # Errors
    /// As [`Compression::decompress`].
    pub fn decompress(&mut self, compression: Compression, bytes: &[u8]) -> Result<(Vec<u8>, usize)> {
        self.decompress_at_most(compression, bytes, self.stream)
    }

    /// As [`Budget::decompress`], with a limit of `max` bytes for this one.
    ///
    /// # Errors
    /// As [`Compression::decompress`].
    pub fn decompress_at_most(&mut self, compression: Compression, bytes: &[u8], max: u64) -> Result<(Vec<u8>, usize)> {
        let mut out = Vec::new();
        let result = compression.decompress_into(bytes, max.min(self.bytes), &mut out);
        self.bytes = self.bytes.saturating_sub(out.len() as u64);
        Ok((out, result?))
    }
}

fn spent(why: String) -> Error {
    Error::new(Class::BadInput, "taking it apart costs more than one image may").why(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_charged() {
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
