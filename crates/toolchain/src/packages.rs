//! The package lists and the installed versions, as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use common::{Class, Error, Result, Sha256};
use lock::{List, Lock};

/// Reads a list of packages: one a line, `NAME/SUITE` for one of another suite (as apt-get takes it), `#` begins a comment.
///
/// # Errors
/// [`Class::BadInput`] for a line that is no Debian package name (policy 5.6.7) or stands twice.
pub fn parse_list(text: &str) -> Result<BTreeSet<String>> {
    let mut packages = BTreeSet::new();
    for (number, line) in text.lines().enumerate() {
        let name = line.split('#').next().unwrap_or("").trim();
        if name.is_empty() {
            continue;
        }
        let valid = name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"+-./".contains(&c));
        if !valid || !packages.insert(name.to_owned()) {
            let why = if valid { "it stands twice" } else { "it is no package name" };
            return Err(Error::new(Class::BadInput, format!("cannot use {name:?} in the package list"))
                .why(format!("line {}: {why}", number + 1)));
        }
    }
    Ok(packages)
}

/// Installed packages and their versions, as `dpkg-query` reports them: `name version`, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions(BTreeMap<String, String>);

impl Versions {
    /// Reads `name version` lines; `#` begins a comment line.
    ///
    /// # Errors
    /// [`Class::BadInput`] for a line of another shape.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let versions = lines.map(|(number, line)| match line.split_once(' ') {
            Some((name, version)) if !version.contains(' ') => Ok((name.to_owned(), version.to_owned())),
            _ => Err(Error::new(Class::BadInput, "cannot read the recorded package versions")
                .why(format!("line {}: expected `name version`, found {line:?}", number + 1))),
        });
        versions.collect::<Result<_>>().map(Self)
    }

    /// The locked versions of the packages of those lists.
    #[must_use]
    pub fn of(lock: &Lock, wanted: impl Fn(List) -> bool) -> Self {
        let packages = lock.package.iter().filter(|p| wanted(p.list));
        Self(packages.map(|p| (p.name.clone(), p.version.clone())).collect())
    }

    /// Digest of the whole list.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        Sha256::of(self.to_string())
    }

    /// Version of one package.
    #[must_use]
    pub fn get(&self, package: &str) -> Option<&str> {
        self.0.get(package).map(String::as_str)
    }

    /// How `self`, the installed set, differs from the locked one, a line each.
    #[must_use]
    pub fn differences(&self, locked: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.0.keys().chain(locked.0.keys()).collect();
        let changed = names.into_iter().filter_map(|name| {
            let (is, said) = (self.get(name), locked.get(name));
            (is != said).then(|| format!("{name}: installed {}, locked {}", is.unwrap_or("not"), said.unwrap_or("not")))
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
    fn reads_a_list_with_comments() {
        let list = parse_list("# why\nclang\n\nlld # linker\nlibstdc++6\n").unwrap();
        assert_eq!(list.into_iter().collect::<Vec<_>>(), ["clang", "libstdc++6", "lld"]);
    }

    #[test]
    fn refuses_bad_and_double_names() {
        assert!(parse_list("clang\nclang\n").unwrap_err().to_string().contains("line 2: it stands twice"));
        assert!(parse_list("Clang; rm\n").unwrap_err().to_string().contains("no package name"));
    }

    #[test]
    fn tells_differences_by_name() {
        let locked = Versions::parse("# recorded\nclang 1\nlld 2\n").unwrap();
        let installed = Versions::parse("clang 1\nlld 3\nzstd 1\n").unwrap();
        assert!(locked.differences(&locked).is_empty());
        assert_eq!(installed.differences(&locked), ["lld: installed 3, locked 2", "zstd: installed 1, locked not"]);
        assert!(Versions::parse("clang\n").is_err());
    }
}
