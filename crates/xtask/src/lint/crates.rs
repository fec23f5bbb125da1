//! Licences, bans and sources of crates against `deny.toml`.
//!
//! Compiling cargo-deny takes longer than all other lints together, so the three checks that need no network are made here, by the same file.
//! Where cargo-deny is installed it runs as well, advisories included.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use semver::{Version, VersionReq};
use serde::Deserialize;
use spdx::{Expression, ParseMode};
use xshell::{Shell, cmd};

/// Where every crate comes from.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The part of `deny.toml` that is checked here; cargo-deny refuses keys that it does not know.
#[derive(Deserialize)]
struct Rules {
    graph: Graph,
    licenses: Licences,
    bans: Bans,
}

#[derive(Deserialize)]
struct Graph {
    targets: [String; 1],
}

#[derive(Deserialize)]
struct Licences {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    banned: Banned,
    reason: String,
}

/// A crate in the notation of cargo-deny: `name`, or `name:requirement` for some of its versions.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Banned {
    name: String,
    versions: Option<VersionReq>,
}

impl Banned {
    fn is(&self, locked: &Locked) -> bool {
        self.name == locked.name && self.versions.as_ref().is_none_or(|versions| versions.matches(&locked.version))
    }
}

impl TryFrom<String> for Banned {
    type Error = semver::Error;

    fn try_from(text: String) -> Result<Self, semver::Error> {
        Ok(match text.split_once(':') {
            Some((name, versions)) => Self { name: name.to_owned(), versions: Some(versions.parse()?) },
            None => Self { name: text, versions: None },
        })
    }
}

/// A `Cargo.lock`.
#[derive(Deserialize)]
struct CargoLock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: Version,
    source: Option<String>,
}

/// What `cargo metadata` prints.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    license: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

/// Checks the crates of every workspace.
pub fn check(shell: &Shell, workspaces: &[&str]) -> Result<()> {
    let rules: Rules = toml::from_str(&shell.read_file("deny.toml")?).context("deny.toml is malformed")?;
    let target = &rules.graph.targets[0];
    let mut broken = Vec::new();
    for dir in workspaces {
        let manifest = format!("{dir}/Cargo.toml");
        let text = cmd!(
            shell,
            "cargo metadata --format-version 1 --locked --filter-platform {target} --manifest-path {manifest}"
        )
        .quiet()
        .read()?;
        let metadata = serde_json::from_str(&text).context("cargo metadata printed something else")?;
        let lock = toml::from_str(&shell.read_file(format!("{dir}/Cargo.lock"))?)?;
        let found = [licences(&metadata, &rules), sources(&lock), bans(&lock, &rules)].concat();
        broken.extend(found.iter().map(|line| format!("{dir}: {line}")));
        duplicates(&lock).iter().for_each(|line| println!("note: {dir}: {line}"));
    }
    ensure!(broken.is_empty(), "crates against deny.toml:\n{}", broken.join("\n"));
    println!("crates: licences, bans and sources are those of deny.toml");
    cargo_deny(shell, workspaces)
}

/// Crates that are compiled and have no allowed licence.
fn licences(metadata: &Metadata, rules: &Rules) -> Vec<String> {
    let used: BTreeSet<_> = metadata.resolve.nodes.iter().map(|node| &node.id).collect();
    let packages = metadata.packages.iter().filter(|package| used.contains(&package.id));
    let refused = |package: &Package| {
        let text = package.license.as_deref().unwrap_or("none given");
        // LAX: old crates write `MIT/Apache-2.0`.
        let allowed = Expression::parse_mode(text, ParseMode::LAX)
            .is_ok_and(|expression| expression.evaluate(|licence| rules.licenses.allow.contains(&licence.to_string())));
        (!allowed).then(|| format!("{} has the licence {text}, which is not allowed", package.name))
    };
    packages.filter_map(refused).collect()
}

/// Crates from elsewhere than crates.io; those without a source are ours.
fn sources(lock: &CargoLock) -> Vec<String> {
    let elsewhere = |locked: &Locked| {
        let source = locked.source.as_deref().filter(|source| *source != CRATES_IO)?;
        Some(format!("{} {} comes from {source}", locked.name, locked.version))
    };
    lock.package.iter().filter_map(elsewhere).collect()
}

fn bans(lock: &CargoLock, rules: &Rules) -> Vec<String> {
    let banned = |locked: &Locked| {
        let ban = rules.bans.deny.iter().find(|ban| ban.banned.is(locked))?;
        Some(format!("{} {} is banned: {}", locked.name, locked.version, ban.reason))
    };
    lock.package.iter().filter_map(banned).collect()
}

/// Crates that are there in several versions.
fn duplicates(lock: &CargoLock) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for locked in &lock.package {
        versions.entry(&locked.name).or_default().push(locked.version.to_string());
    }
    let several = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    several.map(|(name, versions)| format!("several versions of {name}: {}", versions.join(", "))).collect()
}

/// The same and known vulnerabilities by cargo-deny, where it is installed.
fn cargo_deny(shell: &Shell, workspaces: &[&str]) -> Result<()> {
    let skipped = |why: &str| println!("SKIPPED advisories of crates: {why}");
    if cmd!(shell, "cargo-deny --version").quiet().ignore_stdout().ignore_stderr().run().is_err() {
        skipped("cargo-deny is not installed (`cargo install --locked cargo-deny`)");
        return Ok(());
    }
    let advisories = cmd!(shell, "cargo-deny fetch db").quiet().ignore_stderr().run().is_ok();
    if !advisories {
        skipped("the database cannot be fetched");
    }
    let checks = ["licenses", "bans", "sources", "advisories"];
    let checks = &checks[..if advisories { 4 } else { 3 }];
    for dir in workspaces {
        let manifest = format!("{dir}/Cargo.toml");
        cmd!(shell, "cargo-deny --manifest-path {manifest} --locked --config deny.toml --log-level error check")
            .args(checks)
            .run()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        toml::from_str(include_str!("../../../../deny.toml")).unwrap()
    }

    fn lock(source: &str, name: &str) -> CargoLock {
        let text = format!(
            "[[package]]\nname = 'ours'\nversion = '0.1.0'\n[[package]]\nname = '{name}'\nversion = '1.0.0'\nsource = '{source}'\n"
        );
        toml::from_str(&text).unwrap()
    }

    /// Of the crates `good`, whose licence is allowed, `bad`, and `unused`, which is for another platform.
    fn refused(licence: &str) -> Vec<String> {
        let text = serde_json::json!({
            "packages": [
                {"id": "1", "name": "good", "license": "MIT"},
                {"id": "2", "name": "bad", "license": licence},
                {"id": "3", "name": "unused", "license": "GPL-3.0-only"},
            ],
            "resolve": {"nodes": [{"id": "1"}, {"id": "2"}]},
        });
        licences(&serde_json::from_value(text).unwrap(), &rules())
    }

    #[test]
    fn a_licence_that_is_not_listed_is_refused() {
        for good in
            ["MIT/Apache-2.0", "GPL-2.0-only OR MIT", "Apache-2.0 WITH LLVM-exception", "ISC AND (MIT OR MPL-2.0)"]
        {
            assert!(refused(good).is_empty(), "{good}");
        }
        for bad in ["GPL-3.0-only", "MIT AND MPL-2.0", "none given", "MIT WITH LLVM-exception", "Proprietary"] {
            assert_eq!(refused(bad), [format!("bad has the licence {bad}, which is not allowed")]);
        }
    }

    #[test]
    fn other_sources_and_banned_crates_are_refused() {
        assert!(sources(&lock(CRATES_IO, "a")).is_empty() && bans(&lock(CRATES_IO, "a"), &rules()).is_empty());
        for elsewhere in ["git+https://github.com/a/b#0123", "registry+https://example.org/index"] {
            assert_eq!(sources(&lock(elsewhere, "a")), [format!("a 1.0.0 comes from {elsewhere}")]);
        }
        assert!(
            bans(&lock(CRATES_IO, "openssl-sys"), &rules())[0].starts_with("openssl-sys 1.0.0 is banned: a second")
        );
    }

    #[test]
    fn a_ban_can_be_of_some_versions() {
        let rsa = |version: &str| {
            let mut lock = lock(CRATES_IO, "rsa");
            lock.package[1].version = version.parse().unwrap();
            bans(&lock, &rules())
        };
        assert!(rsa("0.10.0").is_empty() && rsa("1.0.0").is_empty());
        assert_eq!(rsa("0.9.10"), ["rsa 0.9.10 is banned: RUSTSEC-2023-0071, a timing leak of private keys"]);
    }

    #[test]
    fn several_versions_are_noted() {
        let mut twice = lock(CRATES_IO, "a");
        twice.package.extend(lock(CRATES_IO, "a").package.pop());
        twice.package[2].version = "2.0.0".parse().unwrap();
        assert_eq!(duplicates(&twice), ["several versions of a: 1.0.0, 2.0.0"]);
    }
}
