//! Differences between two locks, one per line.

use std::collections::{BTreeMap, BTreeSet};

use crate::Inputs;
use crate::entry::Kind;

/// Returns the differences between two sets of inputs, sorted: `package clang: 1:19.0-63 -> 1:19.0-64`.
#[must_use]
pub fn changes(old: &Inputs, new: &Inputs) -> Vec<String> {
    let (old, new) = (versions(old), versions(new));
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let line = |name: &&String| {
        let (was, is) = (old.get(*name), new.get(*name));
        (was != is).then(|| format!("{name}: {} -> {}", shown(was, is), shown(is, was)))
    };
    names.iter().filter_map(line).collect()
}

/// Returns version and digest by name; several versions of a crate are joined.
fn versions(inputs: &Inputs) -> BTreeMap<String, (String, String)> {
    let mut all: BTreeMap<String, (String, String)> = BTreeMap::new();
    for entry in inputs.entries() {
        let digest = entry.sha256.to_string();
        // Files are compared by digest: a new version of the package need not change them.
        let version = if entry.kind == Kind::File { "" } else { version(&entry.uri).unwrap_or("") }.to_owned();
        let name = match entry.kind {
            Kind::Kernel => format!("kernel {}", entry.name),
            Kind::Package(_) => format!("package {}", entry.name),
            Kind::Crate => format!("crate {}", entry.uri.split(['/', '@']).nth(1).unwrap_or(&entry.name)),
            // The zip has the go.mod too.
            Kind::GoModule if entry.uri.ends_with("#go.mod") => continue,
            Kind::GoModule => format!("module {}", entry.name.split('@').next().unwrap_or(&entry.name)),
            Kind::BaseImage => format!("base {}", entry.name),
            Kind::File => format!("file {}", entry.name),
            // Covered by their crates, and by the manifest of the base.
            Kind::CargoLock | Kind::Blob => continue,
        };
        let known = all.entry(name).or_default();
        join(&mut known.0, &version);
        join(&mut known.1, &digest);
    }
    for package in &inputs.lock.package {
        if let Some((version, _)) = all.get_mut(&format!("package {}", package.name)) {
            *version = format!("{} ({})", package.version, package.list).to_lowercase();
        }
    }
    all
}

fn join(list: &mut String, item: &str) {
    if !list.is_empty() && !item.is_empty() {
        list.push_str(", ");
    }
    list.push_str(item);
}

fn version(uri: &str) -> Option<&str> {
    uri.strip_prefix("pkg:")?.split_once('@')?.1.split(['?', '#']).next()
}

/// Returns the version, or the digest if the versions are equal.
fn shown<'a>(this: Option<&'a (String, String)>, other: Option<&(String, String)>) -> &'a str {
    match this {
        None => "absent",
        Some((version, digest)) if version.is_empty() || other.is_some_and(|o| o.0 == *version) => digest,
        Some((version, _)) => version,
    }
}

#[cfg(test)]
mod tests {
    use common::Sha256;

    use super::*;
    use crate::crates::Crate;
    use crate::model::{List, tests::sample};
    use crate::modules::ModuleFile;

    #[test]
    fn each_change_is_a_line() {
        let serde =
            |version: &str| Crate { name: "serde".into(), version: version.into(), sha256: Sha256::of(version) };
        let module = |name: &str| ModuleFile { path: format!("x.org/{name}"), sha256: Sha256::of(name) };
        let modules = vec![module("y/@v/v1.0.0.mod"), module("y/@v/v1.0.0.zip")];
        let old = Inputs { lock: sample(), crates: vec![serde("1.0.0")], modules: modules.clone() };
        assert!(changes(&old, &old).is_empty());
        let crates = vec![serde("1.0.0"), serde("2.0.0")];
        let newer = vec![module("y/@v/v1.0.1.mod"), module("y/@v/v1.0.1.zip")];
        let mut new = Inputs { lock: sample(), crates, modules: newer };
        new.lock.package[0].version = "1:3".into();
        new.lock.package[1].sha256 = Sha256::of("other");
        new.lock.kernel.version = "7-1".into();
        new.lock.base.clear();
        let lines = changes(&old, &new);
        let (cosign, other) = (Sha256::of("cosign"), Sha256::of("other"));
        let expected = [
            format!("base r.example/a:1: {} -> absent", Sha256::of("m")),
            "crate serde: 1.0.0 -> 1.0.0, 2.0.0".into(),
            "kernel linux-source: 6-1 -> 7-1".into(),
            "module x.org/y: v1.0.0 -> v1.0.1".into(),
            "package clang: 1:2.0~rc1+b1-3 (packages) -> 1:3 (packages)".into(),
            format!("package cosign: {cosign} -> {other}"),
        ];
        assert_eq!(lines, expected);
        new = Inputs { lock: sample(), crates: old.crates.clone(), modules };
        new.lock.package[0].list = List::ReferenceTools;
        let line = "package clang: 1:2.0~rc1+b1-3 (packages) -> 1:2.0~rc1+b1-3 (reference-tools)";
        assert_eq!(changes(&old, &new), [line]);
    }
}
