//! The minimum elements of an SBOM (NTIA, "The Minimum Elements For a Software Bill of Materials", 2021, section IV, "Data Fields") are in
//! every document, for every package. `reference_tools.rs` asks a checker that is not ours.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;

use attest::subjects;
use serde_json::{Value, json};

/// Returns the elements that a document lacks.
fn missing(document: &Value) -> Vec<String> {
    let known = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty() && text != "NOASSERTION");
    let mut lacks = Vec::new();
    if !known(&document["creationInfo"]["created"]) {
        lacks.push("timestamp".to_owned());
    }
    if document["creationInfo"]["creators"].as_array().is_none_or(|all| !all.iter().any(is_organization)) {
        lacks.push("author".to_owned());
    }
    let relationships = document["relationships"].as_array().unwrap();
    let ends = |name: &str| -> Vec<String> {
        relationships.iter().map(|relationship| relationship[name].to_string()).collect()
    };
    let related: BTreeSet<String> = [ends("spdxElementId"), ends("relatedSpdxElement")].concat().into_iter().collect();
    for package in document["packages"].as_array().unwrap() {
        for (element, there) in [
            ("name", known(&package["name"])),
            ("version", known(&package["versionInfo"])),
            ("supplier", is_organization(&package["supplier"])),
            ("identifier", !package["checksums"].is_null() || !package["externalRefs"].is_null()),
            ("relationship", related.contains(&package["SPDXID"].to_string())),
        ] {
            if !there {
                lacks.push(format!("{element} of {}", package["SPDXID"]));
            }
        }
    }
    lacks
}

fn is_organization(value: &Value) -> bool {
    value.as_str().and_then(|text| text.strip_prefix("Organization: ")).is_some_and(|name| !name.is_empty())
}

fn documents() -> Vec<(&'static str, Value)> {
    let dir = tempfile::tempdir().unwrap();
    let layout = support::layout(&dir.path().join("a"), "hello\n");
    support::documents(&subjects(&layout).unwrap()[0])
}

#[test]
fn every_package_has_the_minimum_elements() {
    for (name, document) in documents() {
        assert_eq!(missing(&document), [""; 0], "{name}");
    }
}

#[test]
fn missing_elements_are_found() {
    let (_, document) = documents().pop().unwrap();
    for (pointer, value, lack) in [
        ("/packages/0/supplier", json!("NOASSERTION"), "supplier of"),
        ("/packages/0/versionInfo", json!(""), "version of"),
        ("/packages/0/SPDXID", json!("SPDXRef-other"), "relationship of"),
        ("/creationInfo/creators", json!(["Tool: solana-talos-0.1.0"]), "author"),
    ] {
        let mut changed = document.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        let found = missing(&changed);
        assert!(matches!(&found[..], [one] if one.starts_with(lack)), "{lack}: {found:?}");
    }
}

#[test]
fn suppliers_are_those_who_distribute_the_package() {
    let all = documents();
    let supplier = |document: &str, package: &str| {
        let (_, document) = all.iter().find(|(name, _)| *name == document).unwrap();
        let packages = document["packages"].as_array().unwrap();
        packages.iter().find(|found| found["name"] == package).unwrap()["supplier"].as_str().unwrap().to_owned()
    };
    for (document, package, name) in [
        ("installer", "linux", "ghcr.io/our-org"),
        ("installer", "solana_optimizer", "ghcr.io/our-org"),
        ("installer", "linux-source-6.12_6.12.117-1_all.deb", "Debian"),
        ("installer", "0001-one.patch", "solana-talos"),
        ("installer", "clang-19", "Debian"),
        ("installer", "rustix", "crates.io"),
        ("images", "base images", "ghcr.io/siderolabs"),
        ("base", "github.com/BurntSushi/toml", "github.com/BurntSushi"),
        ("base", "x.org/y/v2", "x.org"),
    ] {
        assert_eq!(supplier(document, package), format!("Organization: {name}"), "{package}");
    }
}
