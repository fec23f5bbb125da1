//! The supported lines, looked up by release.

use semver::Version;

use common::{Class, Error, Result};

use crate::DEFAULT_RELEASE;
use crate::line::{Line, Name};

/// The embedded data files.
const FILES: [(&str, &str); 1] = [("lines/v1.10.toml", include_str!("../lines/v1.10.toml"))];

/// Lines, oldest first.
#[derive(Clone, Debug)]
pub struct Lines(Vec<Line>);

impl Lines {
    /// Returns the supported lines. A test rules out that an embedded file is malformed.
    pub fn supported() -> Result<Self> {
        Self::parse(&FILES)
    }

    /// Parses data files, each a pair of name and text.
    ///
    /// # Errors
    /// [`Class::BadInput`] for a malformed file, and for two files of the same line.
    pub fn parse(files: &[(&str, &str)]) -> Result<Self> {
        let mut lines = files.iter().map(|(file, text)| Line::parse(file, text)).collect::<Result<Vec<_>>>()?;
        lines.sort_by_key(|line| line.name);
        match lines.windows(2).find(|pair| pair[0].name == pair[1].name) {
            None => Ok(Self(lines)),
            Some(pair) => {
                Err(Error::new(Class::BadInput, format!("two files describe the Talos line {}", pair[0].name)))
            }
        }
    }

    /// Returns the line of `release`.
    ///
    /// # Errors
    /// [`Class::BadInput`] when it is not supported.
    pub fn of(&self, release: &Version) -> Result<&Line> {
        let name = Name::of(release);
        self.0.iter().find(|line| line.name == name).ok_or_else(|| self.unknown(release))
    }

    fn unknown(&self, release: &Version) -> Error {
        let known: Vec<_> = self.0.iter().map(|line| line.name.to_string()).collect();
        Error::new(Class::BadInput, format!("Talos v{release} is not supported"))
            .hint(format!("supported lines: {}", known.join(", ")))
    }
}

impl Line {
    /// Returns the line of [`DEFAULT_RELEASE`].
    pub fn default_release() -> Result<Self> {
        Lines::supported()?.of(&version(DEFAULT_RELEASE)?).cloned()
    }
}

/// Parses the version of a Talos release, with or without the `v`.
pub fn version(text: &str) -> Result<Version> {
    Version::parse(text.strip_prefix('v').unwrap_or(text)).map_err(|e| {
        Error::new(Class::BadInput, format!("invalid Talos version {text:?}"))
            .why(e)
            .hint("use a version such as v1.10.3")
    })
}
