//! Bytes as base64 text in JSON (RFC 4648 section 4), as protobuf's JSON mapping and DSSE write them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Class, Error, Result};

/// With padding.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// # Errors
/// [`Class::BadInput`] when `text` is not base64 with padding.
pub fn decode(text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|e| Error::new(Class::BadInput, "a signed document holds malformed base64").why(e))
}

/// For `#[serde(with = "as_base64")]`.
pub mod as_base64 {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    /// Writes base64 text.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::encode(bytes))
    }

    /// # Errors
    /// When the text is not base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        super::decode(&text).map_err(|e| D::Error::custom(e.to_string()))
    }
}
