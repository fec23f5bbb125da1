//! in-toto statements: a predicate about images (in-toto attestation framework 1.0, statement.md).

use std::collections::BTreeMap;

use common::{Class, Error, Result, Sha256};
use oci::types::canonical;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::subject::Subject;

/// `_type` of a statement.
pub const TYPE: &str = "https://in-toto.io/Statement/v1";
/// `_type` of the version before it, which `cosign attest` 2 writes. Version 1 differs in name only (in-toto attestation framework,
/// spec/v1/statement.md).
const OLD_TYPE: &str = "https://in-toto.io/Statement/v0.1";
/// Predicate of a plain signature, as cosign 3 writes it: an empty predicate about the subject.
pub const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// Predicate that is an SPDX document (`cosign verify-attestation --type spdxjson`).
pub const SPDX: &str = "https://spdx.dev/Document";
/// Predicate that is SLSA provenance, version 1 (`cosign verify-attestation --type slsaprovenance1`).
pub const SLSA_PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// A predicate about subjects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// [`TYPE`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// The images.
    pub subject: Vec<Resource>,
    /// Type of the predicate.
    pub predicate_type: String,
    /// The predicate.
    #[serde(default)]
    pub predicate: Value,
}

/// One subject: a name and digests (resource_descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// The image's name with its tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Algorithm to lower-case hexadecimal digits.
    #[serde(default)]
    pub digest: BTreeMap<String, String>,
}

impl Statement {
    /// Creates a statement about the image under each of its names.
    #[must_use]
    pub fn about(image: &Subject, predicate_type: &str, predicate: Value) -> Self {
        let digest = BTreeMap::from([("sha256".to_owned(), image.digest().to_string())]);
        let resource = |name: &String| Resource { name: Some(name.clone()), digest: digest.clone() };
        Self {
            kind: TYPE.to_owned(),
            subject: image.names.iter().map(resource).collect(),
            predicate_type: predicate_type.to_owned(),
            predicate,
        }
    }

    /// Returns the bytes to sign.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        canonical(self)
    }

    /// Parses a statement of type [`TYPE`] or of the version before it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |why: String| Error::new(Class::UntrustedData, "malformed signed statement").why(why);
        let statement: Self = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        if ![TYPE, OLD_TYPE].contains(&statement.kind.as_str()) {
            return Err(bad(format!("unsupported type {:?}, expected {TYPE}", statement.kind)));
        }
        Ok(statement)
    }

    /// Returns the names of the image with that digest; `None` if no subject has that digest.
    pub fn names_of(&self, image: Sha256) -> Option<Vec<String>> {
        let hex = image.to_string();
        let of_image = |resource: &&Resource| resource.digest.get("sha256") == Some(&hex);
        let subjects: Vec<_> = self.subject.iter().filter(of_image).collect();
        (!subjects.is_empty()).then(|| subjects.into_iter().filter_map(|subject| subject.name.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_both_versions_are_read() {
        let text =
            |kind: &str| format!(r#"{{"_type":"{kind}","subject":[],"predicateType":"{SPDX}","predicate":{{}}}}"#);
        for kind in [TYPE, OLD_TYPE] {
            assert_eq!(Statement::parse(text(kind).as_bytes()).unwrap().predicate_type, SPDX);
        }
        for other in ["https://in-toto.io/Statement/v2", "https://in-toto.io/Link/v0.1", ""] {
            let error = Statement::parse(text(other).as_bytes()).unwrap_err();
            assert!(error.to_string().contains("unsupported type"), "{error}");
        }
    }
}
