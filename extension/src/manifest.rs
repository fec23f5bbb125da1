//! `manifest.yaml`: name, version and compatibility of an extension (siderolabs/talos, pkg/machinery/extensions/metadata.go).

use std::path::Path;

use common::{Class, Error, Result};
use contract::Compatibility;
use serde::{Deserialize, Serialize};

use crate::range::Range;

/// The whole file, written in the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format.
    pub version: Format,
    /// Metadata that Talos shows.
    pub metadata: Metadata,
}

/// Version of the manifest format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// The only version so far.
    #[serde(rename = "v1alpha1")]
    V1alpha1,
}

/// Metadata of the extension; also written to `extensions.yaml` in the initramfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Name.
    pub name: String,
    /// Version, free text.
    pub version: String,
    /// Author.
    pub author: String,
    /// Description.
    pub description: String,
    /// Compatible Talos versions, a [`Range`].
    pub compatibility: Compatibility,
    /// Further free text.
    #[serde(default, rename = "extraInfo", skip_serializing_if = "Option::is_none")]
    pub extra_info: Option<String>,
}

impl Manifest {
    /// Parses the text of a manifest that the user wrote.
    ///
    /// # Errors
    /// [`Class::BadInput`] for unknown or missing keys, an empty name or version, and a range that Talos cannot parse.
    pub fn parse(text: &str) -> Result<Self> {
        Self::check(text).map_err(|why| {
            Error::new(Class::BadInput, "the extension manifest is invalid")
                .why(why)
                .hint("required: version: v1alpha1, and metadata with name, version, author, description, compatibility.talos.version")
        })
    }

    /// Same as [`Manifest::parse`], but returns only the reason of a failure.
    pub(crate) fn check(text: &str) -> Result<Self, String> {
        let manifest: Self = yaml(text)?;
        let metadata = &manifest.metadata;
        for (key, value) in [("name", &metadata.name), ("version", &metadata.version)] {
            if value.trim().is_empty() {
                return Err(format!("metadata.{key} is empty"));
            }
        }
        Range::parse(&metadata.compatibility.talos.version)?;
        Ok(manifest)
    }

    /// Reads the manifest at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|e| Error::io("cannot read the extension's manifest", path, &e))?;
        Self::parse(&text).map_err(|e| e.file(path))
    }

    /// Returns the manifest as YAML.
    pub fn emit(&self) -> Result<String> {
        serde_saphyr::to_string(self)
            .map_err(|e| Error::new(Class::BadInput, "cannot write the manifest as YAML").why(e))
    }
}

/// Parses YAML; the error is one line, without the excerpt, so that it fits in a list of violations.
pub(crate) fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_saphyr::from_str(text).map_err(|e| {
        let text = e.to_string();
        let line = text.lines().next().unwrap_or_default();
        line.strip_prefix("error: ").unwrap_or(line).to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "version: v1alpha1
metadata:
  name: solana-optimizer
  version: \"0.1.0\"
  author: our-org
  description: Tunes huge pages
  compatibility:
    talos:
      version: \">= v1.10.0\"
";

    #[test]
    fn round_trips() {
        let manifest = Manifest::parse(TEXT).unwrap();
        assert_eq!(manifest.metadata.compatibility.talos.version, ">= v1.10.0");
        assert_eq!(manifest.emit().unwrap(), TEXT);
        let mut more = manifest;
        more.metadata.description = "First line\nsecond: \"line\" # no comment\n".into();
        more.metadata.version = "1.10".into();
        more.metadata.extra_info = Some("yes".into());
        assert_eq!(Manifest::parse(&more.emit().unwrap()).unwrap(), more);
    }

    #[test]
    fn invalid_manifests_are_rejected() {
        for (from, to, word) in [
            ("v1alpha1", "v1alpha2", "v1alpha2"),
            ("  author: our-org\n", "", "author"),
            ("  author: our-org\n", "  author: our-org\n  licence: x\n", "licence"),
            ("solana-optimizer", "\"\"", "metadata.name is empty"),
            ("\"0.1.0\"", "\" \"", "metadata.version is empty"),
            (">= v1.10.0", "^1.10", "^1.10"),
            ("    talos:\n      version: \">= v1.10.0\"\n", "    kubernetes: {}\n", "kubernetes"),
            ("version: v1alpha1\n", "version: v1alpha1\nversion: v1alpha1\n", "version"),
        ] {
            assert!(TEXT.contains(from), "{from}");
            let error = Manifest::parse(&TEXT.replacen(from, to, 1)).unwrap_err();
            assert_eq!(error.class(), Class::BadInput);
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
        assert!(Manifest::parse("").is_err());
    }
}
