//! Base64 in JSON (RFC 4648 section 4), as in protobuf's JSON mapping and DSSE.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Class, Error, Result};

/// Encodes `bytes` as base64 with padding.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Decodes base64 with padding.
pub fn decode(text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|e| Error::new(Class::UntrustedData, "malformed base64 in a signed document").why(e))
}

/// For `#[serde(with = "as_base64")]`.
pub mod as_base64 {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    /// Serializes `bytes` as base64.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::encode(bytes))
    }

    /// Deserializes base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        super::decode(&text).map_err(|e| D::Error::custom(e.to_string()))
    }
}
