//! Verifies an image with a public key and nothing else: no network, no clock, no log.

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

/// What has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// All that [`crate::sign()`] makes: signatures in both places, a bill of materials and provenance, signed for every name.
    Everything,
    /// One signature in either place, signed for every name.
    Signature,
    /// One signature in either place, for whatever name: for a copy under another one.
    AnyName,
}

/// An image that verified.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Digest of its manifest.
    pub image: Sha256,
    /// Names that are signed for it.
    pub names: BTreeSet<String>,
    /// The statements that the key has signed: predicate type, and where each was found.
    pub statements: BTreeSet<(String, Place)>,
    /// The bill of materials, where one is signed.
    pub sbom: Option<Value>,
    /// The provenance, where one is signed.
    pub provenance: Option<Value>,
    /// What was there beside, was passed over, and why: signatures of other keys, or about other images.
    pub ignored: Vec<String>,
}

/// Verifies every image of a layout, and that nothing else in it can be taken for one.
///
/// # Errors
/// As [`verify`]; [`Class::BadInput`] when there is no image.
pub fn verify_layout(layout: &Layout, key: &PublicKey, demand: Demand) -> Result<Vec<Verified>> {
    let images = subjects(layout)?;
    if images.is_empty() {
        return Err(Error::new(Class::BadInput, "the layout holds no image for linux/amd64 to verify"));
    }
    nothing_else(layout, &images)?;
    images.iter().map(|image| verify(layout, image, key, demand)).collect()
}

/// Requires that every entry of the index is one of `images` under a name of its own, or an artifact that no image's name leads to. Others
/// look for an image by its name alone: one for another platform would be passed over here and taken there.
///
/// # Errors
/// [`Class::Verification`] naming the first that is neither; what reading the artifacts reports.
pub fn nothing_else(layout: &Layout, images: &[Subject]) -> Result<()> {
    let artifacts = layout.artifacts()?;
    for entry in layout.index()?.manifests() {
        let name = entry.annotation(REF_NAME);
        let image = images.iter().find(|image| entry.is(image.digest()));
        let fine = match image {
            Some(image) => name.is_none_or(|name| image.names.iter().any(|known| known == name)),
            None => {
                name.is_none_or(|name| cosign_subject(name).is_some())
                    && artifacts.iter().any(|artifact| artifact.descriptor == *entry)
            }
        };
        if !fine {
            let named = name.map_or_else(String::new, |name| format!(" by the name {name}"));
            return Err(Error::new(Class::Verification, "the layout holds something that cannot be verified")
                .why(format!("{} {}{named}", entry.media_type(), entry.digest()))
                .hint("copy the image for linux/amd64, with its signatures, into a layout of its own"));
        }
    }
    Ok(())
}

/// Verifies the image `digest` of a layout without layers, under the names the layout gives it: what a push asks before it moves tags.
///
/// # Errors
/// As [`verify`]; [`Class::BadInput`] when there is no such image.
pub fn verify_pushed(layout: &Layout, digest: &Sha256, key: &PublicKey, demand: Demand) -> Result<Verified> {
    let image = subjects(layout)?.into_iter().find(|image| image.digest() == *digest);
    let image =
        image.ok_or_else(|| Error::new(Class::BadInput, "there is no such image to verify").why(digest.oci()))?;
    verify(&WithoutLayers(layout), &image, key, demand)
}

/// Verifies one image: its blobs, and what `key` has signed about it. `image.names` are the names it is presented under.
///
/// # Errors
/// [`Class::Verification`] when a blob is not what its digest says or something demanded is not there, signed with `key`, about this very
/// image and its names; [`Class::BadInput`] when a document of the image is malformed.
pub fn verify(source: &dyn Source, image: &Subject, key: &PublicKey, demand: Demand) -> Result<Verified> {
    let manifest = source::manifest(source, image)?;
    source.check(manifest.config())?;
    manifest.layers().iter().try_for_each(|layer| source.check(layer))?;
    let evidence = Evidence::of(source, image)?;
    let mut believed = Believed::of(&evidence, key, image.digest());
    let missing = believed.missing(image, demand);
    if !missing.is_empty() {
        return Err(refused(image, key, &missing, &believed.ignored));
    }
    let sbom = believed.predicate(statement::SPDX)?;
    let provenance = believed.predicate(statement::SLSA_PROVENANCE)?;
    if demand == Demand::Everything {
        believed.ignored.extend(other_documents(&evidence, sbom.as_ref())?);
    }
    Ok(Verified {
        image: image.digest(),
        names: believed.names.into_values().flatten().collect(),
        statements: believed.statements,
        sbom,
        provenance,
        ignored: believed.ignored,
    })
}

/// What the key has signed about the image.
#[derive(Default)]
struct Believed {
    names: BTreeMap<(String, Place), BTreeSet<String>>,
    statements: BTreeSet<(String, Place)>,
    predicates: Vec<(String, Value)>,
    ignored: Vec<String>,
}

impl Believed {
    fn of(evidence: &Evidence, key: &PublicKey, image: Sha256) -> Self {
        let mut believed = Self { ignored: evidence.unreadable.clone(), ..Self::default() };
        for item in &evidence.items {
            let id = (item.predicate_type().to_owned(), item.place);
            match item.verify(key, image) {
                Ok(names) => {
                    believed.names.entry(id.clone()).or_default().extend(names);
                    if let Content::Envelope { statement, .. } = &item.content {
                        believed.predicates.push((id.0.clone(), statement.predicate.clone()));
                    }
                    believed.statements.insert(id);
                }
                Err(e) => believed.ignored.push(format!("{} {}: {e}", id.0, id.1)),
            }
        }
        believed
    }

    /// What `demand` asks for and is not there.
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
        let lacks = |(kind, place): &(&str, Place)| self.lacks(kind, *place, image, demand);
        match demand {
            Demand::Everything => everything.iter().filter_map(lacks).collect(),
            Demand::Signature | Demand::AnyName => {
                let lacking: Vec<_> = everything[..2].iter().filter_map(lacks).collect();
                if lacking.len() == 2 { lacking } else { Vec::new() }
            }
        }
    }

    fn lacks(&self, kind: &str, place: Place, image: &Subject, demand: Demand) -> Option<String> {
        let Some(names) = self.names.get(&(kind.to_owned(), place)) else {
            return Some(format!("{kind} {place}"));
        };
        if demand == Demand::AnyName {
            return None;
        }
        let unsigned: Vec<_> = image.names.iter().filter(|name| !names.contains(*name)).map(String::as_str).collect();
        (!unsigned.is_empty()).then(|| format!("{kind} {place} for the name {}", unsigned.join(", ")))
    }

    /// The one predicate of that type.
    fn predicate(&self, kind: &str) -> Result<Option<Value>> {
        let mut of_kind = self.predicates.iter().filter(|(of, _)| of == kind).map(|(_, predicate)| predicate);
        let first = of_kind.next();
        if of_kind.any(|other| Some(other) != first) {
            return Err(Error::new(Class::Verification, "the key has signed documents that contradict each other")
                .why(format!("there are different attestations {kind} of one image")));
        }
        Ok(first.cloned())
    }
}

/// The signed bill of materials has to be there unsigned, too. What else is kept as one is nobody's word: told, not believed.
fn other_documents(evidence: &Evidence, signed: Option<&Value>) -> Result<Vec<String>> {
    let signed = signed.map(canonical).transpose()?;
    let (same, others): (Vec<_>, Vec<_>) =
        evidence.sboms.iter().partition(|document| Some(*document) == signed.as_ref());
    if same.is_empty() {
        let error = Error::new(Class::Verification, "the bill of materials that is signed is not beside the image");
        return Err(error.why(format!("{} other documents are there", others.len())));
    }
    let told = |document: &Vec<u8>| format!("{}: a bill of materials that is not signed", Sha256::of(document).oci());
    Ok(others.into_iter().map(told).collect())
}

fn refused(image: &Subject, key: &PublicKey, missing: &[String], ignored: &[String]) -> Error {
    let mut why = format!("{}\nnot there, signed with the key {}:", image.digest().oci(), key.fingerprint());
    for line in missing {
        why += &format!("\n- {line}");
    }
    if !ignored.is_empty() {
        why += "\nthere, but of no use:";
        for line in ignored {
            why += &format!("\n- {}", line.replace('\n', "\n  "));
        }
    }
    Error::new(Class::Verification, format!("the image {} is not signed as demanded", image.label()))
        .why(why)
        .hint("do not use it; check that the key is its maker's, and copy the image again with all that belongs to it")
}
