//! The crates of a program: dependencies from `cargo metadata`, digests from `Cargo.lock`.

use std::collections::{BTreeMap, BTreeSet};

use common::{Class, Error, Result, Sha256};
use serde::Deserialize;

/// A dependency of a program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crate {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Licence expression declared in its manifest.
    pub licence: Option<String>,
    /// SHA-256 of its archive; `None` for crates of this project.
    pub sha256: Option<Sha256>,
    /// Whether it is linked into the program, rather than used only by a procedural macro or build script.
    pub linked: bool,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    /// `None` for crates of this project.
    source: Option<String>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    root: Option<String>,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

/// Lists the dependencies of the root package of `metadata` (`cargo metadata --format-version 1 --filter-platform TARGET`); `cargo_lock` is the
/// text of its `Cargo.lock`.
pub fn of_program(metadata: &[u8], cargo_lock: &str) -> Result<Vec<Crate>> {
    let bad = |why: String| Error::new(Class::BadInput, "cannot determine the crates of a program").why(why);
    let metadata: Metadata = serde_json::from_slice(metadata).map_err(|e| bad(e.to_string()))?;
    let locked = lock::parse_cargo_lock("Cargo.lock", cargo_lock)?;
    let packages: BTreeMap<&str, &Package> = metadata.packages.iter().map(|p| (p.id.as_str(), p)).collect();
    let nodes: BTreeMap<&str, &Node> = metadata.resolve.nodes.iter().map(|n| (n.id.as_str(), n)).collect();
    let root = metadata.resolve.root.as_deref().ok_or_else(|| bad("cargo metadata has no root package".to_owned()))?;
    let mut reached = BTreeSet::new();
    let mut open = vec![(root, true)];
    while let Some((id, linked)) = open.pop() {
        if !reached.insert((id, linked)) {
            continue;
        }
        for dependency in nodes.get(id).map_or(&[][..], |node| &node.deps) {
            let is_macro = packages.get(dependency.pkg.as_str()).is_some_and(|package| package.is_macro());
            for kind in dependency.dep_kinds.iter().filter(|kind| kind.kind.as_deref() != Some("dev")) {
                open.push((&dependency.pkg, linked && kind.kind.is_none() && !is_macro));
            }
        }
    }
    let known = |id: &&str| packages.get(id).copied().ok_or_else(|| bad(format!("cargo metadata has no package {id}")));
    let ids: BTreeSet<&str> = reached.iter().map(|(id, _)| *id).filter(|id| *id != root).collect();
    let mut crates = Vec::new();
    for id in ids {
        let package = known(&id)?;
        let same = |locked: &&lock::Crate| locked.name == package.name && locked.version == package.version;
        let digest = locked.iter().find(same).map(|locked| locked.sha256);
        if package.source.is_some() && digest.is_none() {
            return Err(bad(format!("{} is not in Cargo.lock", package.name)));
        }
        crates.push(Crate {
            name: package.name.clone(),
            version: package.version.clone(),
            licence: package.license.as_deref().map(expression),
            sha256: digest,
            linked: reached.contains(&(id, true)),
        });
    }
    crates.sort();
    Ok(crates)
}

impl Package {
    fn is_macro(&self) -> bool {
        self.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "proc-macro"))
    }
}

/// Converts `MIT/Apache-2.0` of old manifests to `MIT OR Apache-2.0` (Cargo book, "The license and license-file fields").
fn expression(licence: &str) -> String {
    licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, deps: &[(&str, Option<&str>)]) -> serde_json::Value {
        let deps: Vec<_> =
            deps.iter().map(|(pkg, kind)| serde_json::json!({"pkg": pkg, "dep_kinds": [{"kind": kind}]})).collect();
        serde_json::json!({"id": id, "deps": deps})
    }

    #[test]
    fn separates_linked_crates_from_build_dependencies() {
        let package = |name: &str, kind: &str| serde_json::json!({"id": name, "name": name, "version": "1", "license": "MIT/Apache-2.0", "source": "registry+x", "targets": [{"kind": [kind]}]});
        let packages: Vec<_> = [
            ("root", "bin"),
            ("lib", "lib"),
            ("derive", "proc-macro"),
            ("syn", "lib"),
            ("build", "lib"),
            ("dev", "lib"),
        ]
        .map(|(name, kind)| package(name, kind))
        .into();
        let nodes = [
            node("root", &[("lib", None), ("dev", Some("dev"))]),
            node("lib", &[("derive", None), ("build", Some("build"))]),
            node("derive", &[("syn", None)]),
            node("syn", &[]),
            node("build", &[]),
            node("dev", &[]),
        ];
        let metadata =
            serde_json::json!({"packages": packages, "resolve": {"root": "root", "nodes": nodes}}).to_string();
        let sha = Sha256::of("");
        let crates = ["lib", "derive", "syn", "build", "dev"].map(|name| {
            format!("[[package]]\nname = '{name}'\nversion = '1'\nsource = 'registry+x'\nchecksum = '{sha}'\n")
        });
        let lock = format!("version = 4\n{}", crates.concat());
        let crates = of_program(metadata.as_bytes(), &lock).unwrap();
        let found: Vec<_> = crates.iter().map(|c| (c.name.as_str(), c.linked)).collect();
        assert_eq!(found, [("build", false), ("derive", false), ("lib", true), ("syn", false)]);
        assert_eq!((crates[0].licence.as_deref(), crates[0].sha256), (Some("MIT OR Apache-2.0"), Some(sha)));
        let error = of_program(metadata.as_bytes(), "version = 4").unwrap_err();
        assert!(error.to_string().contains("is not in Cargo.lock"), "{error}");
    }
}
