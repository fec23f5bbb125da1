//! Signs the images of a layout: writes it anew with signatures and attestations beside each image.

use std::path::Path;

use common::{Class, Error, Result};
use keys::PublicKey;
use oci::types::{Descriptor, Named as _};
use oci::{Artifact, Layout, Writer};
use serde_json::{Value, json};

use crate::artifact::{self, Artifacts, Signed};
use crate::asking::Asking;
use crate::dsse::{self, Envelope};
use crate::evidence::Evidence;
use crate::simple::Payload;
use crate::source::{WithoutLayers, subjects};
use crate::statement::{self, Statement};
use crate::subject::Subject;
use crate::verify::{Demand, verify};
use crate::{bundle, sbom};

/// What is stated of an image beside that it is signed.
#[derive(Clone, Debug, Default)]
pub struct Predicates {
    /// SPDX document.
    pub sbom: Option<Value>,
    /// SLSA provenance.
    pub provenance: Option<Value>,
}

impl Predicates {
    /// What `key` has signed of `image`: to sign the same again with another key.
    ///
    /// # Errors
    /// As [`verify()`].
    pub fn signed(layout: &Layout, image: &Subject, key: &PublicKey, demand: Demand) -> Result<Self> {
        // Layers are compared with their digests as they are copied.
        let verified = verify(&WithoutLayers(layout), image, key, demand)?;
        Ok(Self { sbom: verified.sbom, provenance: verified.provenance })
    }

    /// What anybody has stated of `image`. Whoever signs that again vouches for it.
    ///
    /// # Errors
    /// [`Class::Verification`] when there is more than one document of a kind, so that nobody knows which is meant.
    pub fn stated(layout: &Layout, image: &Subject) -> Result<Self> {
        let evidence = Evidence::of(layout, image)?;
        let one = |predicate_type| {
            let mut found = evidence.predicates(predicate_type, image.digest());
            let first = found.next().cloned();
            if found.any(|other| Some(other) != first.as_ref()) {
                return Err(Error::new(Class::Verification, "an image has several documents where one is expected")
                    .why(format!("{} has different attestations {predicate_type}", image.label()))
                    .hint("name the key that has signed so far, so that nothing else counts: --old-key FILE"));
            }
            Ok(first)
        };
        Ok(Self { sbom: one(statement::SPDX)?, provenance: one(statement::SLSA_PROVENANCE)? })
    }
}

/// Writes `layout` to `dest` (which may be the same directory) with everything of `predicates` about each image, signed. What had been
/// signed before about these images is not taken along; other artifacts are.
///
/// When a signature is awaited, `dest` stays as it is, and [`Asking::done`] tells.
///
/// # Errors
/// [`Class::BadInput`] when the layout holds no image or an unnamed one; what reading, signing and writing report.
pub fn sign(
    layout: &Layout,
    dest: &Path,
    asking: &mut Asking<'_>,
    predicates: &mut dyn FnMut(&Subject) -> Result<Predicates>,
) -> Result<()> {
    let images = subjects(layout)?;
    if images.is_empty() {
        return Err(Error::new(Class::BadInput, "the layout holds no image for linux/amd64 to sign"));
    }
    let mut signed = Vec::new();
    let mut complete = true;
    for image in &images {
        match sign_image(asking, image, predicates(image)?)? {
            Some(all) => signed.push((image, all)),
            None => complete = false,
        }
    }
    if !complete {
        return Ok(());
    }
    let mut writer = Writer::create(dest)?;
    let local = images.len() == 1;
    copy(layout, &images, local, &mut writer)?;
    for (image, all) in &signed {
        Artifacts { writer: &mut writer, image, key: asking.key(), local }.add(all)?;
    }
    writer.finish()
}

/// Asks for every signature about one image; `None` when one of them is awaited.
fn sign_image(asking: &mut Asking<'_>, image: &Subject, predicates: Predicates) -> Result<Option<Signed>> {
    if image.names.is_empty() {
        return Err(Error::new(Class::BadInput, "an image of the layout has no name to sign")
            .why(image.digest().oci())
            .hint("name it: its entry of index.json needs the annotation org.opencontainers.image.ref.name"));
    }
    let mut payloads = Vec::new();
    for name in &image.names {
        let payload = Payload::new(image.digest(), name).bytes()?;
        let signature = asking.sign(&payload, &format!("the name {name} of {}", image.digest().oci()))?;
        payloads.push(signature.map(|signature| (payload, signature)));
    }
    let signature = Statement::about(image, statement::COSIGN_SIGN, json!({}));
    let signature_envelope = envelope(asking, image, &signature)?;
    let sbom = predicates.sbom.clone();
    let mut attestations = Vec::new();
    for (kind, predicate) in [(statement::SPDX, predicates.sbom), (statement::SLSA_PROVENANCE, predicates.provenance)] {
        if let Some(predicate) = predicate {
            let statement = Statement::about(image, kind, predicate);
            let envelope = envelope(asking, image, &statement)?;
            attestations.push(envelope.map(|envelope| (statement, envelope)));
        }
    }
    let (payloads, attestations) = (payloads.into_iter().collect(), attestations.into_iter().collect());
    Ok(match (payloads, signature_envelope, attestations) {
        (Some(payloads), Some(signature_envelope), Some(attestations)) => {
            Some(Signed { payloads, signature, signature_envelope, attestations, sbom })
        }
        _ => None,
    })
}

fn envelope(asking: &mut Asking<'_>, image: &Subject, statement: &Statement) -> Result<Option<Envelope>> {
    let what = format!("{} of {}", statement.predicate_type, image.label());
    Envelope::sign(asking, dsse::IN_TOTO, statement.bytes()?, &what)
}

/// Copies the images, and what of the artifacts is not about to be written anew.
fn copy(layout: &Layout, images: &[Subject], local: bool, writer: &mut Writer) -> Result<()> {
    let artifacts = layout.artifacts()?;
    let mut marked = false;
    for mut entry in layout.index()?.manifests().clone() {
        artifact::unmark(&mut entry);
        if let Some(artifact) = artifacts.iter().find(|artifact| artifact.descriptor.digest() == entry.digest()) {
            if images.iter().any(|image| is_ours(artifact, image)) {
                continue;
            }
            copy_manifest(layout, &entry, &artifact.manifest, writer)?;
        } else if let Some(image) = images.iter().find(|image| entry.is(image.digest())) {
            copy_manifest(layout, &entry, &crate::source::manifest(layout, image)?, writer)?;
            if local && !marked {
                artifact::mark_image(&mut entry);
                marked = true;
            }
        } else {
            return Err(Error::new(Class::BadInput, "the layout holds something that cannot be signed")
                .why(format!("{} {}", entry.media_type(), entry.digest()))
                .hint("sign a layout that holds images for linux/amd64 alone"));
        }
        writer.list(entry);
    }
    Ok(())
}

fn copy_manifest(
    layout: &Layout,
    entry: &Descriptor,
    manifest: &oci::types::Manifest,
    writer: &mut Writer,
) -> Result<()> {
    writer.copy(layout, entry)?;
    writer.copy(layout, manifest.config())?;
    manifest.layers().iter().try_for_each(|layer| writer.copy(layout, layer))
}

/// Whether `artifact` is a signature, an attestation or a bill of materials of `image`.
fn is_ours(artifact: &Artifact, image: &Subject) -> bool {
    let tagged = ["sig", "att"].iter().any(|kind| artifact.name() == Some(&image.tag(kind)));
    let kinds = [bundle::MEDIA_TYPE, sbom::MEDIA_TYPE];
    let kind = artifact.manifest.artifact_type().as_ref().is_some_and(|kind| kinds.contains(&kind.as_ref()));
    let about = artifact.manifest.subject().as_ref().is_some_and(|subject| subject.is(image.digest()));
    tagged || (kind && about)
}
