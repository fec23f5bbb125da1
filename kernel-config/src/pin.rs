//! `pin.toml`: which kernel source, and where the upstream configurations come from, by digest.

use std::collections::BTreeMap;

use common::path::is_plain;
use common::{Class, Error, Result, Sha256};
use serde::Deserialize;

/// The pin file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Time stamp of every output, in seconds since 1970 (SOURCE_DATE_EPOCH).
    pub epoch: u64,
    /// The kernel source.
    pub kernel: Kernel,
    /// Originals of the files in `upstream/`, by name. No build reads them.
    pub config: BTreeMap<String, UpstreamConfig>,
}

/// A kernel version and its two sources.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Version in the source's Makefile, `6.12.117`.
    pub version: String,
    /// `6.12.117-talos`: output of `uname -r`, and the name of the module directory.
    pub release: String,
    /// First source.
    pub debian: DebianSource,
    /// Second source.
    pub upstream: UpstreamSource,
}

/// A tarball inside a Debian binary package (`deb(5)`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DebianSource {
    /// Package name.
    pub package: String,
    /// Debian version.
    pub version: String,
    /// Debian architecture, `all` for sources.
    pub arch: String,
    /// Directory below the root of an archive mirror.
    pub pool: String,
    /// Digest of the package file.
    pub sha256: Sha256,
    /// Path of the tarball inside the package, without a leading slash.
    pub member: String,
}

impl DebianSource {
    /// Name of the package file, `linux-source-6.12_6.12.117-1_all.deb`.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.package, self.version, self.arch)
    }

    /// Path of the package file below the root of an archive mirror.
    #[must_use]
    pub fn pool_path(&self) -> String {
        format!("{}/{}", self.pool, self.file_name())
    }
}

/// The tarball from kernel.org.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawUpstream")]
pub struct UpstreamSource {
    /// Its address.
    pub url: String,
    digest: Result<Sha256, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUpstream {
    url: String,
    sha256: Option<Sha256>,
    unpinned: Option<String>,
}

impl TryFrom<RawUpstream> for UpstreamSource {
    type Error = String;

    fn try_from(raw: RawUpstream) -> Result<Self, String> {
        let digest = match (raw.sha256, raw.unpinned) {
            (Some(digest), None) => Ok(digest),
            (None, Some(reason)) => Err(reason),
            _ => return Err("set either `sha256`, or `unpinned` with the reason".to_owned()),
        };
        Ok(Self { url: raw.url, digest })
    }
}

impl UpstreamSource {
    /// Returns the expected digest of the tarball: the pinned one, or the one `given` by the user (`--kernel-sha256`).
    ///
    /// # Errors
    /// [`Class::BadInput`] when there is neither; [`Class::Verification`] when they differ.
    pub fn sha256(&self, given: Option<Sha256>) -> Result<Sha256> {
        match (&self.digest, given) {
            (Err(_), Some(given)) => Ok(given),
            (Ok(pinned), None) => Ok(*pinned),
            (Ok(pinned), Some(given)) if *pinned == given => Ok(given),
            (Ok(pinned), Some(given)) => Err(Error::new(Class::Verification, "digest mismatch for the kernel source")
                .file("pin.toml")
                .why(format!("pinned {pinned}\ngiven  {given}"))),
            (Err(reason), None) => Err(Error::new(Class::BadInput, "the kernel.org source has no pinned digest")
                .file("pin.toml")
                .why(reason)
                .hint(format!("give `--kernel-sha256 <digest of {}>`", self.url))),
        }
    }
}

/// Origin of a file in `upstream/`: a third-party configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Its address at that commit.
    pub url: String,
    /// Commit of its repository.
    pub commit: String,
    /// Digest of the file.
    pub sha256: Sha256,
    /// Size in bytes.
    pub size: u64,
}

impl Pin {
    /// Parses the pin file; errors name `file`.
    ///
    /// # Errors
    /// [`Class::BadInput`] for malformed TOML, an unknown key, a path that is not relative and plain, and values that do not match.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let bad = |why: String| Error::new(Class::BadInput, "the kernel pin is malformed").file(file).why(why);
        let pin: Self = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
        pin.validate().map_err(bad)?;
        Ok(pin)
    }

    fn validate(&self) -> Result<(), String> {
        let Kernel { version, release, debian, upstream } = &self.kernel;
        if !release.strip_prefix(version.as_str()).is_some_and(|rest| rest.starts_with('-')) {
            return Err(format!("invalid release `{release}`: expected `{version}-…`"));
        }
        for path in [&debian.pool, &debian.member] {
            if !is_plain(path) {
                return Err(format!("invalid path `{path}`: must be relative, without `.` and `..`"));
            }
        }
        if !upstream.url.contains(&format!("-{version}.")) {
            return Err(format!("`{}` does not contain version {version}", upstream.url));
        }
        match self.config.iter().find(|(_, config)| !config.url.contains(&config.commit)) {
            Some((name, _)) => Err(format!("the URL of config `{name}` does not contain its commit")),
            None => Ok(()),
        }
    }

    /// Returns the upstream configuration `name`.
    ///
    /// # Errors
    /// [`Class::BadInput`] for an unknown name, listing the known ones.
    pub fn config(&self, name: &str) -> Result<&UpstreamConfig> {
        self.config.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.config.keys().map(String::as_str).collect();
            Error::new(Class::BadInput, format!("upstream configuration `{name}` is not pinned"))
                .file("pin.toml")
                .hint(format!("use one of: {}", known.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = include_str!("../pin.toml");

    #[test]
    fn our_pin_parses() -> Result<()> {
        let pin = Pin::parse("pin.toml", OURS)?;
        assert_eq!(pin.kernel.debian.pool_path(), "pool/updates/main/l/linux/linux-source-6.12_6.12.117-1_all.deb");
        assert_eq!(
            pin.kernel.debian.sha256.to_string(),
            "9141325315c7f1eca682113d185a8c77c82814aa6e32f7e127e61d6106403835"
        );
        assert_eq!(pin.config("talos-1.10.3")?.size, 191_935);
        let error = pin.config("talos-1.9").expect_err("not pinned");
        assert!(error.to_string().contains("use one of: talos-1.10.3"), "{error}");
        Ok(())
    }

    #[test]
    fn an_unpinned_source_needs_a_digest_from_the_user() -> Result<()> {
        let (one, two) = (Sha256::of("1"), Sha256::of("2"));
        let unpinned = Pin::parse("pin.toml", OURS)?.kernel.upstream;
        let error = unpinned.sha256(None).expect_err("no digest");
        assert_eq!(error.class(), Class::BadInput);
        assert!(
            error.to_string().contains("--kernel-sha256") && error.to_string().contains("sha256sums.asc"),
            "{error}"
        );
        assert_eq!(unpinned.sha256(Some(one))?, one);

        let pinned = UpstreamSource { url: unpinned.url, digest: Ok(one) };
        assert_eq!(pinned.sha256(None)?, one);
        assert_eq!(pinned.sha256(Some(one))?, one);
        assert_eq!(pinned.sha256(Some(two)).expect_err("mismatch").class(), Class::Verification);
        Ok(())
    }

    #[test]
    fn inconsistent_pins_are_refused() {
        for (from, to, why) in [
            ("release = \"6.12.117-talos\"", "release = \"6.12.118-talos\"", "expected `6.12.117-"),
            ("release = \"6.12.117-talos\"", "release = \"6.12.117\"", "expected `6.12.117-"),
            ("member = \"usr/", "member = \"../usr/", "must be relative"),
            ("pool = \"pool/", "pool = \"/pool/", "must be relative"),
            ("linux-6.12.117.tar.xz\"", "linux-6.12.116.tar.xz\"", "does not contain version"),
            ("commit = \"39b9", "commit = \"49b9", "does not contain its commit"),
            ("unpinned = ", "why = ", "unknown field"),
            ("arch = \"all\"", "", "missing field `arch`"),
            ("sha256 = \"9141", "sha256 = \"141", "pin.toml"),
            (
                "[kernel.upstream]",
                "[kernel.upstream]\nsha256 = \"9141325315c7f1eca682113d185a8c77c82814aa6e32f7e127e61d6106403835\"",
                "either",
            ),
        ] {
            assert!(OURS.contains(from), "{from}");
            let error = Pin::parse("pin.toml", &OURS.replacen(from, to, 1)).expect_err(to);
            assert!(error.to_string().contains(why), "{to}: {error}");
        }
    }
}
