//! Target for artifacts attached to an image.

use attest::evidence::Evidence;
use attest::subject::Subject;
use attest::{Source, bundle, dsse, simple};
use common::{Result, Sha256};
use keys::PublicKey;
use oci::Artifact;
use oci::types::{self, Descriptor, MediaType, Named as _, REF_NAME};

/// A public key whose private key was not kept: every signature by it is forged.
pub const KEY: &str = include_str!("../corpus/keys/public.pem");

/// A line of base64, the signature, and a document: attached in each form that cosign knows. None of them can be verified.
pub fn evidence(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (Ok(signature), document) = (std::str::from_utf8(&data[..end]), data.get(end + 1..).unwrap_or_default()) else {
        return;
    };
    let image = Subject::new(MediaType::ImageManifest, Sha256::of(""), 0);
    let tagged = |kind, media_type| {
        let mut layer = layer(media_type, document);
        layer.annotate(simple::SIGNATURE, signature);
        artifact(None, Some(image.tag(kind)), &image, layer)
    };
    let referrer = artifact(Some(bundle::MEDIA_TYPE), None, &image, layer(bundle::MEDIA_TYPE, document));
    let artifacts = [tagged("sig", simple::MEDIA_TYPE), tagged("att", dsse::MEDIA_TYPE), referrer];
    let Ok(artifacts) = artifacts.into_iter().collect() else { return };
    let (Ok(evidence), Ok(key)) =
        (Evidence::of(&OneDocument { artifacts, document }, &image), PublicKey::from_pem(KEY.as_bytes()))
    else {
        return;
    };
    assert_eq!(evidence.items.len() + evidence.unreadable.len(), 3, "an artifact was skipped");
    for item in &evidence.items {
        assert!(item.verify(&key, image.digest()).is_err(), "verified without a key: {}", item.predicate_type());
    }
}

/// Source of one document under several names.
struct OneDocument<'a> {
    artifacts: Vec<Artifact>,
    document: &'a [u8],
}

impl Source for OneDocument<'_> {
    fn read(&self, _blob: &Descriptor) -> Result<Vec<u8>> {
        Ok(self.document.to_vec())
    }

    fn check(&self, _blob: &Descriptor) -> Result<()> {
        Ok(())
    }

    fn artifacts(&self, _image: &Subject) -> Result<Vec<Artifact>> {
        Ok(self.artifacts.clone())
    }
}

fn layer(media_type: &str, bytes: &[u8]) -> Descriptor {
    types::descriptor(media_type, Sha256::of(bytes), bytes.len() as u64)
}

fn artifact(kind: Option<&str>, name: Option<String>, image: &Subject, layer: Descriptor) -> Result<Artifact> {
    let mut descriptor = self::layer(MediaType::ImageManifest.as_ref(), b"manifest");
    descriptor.set_annotations(types::annotations(name.map(|name| (REF_NAME, name))));
    let config = self::layer(MediaType::EmptyJSON.as_ref(), b"{}");
    let mut manifest = types::manifest(config, vec![layer])?;
    manifest.set_artifact_type(kind.map(Into::into)).set_subject(kind.map(|_| image.manifest.clone()));
    Ok(Artifact { descriptor, manifest })
}
