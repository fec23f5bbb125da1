//! The modules of Go programs: names from `go version -m`, digests from the lists of module files.

use std::collections::{BTreeMap, BTreeSet};

use common::{Class, Error, Result, Sha256};
use lock::ModuleFile;

/// A module that a program is built from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoModule {
    /// Its path, such as `golang.org/x/sys`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its zip.
    pub sha256: Sha256,
}

/// Lists the modules of programs; `texts` are what `go version -m` prints of them, `files` the locked module files.
///
/// # Errors
/// [`Class::BadInput`] if the zip of a module is not among `files`.
pub fn of_programs<'a>(texts: impl IntoIterator<Item = &'a str>, files: &[ModuleFile]) -> Result<Vec<GoModule>> {
    let zips: BTreeMap<String, Sha256> = files
        .iter()
        .filter_map(|file| match file.module() {
            (module, true) => Some((module, file.sha256)),
            _ => None,
        })
        .collect();
    let named: BTreeSet<(&str, &str)> = texts.into_iter().flat_map(modules).collect();
    let module = |(name, version): (&str, &str)| {
        let sha256 = *zips.get(&format!("{name}@{version}")).ok_or_else(|| {
            Error::new(Class::BadInput, format!("the Go module {name} {version} of a program is not locked"))
                .hint("run `solana-talos update go`")
        })?;
        Ok(GoModule { name: name.to_owned(), version: version.to_owned(), sha256 })
    };
    named.into_iter().map(module).collect()
}

/// Returns the modules that `text` names. After `=>` comes the module that replaces the one before (`debug.BuildInfo.String` of Go).
fn modules(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.trim_start_matches('\t').split('\t').collect();
        let [kind, name, version, ..] = words[..] else { continue };
        match kind {
            "mod" | "dep" => found.push((name, version)),
            "=>" => {
                found.pop();
                found.push((name, version));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "init: go1.24.3\n\tpath\tx.org/t/init\n\tmod\tx.org/t\tv1.10.3\th1:a=\n\
        \tdep\tx.org/old\tv1.0.0\n\t=>\tx.org/New\tv2.0.0\th1:b=\n\tbuild\t-trimpath=true\n";

    #[test]
    fn modules_have_the_digests_of_their_zips() {
        let file = |path: &str| ModuleFile { path: path.to_owned(), sha256: Sha256::of(path) };
        let (t, new) = (file("x.org/t/@v/v1.10.3.zip"), file("x.org/!new/@v/v2.0.0.zip"));
        let files = [new.clone(), t.clone(), file("x.org/t/@v/v1.10.3.mod"), file("x.org/old/@v/v1.0.0.zip")];
        let found = of_programs([TEXT, TEXT], &files).unwrap();
        let module =
            |name: &str, version: &str, sha256| GoModule { name: name.to_owned(), version: version.to_owned(), sha256 };
        assert_eq!(found, [module("x.org/New", "v2.0.0", new.sha256), module("x.org/t", "v1.10.3", t.sha256)]);
        let error = of_programs([TEXT], &files[..1]).unwrap_err().to_string();
        assert!(error.contains("x.org/t v1.10.3 of a program is not locked"), "{error}");
    }
}
