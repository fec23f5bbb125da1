//! What stands beside an image and is said to be about it.

use std::collections::BTreeMap;

use attest::evidence::Evidence;
use attest::subject::Subject;
use attest::{Source, bundle, dsse, simple};
use common::{Result, Sha256};
use keys::PublicKey;
use oci::Artifact;
use oci::types::{Descriptor, MANIFEST, Manifest, REF_NAME};

/// A key whose private half nobody has: what it is said to have signed is forged.
const KEY: &str = include_str!("../corpus/keys/public.pem");

/// A line of base64, which is a signature, and a document: kept as each kind that cosign knows. None of it can be verified.
pub fn evidence(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (Ok(signature), document) = (std::str::from_utf8(&data[..end]), data.get(end + 1..).unwrap_or_default()) else {
        return;
    };
    let image = Subject::new(MANIFEST, Sha256::of(""), 0);
    let tagged = |kind, media_type| {
        let mut layer = layer(media_type, document);
        layer.annotations.insert(simple::SIGNATURE.to_owned(), signature.to_owned());
        artifact(None, Some(image.tag(kind)), &image, layer)
    };
    let referrer = artifact(Some(bundle::MEDIA_TYPE), None, &image, layer(bundle::MEDIA_TYPE, document));
    let artifacts = vec![tagged("sig", simple::MEDIA_TYPE), tagged("att", dsse::MEDIA_TYPE), referrer];
    let (Ok(evidence), Ok(key)) =
        (Evidence::of(&Beside { artifacts, document }, &image), PublicKey::from_pem(KEY.as_bytes()))
    else {
        return;
    };
    assert_eq!(evidence.items.len() + evidence.unreadable.len(), 3, "something was passed over");
    for item in &evidence.items {
        assert!(item.verify(&key, image.digest()).is_err(), "verified without a key: {}", item.predicate_type());
    }
}

/// One document under several names.
struct Beside<'a> {
    artifacts: Vec<Artifact>,
    document: &'a [u8],
}

impl Source for Beside<'_> {
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
    Descriptor::new(media_type, Sha256::of(bytes), bytes.len() as u64)
}

fn artifact(kind: Option<&str>, name: Option<String>, image: &Subject, layer: Descriptor) -> Artifact {
    let mut descriptor = self::layer(MANIFEST, b"manifest");
    descriptor.annotations = name.map(|name| (REF_NAME.to_owned(), name)).into_iter().collect();
    let manifest = Manifest {
        schema_version: 2,
        media_type: None,
        artifact_type: kind.map(str::to_owned),
        config: self::layer(oci::types::EMPTY, b"{}"),
        layers: vec![layer],
        subject: kind.map(|_| image.manifest.clone()),
        annotations: BTreeMap::new(),
    };
    Artifact { descriptor, manifest }
}
