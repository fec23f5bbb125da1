//! Parses the package lists and the installed versions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use common::{Class, Error, Result, Sha256};
use lock::{List, Lock};

/// Parses a list of packages: one per line, `NAME/SUITE` for another suite (as for apt-get), `#` starts a comment.
///
/// # Errors
/// [`Class::BadInput`] for an invalid package name (Debian policy 5.6.7) or a duplicate.
pub fn parse_list(text: &str) -> Result<BTreeSet<String>> {
    let mut packages = BTreeSet::new();
    for (number, line) in text.lines().enumerate() {
        let name = line.split('#').next().unwrap_or("").trim();
        if name.is_empty() {
            continue;
        }
        let valid = name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"+-./".contains(&c));
        if !valid || !packages.insert(name.to_owned()) {
            let why = if valid { "duplicate" } else { "invalid package name" };
            return Err(Error::new(Class::BadInput, "the package list is malformed")
                .why(format!("line {}: {why} {name:?}", number + 1)));
        }
    }
    Ok(packages)
}

/// Installed packages and their versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions(BTreeMap<String, String>);

impl Versions {
    /// Parses `name version` lines; `#` starts a comment.
    ///
    /// # Errors
    /// [`Class::UntrustedData`] for any other line.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let versions = lines.map(|(number, line)| match line.split_once(' ') {
            Some((name, version)) if !version.contains(' ') => Ok((name.to_owned(), version.to_owned())),
            _ => Err(Error::new(Class::UntrustedData, "the list of installed packages is malformed")
                .why(format!("line {}: expected `name version`, found {line:?}", number + 1))),
        });
        versions.collect::<Result<_>>().map(Self)
    }

    /// Returns the locked versions of the packages in the `wanted` lists.
    #[must_use]
    pub fn of(lock: &Lock, wanted: impl Fn(List) -> bool) -> Self {
        let packages = lock.package.iter().filter(|p| wanted(p.list));
        Self(packages.map(|p| (p.name.clone(), p.version.clone())).collect())
    }

    /// Returns the digest of the list.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        Sha256::of(self.to_string())
    }

    /// Returns the version of a package.
    #[must_use]
    pub fn get(&self, package: &str) -> Option<&str> {
        self.0.get(package).map(String::as_str)
    }

    /// Returns the differences between `self`, the installed set, and the locked one, one per line.
    #[must_use]
    pub fn differences(&self, locked: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.0.keys().chain(locked.0.keys()).collect();
        let changed = names.into_iter().filter_map(|name| {
            let (got, want) = (self.get(name), locked.get(name));
            (got != want)
                .then(|| format!("{name}: installed {}, locked {}", got.unwrap_or("not"), want.unwrap_or("not")))
        });
        changed.collect()
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, version)| writeln!(f, "{name} {version}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_a_list_with_comments() {
        let list = parse_list("# why\nclang\n\nlld # linker\nlibstdc++6\n").unwrap();
        assert_eq!(list.into_iter().collect::<Vec<_>>(), ["clang", "libstdc++6", "lld"]);
    }

    #[test]
    fn invalid_and_duplicate_names_are_refused() {
        assert!(parse_list("clang\nclang\n").unwrap_err().to_string().contains("line 2: duplicate \"clang\""));
        assert!(parse_list("Clang; rm\n").unwrap_err().to_string().contains("invalid package name"));
    }

    #[test]
    fn reports_differences_by_name() {
        let locked = Versions::parse("# recorded\nclang 1\nlld 2\n").unwrap();
        let installed = Versions::parse("clang 1\nlld 3\nzstd 1\n").unwrap();
        assert!(locked.differences(&locked).is_empty());
        assert_eq!(installed.differences(&locked), ["lld: installed 3, locked 2", "zstd: installed 1, locked not"]);
        assert!(Versions::parse("clang\n").is_err());
    }
}
