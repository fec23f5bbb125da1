//! Signs the images of a layout: rewrites it with signatures and attestations attached to each image.

use std::path::Path;

use common::{Class, Error, Result};
use keys::PublicKey;
use oci::types::{Descriptor, Named as _};
use oci::{Artifact, Layout, Writer};
use serde_json::{Value, json};

use crate::artifact::{self, Artifacts, Signed};
use crate::dsse::{self, Envelope};
use crate::evidence::Evidence;
use crate::session::SigningSession;
use crate::simple::Payload;
use crate::source::{WithoutLayers, subjects};
use crate::statement::{self, Statement};
use crate::subject::Subject;
use crate::verify::{Demand, verify};
use crate::{bundle, sbom};

/// Predicates to sign in addition to the plain signature.
#[derive(Clone, Debug, Default)]
pub struct Predicates {
    /// SPDX document.
    pub sbom: Option<Value>,
    /// SLSA provenance.
    pub provenance: Option<Value>,
}

impl Predicates {
    /// Returns the predicates about `image` that `key` signed, to re-sign them with another key.
    pub fn signed(layout: &Layout, image: &Subject, key: &PublicKey, demand: Demand) -> Result<Self> {
        // Layer digests are checked when the layers are copied.
        let verified = verify(&WithoutLayers(layout), image, key, demand)?;
        Ok(Self { sbom: verified.sbom, provenance: verified.provenance })
    }

    /// Returns the unverified predicates about `image`. Re-signing them vouches for them.
    ///
    /// # Errors
    /// [`Class::Verification`] if there are several different documents of one kind.
    pub fn stated(layout: &Layout, image: &Subject) -> Result<Self> {
        let evidence = Evidence::of(layout, image)?;
        let one = |predicate_type| {
            let mut found = evidence.predicates(predicate_type, image.digest());
            let first = found.next().cloned();
            if found.any(|other| Some(other) != first.as_ref()) {
                return Err(Error::new(Class::Verification, "ambiguous attestations of an image")
                    .why(format!("{} has several different attestations {predicate_type}", image.label()))
                    .hint("use only attestations signed with the previous key: --old-key FILE"));
            }
            Ok(first)
        };
        Ok(Self { sbom: one(statement::SPDX)?, provenance: one(statement::SLSA_PROVENANCE)? })
    }
}

/// Writes `layout` to `dest` (which may be the same directory) with the signed `predicates` of each image. Earlier signatures of these
/// images are dropped; other artifacts are copied.
///
/// If a signature is pending, `dest` is not changed, and [`SigningSession::finish`] returns it.
pub fn sign(
    layout: &Layout,
    dest: &Path,
    session: &mut SigningSession<'_>,
    predicates: &mut dyn FnMut(&Subject) -> Result<Predicates>,
) -> Result<()> {
    let images = subjects(layout)?;
    if images.is_empty() {
        return Err(Error::new(Class::BadInput, "the layout contains no image for linux/amd64"));
    }
    let mut signed = Vec::new();
    let mut complete = true;
    for image in &images {
        match sign_image(session, image, predicates(image)?)? {
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
        Artifacts { writer: &mut writer, image, key: session.key(), local }.add(all)?;
    }
    writer.finish()
}

/// Requests all signatures of one image; `None` if one of them is pending.
fn sign_image(session: &mut SigningSession<'_>, image: &Subject, predicates: Predicates) -> Result<Option<Signed>> {
    if image.names.is_empty() {
        return Err(Error::new(Class::UntrustedData, "an image in the layout has no name")
            .why(image.digest().oci())
            .hint("add the annotation org.opencontainers.image.ref.name to its entry in index.json"));
    }
    let mut payloads = Vec::new();
    for name in &image.names {
        let payload = Payload::new(image.digest(), name).bytes()?;
        let signature = session.sign(&payload, &format!("the name {name} of {}", image.digest().oci()))?;
        payloads.push(signature.map(|signature| (payload, signature)));
    }
    let signature = Statement::about(image, statement::COSIGN_SIGN, json!({}));
    let signature_envelope = envelope(session, image, &signature)?;
    let sbom = predicates.sbom.clone();
    let mut attestations = Vec::new();
    for (kind, predicate) in [(statement::SPDX, predicates.sbom), (statement::SLSA_PROVENANCE, predicates.provenance)] {
        if let Some(predicate) = predicate {
            let statement = Statement::about(image, kind, predicate);
            let envelope = envelope(session, image, &statement)?;
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

fn envelope(session: &mut SigningSession<'_>, image: &Subject, statement: &Statement) -> Result<Option<Envelope>> {
    let what = format!("{} of {}", statement.predicate_type, image.label());
    Envelope::sign(session, dsse::IN_TOTO, statement.bytes()?, &what)
}

/// Copies the images, and the artifacts that are not about to be replaced.
fn copy(layout: &Layout, images: &[Subject], local: bool, writer: &mut Writer) -> Result<()> {
    let artifacts = layout.artifacts()?;
    let mut marked = false;
    for mut entry in layout.index()?.manifests().clone() {
        artifact::unmark(&mut entry);
        if let Some(artifact) = artifacts.iter().find(|artifact| artifact.descriptor.digest() == entry.digest()) {
            if images.iter().any(|image| is_replaced(artifact, image)) {
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
            return Err(Error::new(Class::UntrustedData, "unsupported entry in the layout index")
                .why(format!("{} {}", entry.media_type(), entry.digest()))
                .hint("sign a layout that contains only images for linux/amd64"));
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

/// Whether `artifact` is a signature, an attestation or an SBOM of `image`.
fn is_replaced(artifact: &Artifact, image: &Subject) -> bool {
    let tagged = ["sig", "att"].iter().any(|kind| artifact.name() == Some(&image.tag(kind)));
    let kinds = [bundle::MEDIA_TYPE, sbom::MEDIA_TYPE];
    let kind = artifact.manifest.artifact_type().as_ref().is_some_and(|kind| kinds.contains(&kind.as_ref()));
    let about = artifact.manifest.subject().as_ref().is_some_and(|subject| subject.is(image.digest()));
    tagged || (kind && about)
}
