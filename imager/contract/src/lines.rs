//! The known lines, and which of them a release belongs to.

use semver::Version;

use common::{Class, Error, Result};

use crate::DEFAULT_RELEASE;
use crate::line::{Line, Name};

/// The data files compiled in.
const FILES: [(&str, &str); 1] = [("lines/v1.10.toml", include_str!("../lines/v1.10.toml"))];

/// Lines, the oldest first.
#[derive(Clone, Debug)]
pub struct Lines(Vec<Line>);

impl Lines {
    /// The lines that this program supports.
    ///
    /// # Errors
    /// [`Class::BadInput`] when a data file compiled in is malformed, which its test rules out.
    pub fn supported() -> Result<Self> {
        Self::parse(&FILES)
    }

    /// Parses data files, each given as name and text.
    ///
    /// # Errors
    /// As [`Line::parse`], and [`Class::BadInput`] when two are of the same line.
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

    /// The line of `release`.
    ///
    /// # Errors
    /// [`Class::BadInput`] with the known lines when its line is not among them.
    pub fn of(&self, release: &Version) -> Result<&Line> {
        let name = Name::of(release);
        self.0.iter().find(|line| line.name == name).ok_or_else(|| self.unknown(release))
    }

    /// The line of `release`, or else the newest one before it, or else the oldest: for what lines only add to, such as the allowed paths
    /// of extensions.
    ///
    /// # Errors
    /// [`Class::BadInput`] when there is no line at all.
    pub fn nearest(&self, release: &Version) -> Result<&Line> {
        let name = Name::of(release);
        self.0.iter().rfind(|line| line.name <= name).or(self.0.first()).ok_or_else(|| self.unknown(release))
    }

    fn unknown(&self, release: &Version) -> Error {
        let known: Vec<_> = self.0.iter().map(|line| line.name.to_string()).collect();
        Error::new(Class::BadInput, format!("Talos v{release} is of an unknown line"))
            .hint(format!("known lines: {}", known.join(", ")))
    }
}

impl Line {
    /// The line of [`DEFAULT_RELEASE`].
    ///
    /// # Errors
    /// As [`Lines::supported`] and [`Lines::of`].
    pub fn default_release() -> Result<Self> {
        Lines::supported()?.of(&version(DEFAULT_RELEASE)?).cloned()
    }
}

/// Parses the version of a Talos release, with or without the `v`.
///
/// # Errors
/// [`Class::BadInput`] when it is not a semantic version.
pub fn version(text: &str) -> Result<Version> {
    Version::parse(text.strip_prefix('v').unwrap_or(text)).map_err(|e| {
        Error::new(Class::BadInput, format!("{text:?} is not a Talos version")).why(e).hint("write it like v1.10.3")
    })
}
