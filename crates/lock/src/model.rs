//! The lock and its canonical text.

use std::fmt;

use common::{Class, Error, Result, Sha256};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// The only version of the format.
const VERSION: u32 = 1;

const HEAD: &str = "\
# Every input of a build by digest. Written by `solana-talos update`; do not edit, and commit it with what it was made from:
# kernel-config/pin.toml, crates/toolchain/*.list, Cargo.lock, tests/guest/Cargo.lock, imager/base/go/*/modules.sums.

";

/// The lock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    /// The kernel's source.
    pub kernel: Kernel,
    /// Kernel configurations in older locks, which a build downloaded then. Read over, and gone when the lock is written.
    #[serde(default, skip_serializing, rename = "config")]
    _config: IgnoredAny,
    /// The `Cargo.lock` files, which list the crates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cargo: Vec<CargoLock>,
    /// The lists of Go module files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub go: Vec<GoSums>,
    /// Base images for `--base`, locked with `update --base`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub base: Vec<BaseImage>,
    /// Files of packages that outputs contain unchanged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file: Vec<File>,
    /// The toolchain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub package: Vec<Package>,
}

/// The package with the kernel's source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Package name.
    pub package: String,
    /// Debian version.
    pub version: String,
    /// Debian architecture.
    pub architecture: String,
    /// Path in an archive.
    pub path: String,
    /// Digest of the package file.
    pub sha256: Sha256,
}

/// A `Cargo.lock` of the project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CargoLock {
    /// Its path in the project.
    pub lock: String,
    /// Digest of the file.
    pub sha256: Sha256,
}

/// A `modules.sums` of the project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoSums {
    /// Its path in the project.
    pub sums: String,
    /// Digest of the file.
    pub sha256: Sha256,
}

/// A base image of an installer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseImage {
    /// Its reference, such as `ghcr.io/siderolabs/imager:v1.10.3`.
    pub reference: String,
    /// Digest of the amd64 manifest.
    pub sha256: Sha256,
    /// Size of the manifest in bytes.
    pub size: u64,
    /// Config and layers.
    pub blob: Vec<Blob>,
}

impl BaseImage {
    /// Returns the digests of manifest, config and layers.
    pub fn digests(&self) -> impl Iterator<Item = Sha256> {
        std::iter::once(self.sha256).chain(self.blob.iter().map(|blob| blob.sha256))
    }
}

/// A blob of a base image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// Its digest.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size: u64,
}

/// A file of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its package.
    pub package: String,
    /// Its path in the toolchain, without the leading slash.
    pub path: String,
    /// Its digest.
    pub sha256: Sha256,
}

/// A package of the toolchain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Package name.
    pub name: String,
    /// Debian version.
    pub version: String,
    /// Debian architecture.
    pub architecture: String,
    /// The list that requires it.
    pub list: List,
    /// Path in an archive.
    pub path: String,
    /// Digest of the package file.
    pub sha256: Sha256,
    /// Size of the package file in bytes.
    pub size: u64,
}

/// The list that requires a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum List {
    /// `crates/toolchain/packages.list`: it makes outputs, so its version is part of every stage's key.
    Packages,
    /// `crates/toolchain/base.list`: only the base made from Talos's sources needs it, and only its stages have the version in their keys.
    Base,
    /// `crates/toolchain/reference-tools.list`: it only inspects outputs. Older locks call it `judges`.
    #[serde(alias = "judges")]
    ReferenceTools,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Packages => "packages",
            Self::Base => "base",
            Self::ReferenceTools => "reference-tools",
        })
    }
}

impl Lock {
    /// Returns a lock with only the kernel's source.
    #[must_use]
    pub fn new(kernel: Kernel) -> Self {
        let (_config, cargo, go, base, file, package) = Default::default();
        Self { version: VERSION, kernel, _config, cargo, go, base, file, package }
    }

    /// Parses a lock; errors name `file`.
    ///
    /// # Errors
    /// [`Class::BadInput`] for malformed TOML, an unknown key, a list that is not sorted or has duplicates, or an unsafe path.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let bad = |why: String| {
            Error::new(Class::BadInput, "the lock is malformed")
                .file(file)
                .why(why)
                .hint("restore it from version control; or remove it, run `solana-talos update`, and lock the base images again with `update --base`")
        };
        let lock: Self = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
        lock.validate().map_err(bad)?;
        Ok(lock)
    }

    fn validate(&self) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!("unsupported format version {} (supported: {VERSION})", self.version));
        }
        in_order("cargo", self.cargo.iter().map(|c| &c.lock))?;
        in_order("go", self.go.iter().map(|g| &g.sums))?;
        in_order("base", self.base.iter().map(|b| &b.reference))?;
        in_order("file", self.file.iter().map(|f| &f.path))?;
        in_order("package", self.package.iter().map(|p| &p.name))?;
        let paths = self.package.iter().map(|p| &p.path).chain([&self.kernel.path]);
        let ours = self.cargo.iter().map(|c| &c.lock).chain(self.go.iter().map(|g| &g.sums));
        for path in paths.chain(self.file.iter().map(|f| &f.path)).chain(ours) {
            plain(path)?;
        }
        for Package { name, version, architecture, .. } in &self.package {
            word(name, "+-.")?;
            word(version, "+-.:~")?;
            word(architecture, "-")?;
        }
        for file in &self.file {
            if !self.package.iter().any(|p| p.name == file.package) {
                return Err(format!("the package {} of {} is not locked", file.package, file.path));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        f.write_str(&toml::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// Fails if `names` are not sorted or have duplicates: the text of a lock is canonical.
fn in_order<'a>(list: &str, names: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let names: Vec<_> = names.collect();
    match names.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => Err(format!("the list `{list}` is not sorted: {} precedes {}", pair[0], pair[1])),
        None => Ok(()),
    }
}

fn plain(path: &str) -> Result<(), String> {
    let fine = common::path::is_plain(path) && path.bytes().all(|c| c.is_ascii_graphic() && !br#""'\$`"#.contains(&c));
    if fine { Ok(()) } else { Err(format!("{path:?} is not a plain relative path")) }
}

/// Debian policy 5.6.7 and 5.6.12, without the rules for the order of characters.
fn word(text: &str, punctuation: &str) -> Result<(), String> {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let fine = first && text.chars().all(|c| c.is_ascii_alphanumeric() || punctuation.contains(c));
    if fine { Ok(()) } else { Err(format!("{text:?} is not a Debian package name, version or architecture")) }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A lock with one or two entries in each list.
    pub(crate) fn sample() -> Lock {
        let package = |name: &str, list| Package {
            name: name.into(),
            version: "1:2.0~rc1+b1-3".into(),
            architecture: "amd64".into(),
            list,
            path: format!("pool/main/{name}_2.0.deb"),
            sha256: Sha256::of(name),
            size: 7,
        };
        Lock {
            cargo: vec![CargoLock { lock: "Cargo.lock".into(), sha256: Sha256::of("l") }],
            go: vec![GoSums { sums: "go/modules.sums".into(), sha256: Sha256::of("g") }],
            base: vec![BaseImage {
                reference: "r.example/a:1".into(),
                sha256: Sha256::of("m"),
                size: 2,
                blob: vec![Blob { sha256: Sha256::of("b"), size: 3 }],
            }],
            file: vec![File { package: "clang".into(), path: "usr/bin/x".into(), sha256: Sha256::of("f") }],
            package: vec![package("clang", List::Packages), package("cosign", List::ReferenceTools)],
            ..Lock::new(Kernel {
                package: "linux-source".into(),
                version: "6-1".into(),
                architecture: "all".into(),
                path: "pool/l.deb".into(),
                sha256: Sha256::of("k"),
            })
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let (lock, text) = (sample(), sample().to_string());
        assert_eq!(Lock::parse("x", &text).unwrap(), lock);
        let old = text.replace("\"reference-tools\"", "\"judges\"");
        assert!(old != text && Lock::parse("x", &old).unwrap() == lock);
    }

    #[test]
    fn kernel_configurations_of_older_locks_are_ignored() {
        let text = sample().to_string();
        let old = text.replacen("[[cargo]]", "[[config]]\nname = \"talos\"\nsize = 1\n\n[[cargo]]", 1);
        assert!(old != text && Lock::parse("x", &old).unwrap().to_string() == text);
    }

    #[test]
    fn malformed_locks_are_refused() {
        let text = sample().to_string();
        let clang = Sha256::of("clang").to_string();
        for (from, to, why) in [
            ("version = 1\n", "version = 2\n", "unsupported format version 2"),
            ("version = 1\n", "version = 1\nmore = 1\n", "unknown field `more`"),
            ("list = \"reference-tools\"", "list = \"others\"", "unknown variant"),
            ("name = \"cosign\"", "name = \"clang\"", "not sorted: clang precedes clang"),
            ("name = \"cosign\"", "name = \"bash\"", "not sorted: clang precedes bash"),
            ("name = \"cosign\"", "name = \"cosign; rm\"", "is not a Debian package name"),
            ("version = \"6-1\"\n", "", "missing field `version`"),
            ("path = \"pool/l.deb\"", "path = \"/pool/l.deb\"", "not a plain relative path"),
            ("path = \"pool/main/clang", "path = \"pool/../clang", "not a plain relative path"),
            ("path = \"pool/main/clang", "path = \"pool/$(id)", "not a plain relative path"),
            ("path = \"usr/bin/x\"", "path = \"../bin/x\"", "not a plain relative path"),
            ("sums = \"go/", "sums = \"/go/", "not a plain relative path"),
            ("package = \"clang\"", "package = \"lld\"", "package lld of usr/bin/x is not locked"),
            ("size = 7", "size = -7", "size"),
            (&clang, &clang[1..], "expected 64"),
        ] {
            assert!(text.contains(from), "{from}");
            let error = Lock::parse("the.lock", &text.replacen(from, to, 1)).expect_err(to);
            assert!(error.to_string().contains(why), "{to}: {error}");
            assert_eq!(error.class(), Class::BadInput);
            // `update` reads it first, so it cannot repair it.
            assert!(error.to_string().contains("restore it from version control; or remove it, run"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_accepted_or_refused(text in "(version|kernel|\\[\\[package\\]\\]|sha256|= ?1|\"|\n|[a-z]){0,40}") {
            let _ = Lock::parse("x", &text);
        }

        #[test]
        fn a_truncated_lock_is_refused(cut in 300_usize..1500) {
            let text = sample().to_string();
            // A cut between packages leaves a shorter valid lock, but never half a package.
            if let Ok(lock) = Lock::parse("x", text.get(..cut).unwrap_or(&text)) {
                prop_assert_eq!(Lock::parse("x", &lock.to_string()).unwrap(), lock);
            }
        }
    }
}
