//! `manifest.yaml`: name, version and compatibility of an extension (siderolabs/talos, pkg/machinery/extensions/metadata.go).

use std::path::Path;

use common::{Class, Error, Result};
use contract::Compatibility;
use serde::{Deserialize, Deserializer, Serialize};

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

/// Reads null as the default, as Go does.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// Metadata of the extension; also written to `extensions.yaml` in the initramfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Name.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// Version, free text.
    #[serde(deserialize_with = "or_default")]
    pub version: String,
    /// Author.
    #[serde(deserialize_with = "or_default")]
    pub author: String,
    /// Description.
    #[serde(deserialize_with = "or_default")]
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

/// Parses the first document of YAML, the only one that Talos reads; the error is one line, without the excerpt, so that it fits in a list of
/// violations.
pub(crate) fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_saphyr::from_str(first_document(text)).map_err(|e| {
        let text = e.to_string();
        let line = text.lines().next().unwrap_or_default();
        line.strip_prefix("error: ").unwrap_or(line).to_owned()
    })
}

/// Returns the text up to the marker that ends the first document (YAML 1.2, section 9.1).
fn first_document(text: &str) -> &str {
    let (mut at, mut begun) = (0, false);
    for line in text.split_inclusive('\n') {
        let marker = |mark: &str| {
            line.strip_prefix(mark).filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        };
        if begun && (marker("---").is_some() || marker("...").is_some()) {
            return &text[..at];
        }
        let content = marker("---").unwrap_or(line).trim_start();
        begun |= !(content.is_empty() || content.starts_with('#') || line.starts_with('%'));
        at += line.len();
    }
    text
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

    /// Talos decodes one document.
    #[test]
    fn further_documents_are_not_read() {
        for text in [
            format!("{TEXT}---\na: b\n"),
            format!("{TEXT}...\nnot: [yaml"),
            format!("# comment\n%YAML 1.2\n---\n{TEXT}--- x\n"),
            format!("---\n# comment\n\n{TEXT}"),
        ] {
            assert_eq!(Manifest::parse(&text).unwrap().metadata.name, "solana-optimizer", "{text}");
        }
        let dashes = TEXT.replace("description: Tunes huge pages", "description: |\n    ----\n    --- x");
        assert_eq!(Manifest::parse(&dashes).unwrap().metadata.description, "----\n--- x\n");
        assert!(Manifest::parse("---\n---\nversion: v1alpha1\n").is_err());
    }

    #[test]
    fn null_is_an_empty_text() {
        let without = |key: &str, value: &str| Manifest::parse(&TEXT.replace(value, &format!("{key}: null")));
        assert_eq!(without("description", "description: Tunes huge pages").unwrap().metadata.description, "");
        let error = without("version", "version: \"0.1.0\"").unwrap_err().to_string();
        assert!(error.contains("metadata.version is empty") && !error.contains("Option"), "{error}");
        let error = Manifest::parse(&TEXT.replace("version: v1alpha1", "version: null")).unwrap_err().to_string();
        assert!(!error.contains("Option"), "{error}");
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
