//! Writes SPDX 2.3 documents in JSON (spdx.github.io/spdx-spec/v2.3; schema `spdx-schema.json`).

use std::collections::{BTreeMap, BTreeSet};

use common::{Class, Error, Result, Sha256};
use oci::types::canonical;
use serde::Serialize;
use serde_json::{Value, json};

use crate::subject::Subject;

/// Identifier of the document itself.
pub const DOCUMENT: &str = "SPDXRef-DOCUMENT";
/// Unknown, or not analysed (section 7.13.1).
pub const NO_ASSERTION: &str = "NOASSERTION";
/// Prefix of document namespaces: an identifier, not an address.
const NAMESPACE: &str = "https://github.com/our-org/solana-talos/spdx";

/// A package (section 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Package {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    version_info: String,
    download_location: String,
    files_analyzed: bool,
    license_concluded: &'static str,
    license_declared: String,
    copyright_text: &'static str,
    supplier: String,
    primary_package_purpose: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<ExternalRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: Sha256,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

impl Package {
    /// Creates a package; what is not given is unknown. `purpose` is one of section 7.24; `supplier` (section 7.5) is the organisation that
    /// distributes the package in this form, or [`NO_ASSERTION`].
    #[must_use]
    pub fn new(id: &str, name: &str, version: &str, purpose: &'static str, supplier: &str) -> Self {
        Self {
            id: format!("SPDXRef-{}", identifier(id)),
            name: name.to_owned(),
            version_info: version.to_owned(),
            download_location: NO_ASSERTION.to_owned(),
            files_analyzed: false,
            license_concluded: NO_ASSERTION,
            license_declared: NO_ASSERTION.to_owned(),
            copyright_text: NO_ASSERTION,
            supplier: organization(supplier),
            primary_package_purpose: purpose,
            checksums: Vec::new(),
            external_refs: Vec::new(),
            comment: None,
        }
    }

    /// Identifier.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Sets the declared licence, an expression of annex D.
    #[must_use]
    pub fn licence(mut self, expression: &str) -> Self {
        expression.clone_into(&mut self.license_declared);
        self
    }

    /// Sets the download location.
    #[must_use]
    pub fn download(mut self, url: &str) -> Self {
        url.clone_into(&mut self.download_location);
        self
    }

    /// Sets the SHA-256 checksum.
    #[must_use]
    pub fn sha256(mut self, digest: Sha256) -> Self {
        self.checksums = vec![Checksum { algorithm: "SHA256", checksum_value: digest }];
        self
    }

    /// Sets the package URL.
    #[must_use]
    pub fn purl(mut self, purl: String) -> Self {
        self.external_refs = vec![ExternalRef {
            reference_category: "PACKAGE-MANAGER",
            reference_type: "purl",
            reference_locator: purl,
        }];
        self
    }

    /// Sets the comment.
    #[must_use]
    pub fn comment(mut self, text: &str) -> Self {
        self.comment = Some(text.to_owned());
        self
    }
}

/// A document under construction.
#[derive(Clone, Debug, Default)]
pub struct Document {
    packages: BTreeMap<String, Package>,
    relationships: BTreeSet<(String, &'static str, String)>,
}

impl Document {
    /// Adds `package`, if it is not in the document yet.
    pub fn add(&mut self, package: Package) {
        self.packages.insert(package.id.clone(), package);
    }

    /// Adds the relationship `kind` (section 11) from `from` to `to`.
    pub fn relate(&mut self, from: &str, kind: &'static str, to: &str) {
        self.relationships.insert((from.to_owned(), kind, to.to_owned()));
    }

    /// Returns the document, which describes the package `main` of an image. The namespace contains the digest of the rest: equal documents have
    /// equal namespaces.
    pub fn finish(mut self, image: &Subject, main: &str, tool: &str) -> Result<Value> {
        let (name, created) = (image.label(), &image.created);
        let creators = [organization(image.publisher().unwrap_or(NO_ASSERTION)), format!("Tool: solana-talos-{tool}")];
        self.relate(DOCUMENT, "DESCRIBES", main);
        for id in self.relationships.iter().flat_map(|(from, _, to)| [from, to]) {
            if id != DOCUMENT && !self.packages.contains_key(id) {
                return Err(Error::new(Class::BadInput, format!("unknown package {id} in a relationship of the SBOM")));
            }
        }
        let relationship = |(from, kind, to): &(String, &str, String)| json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to});
        let mut document = json!({
            "SPDXID": DOCUMENT,
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "name": name,
            "creationInfo": {"created": created, "creators": creators.iter().filter(|name| *name != NO_ASSERTION).collect::<Vec<_>>()},
            "packages": self.packages.values().collect::<Vec<_>>(),
            "relationships": self.relationships.iter().map(relationship).collect::<Vec<_>>(),
        });
        let digest = Sha256::of(canonical(&document)?);
        document["documentNamespace"] = Value::String(format!("{NAMESPACE}/{}-{digest}", identifier(&name)));
        Ok(document)
    }
}

/// An organisation (section 6.8), or [`NO_ASSERTION`].
fn organization(name: &str) -> String {
    if name == NO_ASSERTION { name.to_owned() } else { format!("Organization: {name}") }
}

/// Replaces characters that are not valid in an identifier: letters, digits, `.` and `-` are (section 3.2).
fn identifier(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '+' => out.push_str("-plus"),
            c if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') => out.push(c),
            _ => out.push('-'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(names: &[&str]) -> Subject {
        let mut image = Subject::new("application/x", Sha256::of(""), 0);
        image.names = names.iter().map(ToString::to_string).collect();
        image
    }

    fn document(licence: &str) -> Value {
        let mut document = Document::default();
        let main = Package::new("image", "a", "1", "CONTAINER", "acme").licence(licence);
        let part = Package::new("deb-libstdc++6", "libstdc++6", "1", "LIBRARY", NO_ASSERTION);
        let id = main.id().to_owned();
        document.relate(&id, "CONTAINS", part.id());
        document.add(part);
        document.add(main);
        document.finish(&image(&["ghcr.io/acme/a:v1"]), &id, "0.1.0").unwrap()
    }

    #[test]
    fn the_namespace_depends_on_the_content() {
        assert_eq!(document("MIT"), document("MIT"));
        assert_ne!(document("MIT")["documentNamespace"], document("ISC")["documentNamespace"]);
        assert_eq!(document("MIT")["packages"][0]["SPDXID"], "SPDXRef-deb-libstdc-plus-plus6");
    }

    #[test]
    fn suppliers_and_authors_are_organizations() {
        let document = document("MIT");
        assert_eq!(document["packages"][0]["supplier"], NO_ASSERTION);
        assert_eq!(document["packages"][1]["supplier"], "Organization: acme");
        let creators = &document["creationInfo"]["creators"];
        assert_eq!(*creators, json!(["Organization: ghcr.io/acme", "Tool: solana-talos-0.1.0"]));
        let mut unnamed = Document::default();
        unnamed.add(Package::new("a", "a", "1", "CONTAINER", "acme"));
        let unnamed = unnamed.finish(&image(&[]), "SPDXRef-a", "0.1.0").unwrap();
        assert_eq!(unnamed["creationInfo"]["creators"], json!(["Tool: solana-talos-0.1.0"]));
    }

    #[test]
    fn rejects_a_relationship_to_an_unknown_package() {
        let mut document = Document::default();
        document.add(Package::new("a", "a", "1", "CONTAINER", "acme"));
        document.relate("SPDXRef-a", "CONTAINS", "SPDXRef-b");
        let error = document.finish(&image(&[]), "SPDXRef-a", "").unwrap_err();
        assert!(error.to_string().contains("SPDXRef-b"), "{error}");
    }
}
