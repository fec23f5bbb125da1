//! Digests of our own sources, which are inputs of stages whose output our code produces.

use crate::error::{Class, Error, Result};

/// A digest per package of the workspace, of its sources and those of its dependencies. The table is computed when the program is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Sources(&'static str);

impl Sources {
    /// Parses `package digest`, separated by semicolons.
    #[must_use]
    pub const fn new(table: &'static str) -> Self {
        Self(table)
    }

    /// Returns the digest for `package`.
    ///
    /// # Errors
    /// [`Class::Infrastructure`] if there is none: the stage key would be incomplete.
    pub fn of(&self, package: &str) -> Result<&'static str> {
        let mut entries = self.0.split(';').filter_map(|entry| entry.split_once(' '));
        entries.find(|(name, _)| *name == package).map(|(_, digest)| digest).ok_or_else(|| {
            Error::new(Class::Infrastructure, format!("unknown digest of the sources of {package}"))
                .why("the program was compiled without it")
        })
    }
}
