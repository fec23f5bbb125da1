//! The package list and the recorded versions, as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use common::{Class, Error, Result, Sha256};

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

/// Installed packages and their versions, as `dpkg-query` reports them and `packages.lock` holds them: `name version`, sorted.
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

    /// Digest of the whole list.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        Sha256::of(self.to_string())
    }

    /// Digest of the list without `judges`: the identity of the toolchain for every stage that makes an output.
    #[must_use]
    pub fn identity(&self, judges: &BTreeSet<String>) -> Sha256 {
        let judges: BTreeSet<_> = judges.iter().map(|name| name.split('/').next().unwrap_or_default()).collect();
        let makers = self.0.iter().filter(|(name, _)| !judges.contains(name.as_str()));
        Self(makers.map(|(name, version)| (name.clone(), version.clone())).collect()).digest()
    }

    /// Version of one package.
    #[must_use]
    pub fn get(&self, package: &str) -> Option<&str> {
        self.0.get(package).map(String::as_str)
    }

    /// How `self`, the installed set, differs from the recorded one.
    #[must_use]
    pub fn drift_from(&self, locked: &Self) -> Drift {
        let names: BTreeSet<&String> = self.0.keys().chain(locked.0.keys()).collect();
        let changed = names.into_iter().filter_map(|name| {
            let (was, is) = (locked.get(name), self.get(name));
            (was != is).then(|| format!("{name}: {} -> {}", was.unwrap_or("absent"), is.unwrap_or("absent")))
        });
        Drift(changed.collect())
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, version)| writeln!(f, "{name} {version}"))
    }
}

/// Packages whose version is not the recorded one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift(Vec<String>);

impl Drift {
    /// Whether every package is as recorded.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packages are not the recorded versions: {}", self.0.len(), self.0.join(", "))
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
    fn tells_drift_by_name() {
        let locked = Versions::parse("# recorded\nclang 1\nlld 2\n").unwrap();
        let installed = Versions::parse("clang 1\nlld 3\nzstd 1\n").unwrap();
        assert!(locked.drift_from(&locked).is_none());
        assert_eq!(
            installed.drift_from(&locked).to_string(),
            "2 packages are not the recorded versions: lld: 2 -> 3, zstd: absent -> 1"
        );
        assert!(Versions::parse("clang\n").is_err());
    }

    #[test]
    fn judges_are_no_part_of_the_identity() {
        let judges = BTreeSet::from(["cosign".to_owned()]);
        let of = |text: &str| Versions::parse(text).unwrap().identity(&judges);
        assert_eq!(of("clang 1\ncosign 1\n"), of("clang 1\ncosign 2\n"));
        assert_ne!(of("clang 1\n"), of("clang 2\n"));
    }
}
