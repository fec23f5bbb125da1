//! The testbed's configuration matches the default preset, which real nodes get as machine config.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use harness::modules::project;
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Collects modules with their parameters, and sysctls, of a preset and of those that it includes.
fn collect(name: &str, modules: &mut BTreeMap<String, Vec<String>>, sysctls: &mut BTreeMap<String, String>) {
    let text = std::fs::read_to_string(project().join(format!("imager/presets/{name}.toml"))).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let list = |key: &str| table.get(key).and_then(toml::Value::as_array).cloned().unwrap_or_default();
    for included in list("include") {
        collect(included.as_str().unwrap(), modules, sysctls);
    }
    for module in list("module") {
        let parameters = module.get("parameters").and_then(toml::Value::as_array).cloned().unwrap_or_default();
        let parameters = parameters.iter().map(|p| p.as_str().unwrap().to_owned()).collect();
        modules.insert(module["name"].as_str().unwrap().to_owned(), parameters);
    }
    for sysctl in list("sysctl") {
        sysctls.insert(sysctl["name"].as_str().unwrap().to_owned(), sysctl["value"].as_str().unwrap().to_owned());
    }
}

#[test]
fn testbed_config_matches_the_default_preset() {
    let (mut modules, mut sysctls) = (BTreeMap::new(), BTreeMap::new());
    collect("spec", &mut modules, &mut sysctls);
    modules.insert("solana_optimizer".to_owned(), Vec::new());

    let text = std::fs::read_to_string(project().join("tests/guest/rootfs/etc/testbed.json")).unwrap();
    let testbed: Json = serde_json::from_str(&text).unwrap();
    let applied: BTreeMap<String, String> = serde_json::from_value(testbed["sysctls"].clone()).unwrap();
    assert_eq!(applied, sysctls);
    let loaded: BTreeMap<String, Vec<String>> = testbed["modules"].as_array().unwrap().iter().map(module).collect();
    assert_eq!(loaded, modules);
}

fn module(entry: &Json) -> (String, Vec<String>) {
    let parameters = entry.get("parameters").cloned().unwrap_or_else(|| Json::Array(Vec::new()));
    (entry["name"].as_str().unwrap().to_owned(), serde_json::from_value(parameters).unwrap())
}
