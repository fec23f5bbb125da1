//! Signed documents and SBOMs attached to an image, parsed but not yet verified.

use common::{Class, Error, Result, Sha256};
use keys::{Algorithm, PublicKey};
use oci::types::{Descriptor, Named as _};
use serde::Serialize;
use serde_json::Value;

use crate::bundle::{self, Bundle};
use crate::dsse::{self, Envelope};
use crate::simple::{self, Payload};
use crate::source::Source;
use crate::statement::Statement;
use crate::subject::Subject;
use crate::{encoding, sbom};

/// Artifact types of signatures that cannot be verified here: older sigstore bundles, notation.
const OTHER_SIGNATURES: [&str; 2] = ["application/vnd.dev.sigstore.bundle", "application/vnd.cncf.notary"];

/// How a document is attached to the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Under cosign's tag: read by cosign before 3, skopeo, podman and CRI-O.
    Tag,
    /// As a referrer of the image: read by cosign 3 and Talos.
    Referrer,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tag => "under its tag",
            Self::Referrer => "as a referrer",
        })
    }
}

/// One signed document.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where it was found.
    pub place: Place,
    /// Its content.
    pub content: Content,
}

/// Content of a signed document.
#[derive(Clone, Debug)]
pub enum Content {
    /// Binds an image digest to a name.
    Payload {
        /// The signed bytes.
        bytes: Vec<u8>,
        /// The parsed bytes.
        payload: Payload,
        /// The signature.
        signature: Vec<u8>,
    },
    /// A statement about the image.
    Envelope {
        /// The signed envelope.
        envelope: Envelope,
        /// Its parsed payload.
        statement: Statement,
    },
}

/// Everything attached to an image.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Signed documents, with any key.
    pub items: Vec<Item>,
    /// Unsigned SBOMs, attached as referrers.
    pub sboms: Vec<Vec<u8>>,
    /// Documents that could not be parsed, and why.
    pub unreadable: Vec<String>,
}

impl Evidence {
    /// Reads all documents about `image`. Malformed ones are noted but not an error: anyone who can write to the repository could
    /// otherwise block verification.
    pub fn of(source: &dyn Source, image: &Subject) -> Result<Self> {
        let mut evidence = Self::default();
        for artifact in source.artifacts(image)? {
            let about = artifact.manifest.subject().as_ref().is_some_and(|subject| subject.is(image.digest()));
            let tag = |kind| artifact.name() == Some(&image.tag(kind));
            let kind = artifact.manifest.artifact_type().as_ref().unwrap_or(artifact.manifest.config().media_type());
            let kind = kind.as_ref();
            for layer in artifact.manifest.layers() {
                let read = if tag("sig") {
                    signature(source, layer, Place::Tag).map(|item| evidence.items.push(item))
                } else if about && kind == simple::REFERRER {
                    signature(source, layer, Place::Referrer).map(|item| evidence.items.push(item))
                } else if tag("att") {
                    attestation(source, layer).map(|item| evidence.items.push(item))
                } else if about && kind == bundle::MEDIA_TYPE {
                    bundled(source, layer).map(|item| evidence.items.push(item))
                } else if about && kind == sbom::MEDIA_TYPE {
                    source.read(layer).map(|document| evidence.sboms.push(document))
                } else if about && OTHER_SIGNATURES.iter().any(|prefix| kind.starts_with(prefix)) {
                    Err(Error::new(Class::UntrustedData, format!("unsupported signature format {kind}")))
                } else {
                    Ok(())
                };
                if let Err(e) = read {
                    evidence.unreadable.push(format!("{}: {e}", artifact.descriptor.digest()));
                }
            }
        }
        Ok(evidence)
    }

    /// Returns the unverified predicates of that type about `image`.
    pub fn predicates<'a>(&'a self, predicate_type: &'a str, image: Sha256) -> impl Iterator<Item = &'a Value> {
        let matches = move |statement: &Statement| {
            statement.predicate_type == predicate_type && statement.names_of(image).is_some()
        };
        self.items.iter().filter_map(move |item| match &item.content {
            Content::Envelope { statement, .. } if matches(statement) => Some(&statement.predicate),
            _ => None,
        })
    }
}

impl Item {
    /// The predicate type; cosign's for a plain signature.
    pub fn predicate_type(&self) -> &str {
        match &self.content {
            Content::Payload { .. } => crate::statement::COSIGN_SIGN,
            Content::Envelope { statement, .. } => &statement.predicate_type,
        }
    }

    /// Verifies that `key` signed it and it is about `image`, and returns the signed names of the image, possibly none.
    pub fn verify(&self, key: &PublicKey, image: Sha256) -> Result<Vec<String>> {
        match &self.content {
            Content::Payload { bytes, payload, signature } => {
                let digest = Sha256::of(bytes);
                key.verify(Algorithm::EcdsaP256Sha256, digest.bytes(), signature)?;
                let about = || format!("the signed image is {}", payload.image().oci());
                if payload.image() == image { Ok(vec![payload.name().to_owned()]) } else { Err(replayed(&about())) }
            }
            Content::Envelope { envelope, statement } => {
                envelope.verify(key)?;
                statement.names_of(image).ok_or_else(|| replayed("none of its subjects is this image"))
            }
        }
    }
}

fn replayed(why: &str) -> Error {
    Error::new(Class::Verification, "the signature belongs to another image").why(why)
}

fn signature(source: &dyn Source, layer: &Descriptor, place: Place) -> Result<Item> {
    expect(layer, simple::MEDIA_TYPE)?;
    let text = layer.annotation(simple::SIGNATURE).unwrap_or_default();
    let signature = encoding::decode(text)?;
    let bytes = source.read(layer)?;
    let payload = Payload::parse(&bytes)?;
    Ok(Item { place, content: Content::Payload { bytes, payload, signature } })
}

fn attestation(source: &dyn Source, layer: &Descriptor) -> Result<Item> {
    expect(layer, dsse::MEDIA_TYPE)?;
    let envelope = serde_json::from_slice(&source.read(layer)?)
        .map_err(|e| Error::new(Class::UntrustedData, "malformed attestation").why(e))?;
    enveloped(Place::Tag, envelope)
}

fn bundled(source: &dyn Source, layer: &Descriptor) -> Result<Item> {
    expect(layer, bundle::MEDIA_TYPE)?;
    enveloped(Place::Referrer, Bundle::parse(&source.read(layer)?)?.dsse_envelope)
}

fn enveloped(place: Place, envelope: Envelope) -> Result<Item> {
    if envelope.payload_type != dsse::IN_TOTO {
        return Err(Error::new(Class::UntrustedData, "the attestation does not contain an in-toto statement")
            .why(format!("its payload type is {:?}", envelope.payload_type)));
    }
    let statement = Statement::parse(&envelope.payload)?;
    Ok(Item { place, content: Content::Envelope { envelope, statement } })
}

fn expect(layer: &Descriptor, media_type: &str) -> Result<()> {
    if layer.media_type().as_ref() == media_type {
        return Ok(());
    }
    let why = format!("unsupported layer media type {:?}, expected {media_type}", layer.media_type().as_ref());
    Err(Error::new(Class::UntrustedData, "malformed artifact").why(why))
}
