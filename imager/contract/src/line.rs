//! Format of the data file of a line.

use std::fmt;

use semver::Version;
use serde::Deserialize;

use common::{Class, Error, Result};

/// A line of Talos releases with the same requirements on an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Major and minor version of the releases.
    #[serde(rename = "line")]
    pub name: Name,
    /// The image with the boot files.
    pub imager: ImagerImage,
    /// The installer image.
    pub installer: InstallerImage,
    /// The image with the kernel.
    pub kernel: KernelImage,
    /// The unified kernel image.
    pub uki: Uki,
    /// The kernel command line.
    pub arguments: Arguments,
}

/// Major and minor version of a release, written `v1.10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(u64, u64);

/// Paths in Talos's image `imager`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagerImage {
    /// systemd's UEFI stub.
    pub stub: String,
    /// systemd-boot.
    pub boot_loader: String,
    /// Talos's initramfs.
    pub initramfs: String,
}

/// Talos's image `installer-base` and the layer on top of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstallerImage {
    /// Entrypoint of the image.
    pub entrypoint: String,
    /// Label that contains the Talos release.
    pub version_label: String,
    /// Path of the unified kernel image.
    pub uki: String,
    /// Path of systemd-boot.
    pub boot_loader: String,
}

/// The kernel image, as Talos's own build expects it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelImage {
    /// Path of the bzImage.
    pub image: String,
    /// Required empty directories.
    pub directories: Vec<String>,
}

/// The unified kernel image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uki {
    /// Text of the section `.profile`.
    pub profile: String,
}

/// The kernel command line of every Talos image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Arguments of the platform; they come first.
    pub platform: Vec<String>,
    /// Arguments on every platform.
    pub defaults: Vec<String>,
    /// Arguments that machined requires: `key=value`, or `key` for any value.
    pub required: Vec<String>,
    /// Keys whose later value replaces an earlier one.
    pub overwrite: Vec<String>,
}

impl Line {
    /// Parses a data file; `file` is named in errors.
    ///
    /// # Errors
    /// [`Class::BadInput`] for a missing or unknown key.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let bad =
            |why: String| Error::new(Class::BadInput, "the data file of a Talos line is malformed").file(file).why(why);
        toml::from_str(text).map_err(|e| bad(e.to_string()))
    }
}

impl Name {
    /// Returns the line of `release`.
    #[must_use]
    pub fn of(release: &Version) -> Self {
        Self(release.major, release.minor)
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let numbers = text.strip_prefix('v').and_then(|rest| rest.split_once('.'));
        let parsed = numbers.and_then(|(major, minor)| Some(Self(major.parse().ok()?, minor.parse().ok()?)));
        parsed.filter(|name| name.to_string() == text).ok_or_else(|| format!("{text:?} is not a line such as v1.10"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}", self.0, self.1)
    }
}
