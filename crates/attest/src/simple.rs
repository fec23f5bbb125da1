//! "Simple signing" payloads: what cosign's tag-based layout signs, and skopeo, podman and CRI-O check (cosign, specs/SIGNATURE_SPEC.md;
//! containers/image, docs/containers-signature.5.md).

use common::{Class, Error, Result, Sha256};
use oci::types::canonical;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Media type of the payload's layer.
pub const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Artifact type of a referrer with such layers (`cosign sign --registry-referrers-mode oci-1-1` of cosign 2).
pub const REFERRER: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// Annotation of that layer: the signature in base64.
pub const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// `critical.type` of cosign's signatures.
const TYPE: &str = "cosign container image signature";

/// A payload, which binds an image digest to a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    critical: Critical,
    optional: Option<Value>,
}

/// Unknown members are rejected: a verifier must understand all critical members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: oci::types::Digest,
}

impl Payload {
    /// Binds `image` to `name` with its tag. Cosign signs only the repository, which would allow an old image under a new tag.
    #[must_use]
    pub fn new(image: Sha256, name: &str) -> Self {
        let identity = Identity { docker_reference: name.to_owned() };
        let image = Image { docker_manifest_digest: oci::types::Digest(image) };
        Self { critical: Critical { identity, image, kind: TYPE.to_owned() }, optional: None }
    }

    /// Returns the bytes to sign.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        canonical(self)
    }

    /// Parses a payload.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |why: String| Error::new(Class::UntrustedData, "malformed signed payload").why(why);
        let payload: Self = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        if payload.critical.kind != TYPE {
            return Err(bad(format!("unsupported type {:?}, expected {TYPE:?}", payload.critical.kind)));
        }
        Ok(payload)
    }

    /// Digest of the signed image.
    pub fn image(&self) -> Sha256 {
        self.critical.image.docker_manifest_digest.0
    }

    /// Signed name of the image.
    pub fn name(&self) -> &str {
        &self.critical.identity.docker_reference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_specification() {
        let payload = Payload::new(Sha256::of(""), "ghcr.io/our-org/kernel:v1").bytes().unwrap();
        let expected = r#"{"critical":{"identity":{"docker-reference":"ghcr.io/our-org/kernel:v1"},"image":{"docker-manifest-digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},"type":"cosign container image signature"},"optional":null}"#;
        assert_eq!(String::from_utf8(payload.clone()).unwrap(), expected);
        assert_eq!(Payload::parse(&payload).unwrap().name(), "ghcr.io/our-org/kernel:v1");
    }

    #[test]
    fn rejects_unknown_critical_members() {
        let good = String::from_utf8(Payload::new(Sha256::of(""), "a").bytes().unwrap()).unwrap();
        for (from, to) in [
            ("\"type\":\"cosign", "\"type\":\"atomic"),
            ("\"identity\"", "\"expires\":\"now\",\"identity\""),
            ("\"docker-reference\"", "\"any-reference\""),
            ("sha256:", "sha512:"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert_eq!(Payload::parse(bad.as_bytes()).unwrap_err().class(), Class::UntrustedData, "{bad}");
        }
    }
}
