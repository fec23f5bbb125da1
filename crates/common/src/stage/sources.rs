//! Digests of our own sources, which are inputs of whatever our code makes.

use crate::error::{Class, Error, Result};

/// For each package of the workspace, a digest of its sources and of those that it uses. The program carries the table: it was computed when
/// the program was compiled.
#[derive(Clone, Copy, Debug)]
pub struct Sources(&'static str);

impl Sources {
    /// From `package digest`, with semicolons between.
    #[must_use]
    pub const fn new(table: &'static str) -> Self {
        Self(table)
    }

    /// The digest for `package`.
    ///
    /// # Errors
    /// [`Class::Infrastructure`] when the table does not have it: without the digest, a stage would be keyed by less than it reads.
    pub(super) fn of(&self, package: &str) -> Result<&'static str> {
        let mut entries = self.0.split(';').filter_map(|entry| entry.split_once(' '));
        entries.find(|(name, _)| *name == package).map(|(_, digest)| digest).ok_or_else(|| {
            Error::new(Class::Infrastructure, format!("the digest of the sources of {package} is unknown"))
                .why("the program was compiled without it")
        })
    }
}
