//! Sigstore bundles, version 0.3: an envelope with its verification material (sigstore/protobuf-specs, `sigstore_bundle.proto`, in
//! protobuf's JSON mapping). Only bundles with a public key are supported: no certificate, no transparency log entry.

use common::{Class, Error, Result};
use keys::PublicKey;
use oci::types::canonical;
use serde::{Deserialize, Serialize};

use crate::dsse::Envelope;
use crate::encoding;

/// Media type of a bundle, and artifact type of its manifest.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// Maximum size in bytes of a bundle, and of a manifest, that Talos reads (siderolabs/talos v1.13.9, `maxBundleSize`).
const LIMIT: usize = 1 << 20;

/// An envelope, and a hint at the key that signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    media_type: String,
    verification_material: VerificationMaterial,
    /// The envelope. Bundles of message signatures have none and do not apply to images.
    pub dsse_envelope: Envelope,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerificationMaterial {
    public_key: PublicKeyIdentifier,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PublicKeyIdentifier {
    #[serde(default)]
    hint: String,
}

impl Bundle {
    /// Bundles `envelope` with a hint at `key`.
    #[must_use]
    pub fn new(envelope: Envelope, key: &PublicKey) -> Self {
        Self {
            media_type: MEDIA_TYPE.to_owned(),
            verification_material: VerificationMaterial { public_key: PublicKeyIdentifier { hint: hint(key) } },
            dsse_envelope: envelope,
        }
    }

    /// Serializes the bundle, which must not be larger than Talos reads.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let bytes = canonical(self)?;
        if bytes.len() > LIMIT {
            return Err(Error::new(Class::BadInput, "the attestation is too large")
                .why(format!("its bundle has {} bytes; Talos reads at most {LIMIT}", bytes.len())));
        }
        Ok(bytes)
    }

    /// Parses a bundle with a public key. Other versions, and bundles with a certificate, are rejected.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |why: String| Error::new(Class::UntrustedData, "malformed sigstore bundle").why(why);
        let bundle: Self = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        if bundle.media_type != MEDIA_TYPE {
            return Err(bad(format!("unsupported media type {:?}, expected {MEDIA_TYPE}", bundle.media_type)));
        }
        Ok(bundle)
    }
}

/// Returns cosign's hint at a key: base64 of the SHA-256 of its DER `SubjectPublicKeyInfo` (cosign v3.1.2, `NewSignerVerifierKeypair`).
/// It is not authenticated.
#[must_use]
pub fn hint(key: &PublicKey) -> String {
    encoding::encode(key.fingerprint().bytes())
}
