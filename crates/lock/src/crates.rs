//! The crates of a `Cargo.lock`.

use common::{Class, Error, Result, Sha256, purl};
use serde::Deserialize;

use crate::entry::{Entry, Kind};

/// A crate of a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Digest of its `.crate` file.
    pub sha256: Sha256,
}

impl Crate {
    /// Returns `<name>-<version>`: the directory in a vendored tree, and the file name without `.crate`.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    /// Returns the crate as an input.
    #[must_use]
    pub fn entry(&self) -> Entry {
        Entry {
            name: self.directory(),
            uri: purl::cargo(&self.name, &self.version),
            sha256: self.sha256,
            size: None,
            kind: Kind::Crate,
        }
    }
}

#[derive(Deserialize)]
struct CargoLock {
    version: u32,
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<Sha256>,
}

/// Returns the crates of a `Cargo.lock`, without the workspace's members.
///
/// # Errors
/// [`Class::BadInput`] for malformed TOML, and for a crate that is not from a registry and therefore has no digest.
pub fn parse_cargo_lock(file: &str, text: &str) -> Result<Vec<Crate>> {
    let bad =
        |why: String| Error::new(Class::BadInput, "the Cargo.lock is malformed or unsupported").file(file).why(why);
    let lock: CargoLock = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
    if !(3..=4).contains(&lock.version) {
        return Err(bad(format!("unsupported format version {} (supported: 3, 4)", lock.version)));
    }
    let mut crates = Vec::new();
    for Package { name, version, source, checksum } in lock.package {
        let plain =
            |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.+".contains(&c));
        if !plain(&name) || !plain(&version) || name.starts_with('.') {
            return Err(bad(format!("invalid crate name or version: {name:?} {version:?}")));
        }
        match (source, checksum) {
            (None, None) => {}
            (Some(source), Some(sha256)) if source.starts_with("registry+") => {
                crates.push(Crate { name, version, sha256 });
            }
            (source, _) => {
                let source = source.unwrap_or_default();
                return Err(bad(format!(
                    "{name} {version} from {source:?} has no checksum: it is not from a registry"
                )));
            }
        }
    }
    Ok(crates)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
version = 4

[[package]]
name = "ours"
version = "0.1.0"
dependencies = ["serde"]

[[package]]
name = "serde"
version = "1.0.1+x"
source = "registry+https://example.org/index"
checksum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"#;

    #[test]
    fn returns_crates_without_members() {
        let crates = parse_cargo_lock("Cargo.lock", LOCK).unwrap();
        assert_eq!(crates.len(), 1);
        assert_eq!(crates[0].directory(), "serde-1.0.1+x");
        assert_eq!(crates[0].entry().uri, "pkg:cargo/serde@1.0.1%2Bx");
    }

    #[test]
    fn a_crate_without_checksum_is_refused() {
        for (from, to, why) in [
            ("registry+https", "git+https", "has no checksum"),
            ("checksum = \"ba78", "checksum = \"a78", "64 lower-case"),
            ("version = 4", "version = 9", "unsupported format version 9"),
            ("name = \"serde\"", "name = \"../serde\"", "invalid crate name"),
            ("name = \"serde\"", "name = 1", "Cargo.lock"),
        ] {
            let error = parse_cargo_lock("Cargo.lock", &LOCK.replacen(from, to, 1)).unwrap_err();
            assert!(error.to_string().contains(why), "{to}: {error}");
        }
    }
}
