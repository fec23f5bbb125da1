//! DSSE envelopes: a typed payload with signatures over the type and the payload (secure-systems-lab/dsse, protocol.md and envelope.md 1.0).

use common::{Class, Error, Result, Sha256};
use keys::{Algorithm, PublicKey};
use serde::{Deserialize, Serialize};

use crate::encoding::as_base64;
use crate::session::SigningSession;

/// Payload type of in-toto statements (in-toto attestation framework, envelope.md).
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// Media type of an envelope, as cosign names it in its tag-based layout.
pub const MEDIA_TYPE: &str = "application/vnd.dsse.envelope.v1+json";

/// A payload and its signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// Type of the payload.
    pub payload_type: String,
    /// The payload.
    #[serde(with = "as_base64")]
    pub payload: Vec<u8>,
    /// One per key.
    pub signatures: Vec<Signature>,
}

/// One signature of an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// A hint at the key; not authenticated, and never written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub keyid: String,
    /// The signature over [`pae`].
    #[serde(with = "as_base64")]
    pub sig: Vec<u8>,
}

impl Envelope {
    /// Signs and wraps `payload`; `None` if its signature is pending.
    pub fn sign(
        session: &mut SigningSession<'_>,
        payload_type: &str,
        payload: Vec<u8>,
        what: &str,
    ) -> Result<Option<Self>> {
        let signature = session.sign(&pae(payload_type, &payload), what)?;
        Ok(signature.map(|sig| Self {
            payload_type: payload_type.to_owned(),
            payload,
            signatures: vec![Signature { keyid: String::new(), sig }],
        }))
    }

    /// Verifies that one of the signatures is by `key`; fails with [`Class::Verification`] otherwise.
    pub fn verify(&self, key: &PublicKey) -> Result<()> {
        let digest = Sha256::of(pae(&self.payload_type, &self.payload));
        let of_key = |s: &Signature| key.verify(Algorithm::EcdsaP256Sha256, digest.bytes(), &s.sig).is_ok();
        if self.signatures.iter().any(of_key) {
            return Ok(());
        }
        Err(Error::new(Class::Verification, "the attestation is not signed with the key"))
    }
}

/// Returns the bytes to sign: `DSSEv1 <length> <type> <length> <payload>` (protocol.md, "Signature Definition").
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of protocol.md ("Test Vectors").
    #[test]
    fn matches_the_test_vector_of_the_specification() {
        let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        assert_eq!(pae("http://example.com/HelloWorld", b"hello world"), expected);
    }

    #[test]
    fn lengths_separate_type_and_payload() {
        assert_ne!(pae("a", b"b 1 c"), pae("a 5 b", b"c"));
        assert_eq!(pae("é", b""), "DSSEv1 2 é 0 ".as_bytes());
    }
}
