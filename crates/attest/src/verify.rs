//! Verifies images with a public key, offline: no network, no clock, no transparency log.

use std::collections::{BTreeMap, BTreeSet};

use common::{Class, Error, Result, Sha256};
use keys::PublicKey;
use oci::Layout;
use oci::layout::cosign_subject;
use oci::types::{Named as _, REF_NAME, canonical};
use serde_json::Value;

use crate::evidence::{Content, Evidence, Place};
use crate::source::{self, Source, WithoutLayers, subjects};
use crate::statement;
use crate::subject::Subject;

/// What a verification requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Everything [`crate::sign()`] writes: signatures in both places, an SBOM and provenance, signed for all names.
    Everything,
    /// One signature in either place, signed for all names.
    Signature,
    /// One signature in either place, for any name: for copies under another name.
    AnyName,
}

/// A verified image.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Digest of its manifest.
    pub image: Sha256,
    /// Signed names.
    pub names: BTreeSet<String>,
    /// Signed statements: predicate type and place.
    pub statements: BTreeSet<(String, Place)>,
    /// The SBOM, if it is signed.
    pub sbom: Option<Value>,
    /// The provenance, if it is signed.
    pub provenance: Option<Value>,
    /// Ignored documents and the reasons: signatures by other keys, or of other images.
    pub ignored: Vec<String>,
}

/// Verifies every image of a layout, and [checks its index](check_index).
pub fn verify_layout(layout: &Layout, key: &PublicKey, demand: Demand) -> Result<Vec<Verified>> {
    let images = subjects(layout)?;
    if images.is_empty() {
        return Err(Error::new(Class::BadInput, "the layout contains no image for linux/amd64"));
    }
    check_index(layout, &images)?;
    images.iter().map(|image| verify(layout, image, key, demand)).collect()
}

/// Checks that every entry of the index is one of `images` under one of its names, or an artifact without an image name. Other tools find
/// images by name alone, and would use an entry for another platform that is ignored here. Fails with [`Class::Verification`].
pub fn check_index(layout: &Layout, images: &[Subject]) -> Result<()> {
    let artifacts = layout.artifacts()?;
    for entry in layout.index()?.manifests() {
        let name = entry.annotation(REF_NAME);
        let image = images.iter().find(|image| entry.is(image.digest()));
        let valid = match image {
            Some(image) => name.is_none_or(|name| image.names.iter().any(|known| known == name)),
            None => {
                name.is_none_or(|name| cosign_subject(name).is_some())
                    && artifacts.iter().any(|artifact| artifact.descriptor == *entry)
            }
        };
        if !valid {
            let named = name.map_or_else(String::new, |name| format!(" with the name {name}"));
            return Err(Error::new(Class::Verification, "unverifiable entry in the layout index")
                .why(format!("{} {}{named}", entry.media_type(), entry.digest()))
                .hint("copy the image for linux/amd64, with its signatures, into a separate layout"));
        }
    }
    Ok(())
}

/// Verifies the image `digest` of a layout without layers, under its names in the layout: called by a push before it moves tags.
pub fn verify_pushed(layout: &Layout, digest: &Sha256, key: &PublicKey, demand: Demand) -> Result<Verified> {
    let image = subjects(layout)?.into_iter().find(|image| image.digest() == *digest);
    let image = image.ok_or_else(|| Error::new(Class::BadInput, "image not found in the layout").why(digest.oci()))?;
    verify(&WithoutLayers(layout), &image, key, demand)
}

/// Verifies one image under `image.names`: its blobs, and what `key` signed about it.
///
/// # Errors
/// [`Class::Verification`] on a digest mismatch, or if a required document is missing, signed with another key, or about another image or
/// name; [`Class::UntrustedData`] if a document of the image is malformed.
pub fn verify(source: &dyn Source, image: &Subject, key: &PublicKey, demand: Demand) -> Result<Verified> {
    let manifest = source::manifest(source, image)?;
    source.check(manifest.config())?;
    manifest.layers().iter().try_for_each(|layer| source.check(layer))?;
    let evidence = Evidence::of(source, image)?;
    let mut accepted = Accepted::of(&evidence, key, image.digest());
    let missing = accepted.missing(image, demand);
    if !missing.is_empty() {
        return Err(rejected(image, key, &missing, &accepted.ignored));
    }
    let sbom = accepted.predicate(statement::SPDX)?;
    let provenance = accepted.predicate(statement::SLSA_PROVENANCE)?;
    if demand == Demand::Everything {
        accepted.ignored.extend(unsigned_sboms(&evidence, sbom.as_ref())?);
    }
    Ok(Verified {
        image: image.digest(),
        names: accepted.names.into_values().flatten().collect(),
        statements: accepted.statements,
        sbom,
        provenance,
        ignored: accepted.ignored,
    })
}

/// What the key signed about the image.
#[derive(Default)]
struct Accepted {
    names: BTreeMap<(String, Place), BTreeSet<String>>,
    statements: BTreeSet<(String, Place)>,
    predicates: Vec<(String, Value)>,
    ignored: Vec<String>,
}

impl Accepted {
    fn of(evidence: &Evidence, key: &PublicKey, image: Sha256) -> Self {
        let mut accepted = Self { ignored: evidence.unreadable.clone(), ..Self::default() };
        for item in &evidence.items {
            let id = (item.predicate_type().to_owned(), item.place);
            match item.verify(key, image) {
                Ok(names) => {
                    accepted.names.entry(id.clone()).or_default().extend(names);
                    if let Content::Envelope { statement, .. } = &item.content {
                        accepted.predicates.push((id.0.clone(), statement.predicate.clone()));
                    }
                    accepted.statements.insert(id);
                }
                Err(e) => accepted.ignored.push(format!("{} {}: {e}", id.0, id.1)),
            }
        }
        accepted
    }

    /// Lists the documents that `demand` requires and that are missing.
    fn missing(&self, image: &Subject, demand: Demand) -> Vec<String> {
        use Place::{Referrer, Tag};
        use statement::{COSIGN_SIGN, SLSA_PROVENANCE, SPDX};
        let everything = [
            (COSIGN_SIGN, Tag),
            (COSIGN_SIGN, Referrer),
            (SPDX, Tag),
            (SPDX, Referrer),
            (SLSA_PROVENANCE, Tag),
            (SLSA_PROVENANCE, Referrer),
        ];
        let missing = |(kind, place): &(&str, Place)| self.missing_document(kind, *place, image, demand);
        match demand {
            Demand::Everything => everything.iter().filter_map(missing).collect(),
            Demand::Signature | Demand::AnyName => {
                let signatures: Vec<_> = everything[..2].iter().filter_map(missing).collect();
                if signatures.len() == 2 { signatures } else { Vec::new() }
            }
        }
    }

    fn missing_document(&self, kind: &str, place: Place, image: &Subject, demand: Demand) -> Option<String> {
        let Some(names) = self.names.get(&(kind.to_owned(), place)) else {
            return Some(format!("{kind} {place}"));
        };
        if demand == Demand::AnyName {
            return None;
        }
        let unsigned: Vec<_> = image.names.iter().filter(|name| !names.contains(*name)).map(String::as_str).collect();
        (!unsigned.is_empty()).then(|| format!("{kind} {place} for the name {}", unsigned.join(", ")))
    }

    /// Returns the only predicate of that type.
    fn predicate(&self, kind: &str) -> Result<Option<Value>> {
        let mut of_kind = self.predicates.iter().filter(|(of, _)| of == kind).map(|(_, predicate)| predicate);
        let first = of_kind.next();
        if of_kind.any(|other| Some(other) != first) {
            return Err(Error::new(Class::Verification, "contradictory attestations signed with the key")
                .why(format!("the image has several different attestations {kind}")));
        }
        Ok(first.cloned())
    }
}

/// Checks that the signed SBOM is also attached unsigned, and reports other unsigned SBOMs.
fn unsigned_sboms(evidence: &Evidence, signed: Option<&Value>) -> Result<Vec<String>> {
    let signed = signed.map(canonical).transpose()?;
    let (same, others): (Vec<_>, Vec<_>) =
        evidence.sboms.iter().partition(|document| Some(*document) == signed.as_ref());
    if same.is_empty() {
        let error = Error::new(Class::Verification, "the signed SBOM is not attached to the image");
        return Err(error.why(format!("{} other SBOMs are attached", others.len())));
    }
    let describe = |document: &Vec<u8>| format!("{}: SBOM is not signed", Sha256::of(document).oci());
    Ok(others.into_iter().map(describe).collect())
}

fn rejected(image: &Subject, key: &PublicKey, missing: &[String], ignored: &[String]) -> Error {
    let mut why = format!("{}\nmissing, signed with the key {}:", image.digest().oci(), key.fingerprint());
    for line in missing {
        why += &format!("\n- {line}");
    }
    if !ignored.is_empty() {
        why += "\nignored:";
        for line in ignored {
            why += &format!("\n- {}", line.replace('\n', "\n  "));
        }
    }
    Error::new(Class::Verification, format!("signature verification failed for image {}", image.label())).why(why).hint(
        "do not use the image; check that this is the publisher's key, and copy the image again with all its artifacts",
    )
}
