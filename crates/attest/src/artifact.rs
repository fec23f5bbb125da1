//! Manifests of signatures and attestations, as cosign 2.5 and 3 write them.

use common::Result;
use keys::PublicKey;
use oci::Writer;
use oci::types::{self, Descriptor, Manifest, MediaType, Named as _, canonical};
use serde_json::{Value, json};

use crate::bundle::{self, Bundle};
use crate::dsse::{self, Envelope};
use crate::statement::Statement;
use crate::subject::Subject;
use crate::{encoding, sbom, simple};

/// Annotation of index entries that cosign reads from a layout (`cosign verify --local-image`; cosign v2.5.0, pkg/oci/layout).
const KIND: &str = "kind";
/// Value of `KIND` for the image.
pub const KIND_IMAGE: &str = "dev.cosignproject.cosign/image";
const KIND_SIGNATURES: &str = "dev.cosignproject.cosign/sigs";
const KIND_ATTESTATIONS: &str = "dev.cosignproject.cosign/atts";

/// All signed documents of one image.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Payload and signature for each name.
    pub payloads: Vec<(Vec<u8>, Vec<u8>)>,
    /// The plain signature as a statement.
    pub signature: Statement,
    /// Its envelope.
    pub signature_envelope: Envelope,
    /// Statements with their envelopes.
    pub attestations: Vec<(Statement, Envelope)>,
    /// The SBOM, as a separate document.
    pub sbom: Option<Value>,
}

/// Adds the artifacts of `image` to a layout.
#[derive(Debug)]
pub struct Artifacts<'a> {
    /// The layout.
    pub writer: &'a mut Writer,
    /// The image.
    pub image: &'a Subject,
    /// The key.
    pub key: &'a PublicKey,
    /// Whether entries get the annotation `KIND`: only in a layout with one image, where cosign can find it.
    pub local: bool,
}

impl Artifacts<'_> {
    /// Adds all documents of `signed`, always in the same order.
    pub fn add(&mut self, signed: &Signed) -> Result<()> {
        if let Some(sbom) = &signed.sbom {
            self.sbom(sbom)?;
        }
        self.signatures(&signed.payloads)?;
        if !signed.attestations.is_empty() {
            self.attestations(&signed.attestations)?;
        }
        self.bundle(&signed.signature, &signed.signature_envelope)?;
        for (statement, envelope) in &signed.attestations {
            self.bundle(statement, envelope)?;
        }
        Ok(())
    }

    /// Adds the unsigned SBOM as a referrer, for tools that find it by its media type.
    fn sbom(&mut self, document: &Value) -> Result<()> {
        let layer = self.writer.bytes(sbom::MEDIA_TYPE, &canonical(document)?)?;
        self.referrer(sbom::MEDIA_TYPE, layer, &[])
    }

    /// Adds `sha256-<hex>.sig` with one layer per signature.
    fn signatures(&mut self, payloads: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let layer = |(payload, signature): &(Vec<u8>, Vec<u8>)| {
            let mut layer = self.writer.bytes(simple::MEDIA_TYPE, payload)?;
            layer.annotate(simple::SIGNATURE, &encoding::encode(signature));
            Ok(layer)
        };
        let layers = payloads.iter().map(layer).collect::<Result<_>>()?;
        self.tagged("sig", KIND_SIGNATURES, layers)
    }

    /// Adds `sha256-<hex>.att` with one layer per attestation.
    fn attestations(&mut self, attestations: &[(Statement, Envelope)]) -> Result<()> {
        let layer = |(statement, envelope): &(Statement, Envelope)| {
            let mut layer = self.writer.bytes(dsse::MEDIA_TYPE, &canonical(envelope)?)?;
            // Empty, as the signature is in the envelope; cosign requires the annotation.
            layer.annotate(simple::SIGNATURE, "");
            layer.annotate("predicateType", &statement.predicate_type);
            Ok(layer)
        };
        let layers = attestations.iter().map(layer).collect::<Result<_>>()?;
        self.tagged("att", KIND_ATTESTATIONS, layers)
    }

    /// Adds a manifest that is found by its tag. It looks like an image, since old registries accept nothing else.
    fn tagged(&mut self, tag: &str, kind: &str, layers: Vec<Descriptor>) -> Result<()> {
        let diff_ids: Vec<_> = layers.iter().map(Descriptor::digest).collect();
        let config = json!({
            "architecture": "", "os": "", "created": self.image.created, "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.writer.bytes(MediaType::ImageConfig, &canonical(&config)?)?;
        let manifest = types::manifest(config, layers)?;
        let mut entry = self.writer.bytes(MediaType::ImageManifest, &canonical(&manifest)?)?;
        entry.annotate(types::REF_NAME, &self.image.tag(tag));
        if self.local {
            entry.annotate(KIND, kind);
        }
        self.writer.list(entry);
        Ok(())
    }

    fn bundle(&mut self, statement: &Statement, envelope: &Envelope) -> Result<()> {
        let bundle = Bundle::new(envelope.clone(), self.key);
        let layer = self.writer.bytes(bundle::MEDIA_TYPE, &bundle.bytes()?)?;
        let annotations = [
            ("dev.sigstore.bundle.content", "dsse-envelope"),
            ("dev.sigstore.bundle.predicateType", &statement.predicate_type),
        ];
        self.referrer(bundle::MEDIA_TYPE, layer, &annotations)
    }

    /// Adds a referrer, which is found by its subject (image-spec, manifest.md, "Guidelines for Artifact Usage").
    fn referrer(&mut self, kind: &str, layer: Descriptor, annotations: &[(&str, &str)]) -> Result<()> {
        let config = self.writer.bytes(MediaType::EmptyJSON, b"{}")?;
        let created = ("org.opencontainers.image.created", self.image.created.as_str());
        let annotations = types::annotations(annotations.iter().copied().chain([created]));
        let mut manifest: Manifest = types::manifest(config, vec![layer])?;
        manifest.set_artifact_type(Some(kind.into())).set_subject(Some(self.image.manifest.clone()));
        manifest.set_annotations(annotations);
        self.writer.artifact(&manifest, None).map(|_| ())
    }
}

/// Adds cosign's annotation to the index entry of the layout's only image.
pub fn mark_image(entry: &mut Descriptor) {
    entry.annotate(KIND, KIND_IMAGE);
}

/// Removes cosign's annotation from an index entry.
pub fn unmark(entry: &mut Descriptor) {
    let others = entry.annotations().iter().flatten().filter(|(key, _)| *key != KIND);
    let others = types::annotations(others);
    entry.set_annotations(others);
}
