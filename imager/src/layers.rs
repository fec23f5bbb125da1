//! `extensions.yaml`, the list of layers at the root of the initramfs that Talos's `/init` reads:
//! `layers: [{image, metadata}]`, with the metadata of the extension manifest.

use serde::{Deserialize, Serialize};

use common::{Class, Error, Result};
use contract::Compatibility;
use contract::initramfs::LAYERS;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layers {
    /// Layers from the lowest to the highest; the root filesystem is below them.
    pub layers: Vec<LayerEntry>,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerEntry {
    /// Squashfs file next to the list: `0.sqsh`, `1.sqsh`, …
    pub image: String,
    /// Metadata of the layer.
    pub metadata: Metadata,
}

/// The `metadata` of an extension manifest (`v1alpha1`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Name as `talosctl get extensions` shows it.
    pub name: String,
    /// Version of the extension.
    pub version: String,
    /// Author.
    #[serde(default)]
    pub author: String,
    /// Description.
    #[serde(default)]
    pub description: String,
    /// Compatible Talos versions; absent for layers the imager generates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compatibility: Option<Compatibility>,
    /// Free text.
    #[serde(default, rename = "extraInfo", skip_serializing_if = "Option::is_none")]
    pub extra_info: Option<String>,
}

impl Layers {
    /// Creates the list, with images numbered from `0.sqsh`.
    #[must_use]
    pub fn number(metadata: impl IntoIterator<Item = Metadata>) -> Self {
        let entry = |(at, metadata)| LayerEntry { image: format!("{at}.sqsh"), metadata };
        Self { layers: metadata.into_iter().enumerate().map(entry).collect() }
    }

    /// Returns the list as YAML.
    pub fn to_yaml(&self) -> Result<String> {
        serde_saphyr::to_string(self).map_err(|e| Error::new(Class::BadInput, "cannot write the list of layers").why(e))
    }

    /// Parses the list.
    ///
    /// # Errors
    /// [`Class::UntrustedData`] for unknown or missing keys and malformed YAML.
    pub fn from_yaml(text: &str) -> Result<Self> {
        serde_saphyr::from_str(text)
            .map_err(|e| Error::new(Class::UntrustedData, "the list of layers is malformed").file(LAYERS).why(e))
    }
}

#[cfg(test)]
mod tests {
    use contract::VersionRange;

    use super::*;

    #[test]
    fn yaml_has_the_keys_talos_reads() {
        let extension = Metadata {
            name: "solana-optimizer".into(),
            version: "v1.10.3".into(),
            author: "a: b".into(),
            description: "Huge pages.\nAnd \"more\".".into(),
            compatibility: Some(Compatibility { talos: VersionRange { version: ">= v1.10.0".into() } }),
            extra_info: None,
        };
        let modules = Metadata { name: "modules.dep".into(), version: "6.12".into(), ..Metadata::default() };
        let layers = Layers::number([extension, modules]);
        let text = layers.to_yaml().unwrap();
        assert_eq!(Layers::from_yaml(&text).unwrap(), layers);
        let start = "layers:\n- image: 0.sqsh\n  metadata:\n    name: solana-optimizer\n";
        assert!(text.starts_with(start), "{text}");
        assert!(text.contains("\n- image: 1.sqsh\n"), "{text}");
    }

    #[test]
    fn unknown_and_missing_keys_are_rejected() {
        let good = "layers:\n- image: 0.sqsh\n  metadata: {name: a, version: v1}\n";
        assert!(Layers::from_yaml(good).is_ok());
        for bad in ["layer: []", "layers: [{image: 0.sqsh}]", "layers: 7", "", &good.replace("name", "title")] {
            assert!(Layers::from_yaml(bad).is_err(), "{bad}");
        }
    }
}
