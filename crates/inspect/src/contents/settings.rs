//! Lists the settings of an image config, one line each.

use std::collections::BTreeMap;

use oci::types::RunConfig;
use serde_json::Value;

/// Returns the settings of `config` under the names of the image specification: `Entrypoint`, `User`, `Env PATH`, `Labels maintainer`, …
pub(super) fn settings(config: &RunConfig) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // These types always serialise.
    let Ok(Value::Object(config)) = serde_json::to_value(config) else { return found };
    for (key, value) in config {
        match value {
            Value::Null => {}
            Value::Array(list) if key == "Env" => list.iter().for_each(|pair| variable(&mut found, pair)),
            Value::Object(map) => {
                found.extend(map.into_iter().map(|(name, value)| (format!("{key} {name}"), shown(&value))));
            }
            other => _ = found.insert(key, shown(&other)),
        }
    }
    found
}

/// Adds a variable; of one that is set twice, both values are kept.
fn variable(found: &mut BTreeMap<String, String>, pair: &Value) {
    let pair = shown(pair);
    let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
    let values = found.entry(format!("Env {name}")).or_default();
    *values = if values.is_empty() { value.to_owned() } else { format!("{values} and {value}") };
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_line() {
        let config = serde_json::json!({
            "Entrypoint": ["/bin/installer"], "User": "0:0", "Env": ["A=1", "B=2=3", "A=4"], "Labels": {"x": "y"},
            "ExposedPorts": {"80/tcp": {}}, "Cmd": null, "WorkingDir": "/",
        });
        let found = settings(&serde_json::from_value(config).unwrap());
        let expected = [
            ("Entrypoint", "[\"/bin/installer\"]"),
            ("Env A", "1 and 4"),
            ("Env B", "2=3"),
            ("ExposedPorts 80/tcp", "{}"),
            ("Labels x", "y"),
            ("User", "0:0"),
            ("WorkingDir", "/"),
        ];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }
}
