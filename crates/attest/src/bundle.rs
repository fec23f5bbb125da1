//! Sigstore bundles, version 0.3: an envelope together with what it verifies with (sigstore/protobuf-specs, `sigstore_bundle.proto`, in
//! protobuf's JSON mapping). Ours name a public key, and bear neither certificate nor transparency log entry.

use common::{Class, Error, Result};
use keys::PublicKey;
use oci::types::canonical;
use serde::{Deserialize, Serialize};

use crate::dsse::Envelope;
use crate::encoding;

/// Media type of a bundle, and artifact type of the manifest that holds one.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// Talos reads so many bytes of a bundle, and so many of a manifest (siderolabs/talos v1.13.9, `maxBundleSize`).
const LIMIT: usize = 1 << 20;

/// An envelope and the hint which key it is signed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    media_type: String,
    verification_material: VerificationMaterial,
    /// The envelope. Bundles of plain message signatures have none, and are not for images.
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
    /// Bundles `envelope` with the hint on `key`.
    #[must_use]
    pub fn new(envelope: Envelope, key: &PublicKey) -> Self {
        Self {
            media_type: MEDIA_TYPE.to_owned(),
            verification_material: VerificationMaterial { public_key: PublicKeyIdentifier { hint: hint(key) } },
            dsse_envelope: envelope,
        }
    }

    /// The document.
    ///
    /// # Errors
    /// [`Class::BadInput`] when it is larger than Talos reads.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let bytes = canonical(self)?;
        if bytes.len() > LIMIT {
            return Err(Error::new(Class::BadInput, "an attestation is too large")
                .why(format!("its bundle has {} bytes, and Talos reads {LIMIT} at most", bytes.len())));
        }
        Ok(bytes)
    }

    /// Reads a bundle that is signed with a key.
    ///
    /// # Errors
    /// [`Class::BadInput`] when it is malformed, of another version, or bears a certificate instead.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |why: String| Error::new(Class::BadInput, "a sigstore bundle cannot be used").why(why);
        let bundle: Self = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        if bundle.media_type != MEDIA_TYPE {
            return Err(bad(format!("its media type is {:?}, {MEDIA_TYPE} is known", bundle.media_type)));
        }
        Ok(bundle)
    }
}

/// Cosign's hint on a key: base64 of the SHA-256 of its DER `SubjectPublicKeyInfo` (cosign v3.1.2, `NewSignerVerifierKeypair`). It helps to
/// find the key and proves nothing.
#[must_use]
pub fn hint(key: &PublicKey) -> String {
    encoding::encode(key.fingerprint().bytes())
}
