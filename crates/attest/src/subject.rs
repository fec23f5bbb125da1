//! The subject of signatures and attestations: an image.

use common::Sha256;
use oci::Image;
use oci::types::{self, Descriptor, MediaType};

/// An image, identified by its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Media type, digest and size of the manifest, without other fields of the descriptor.
    pub manifest: Descriptor,
    digest: Sha256,
    /// Names with tags: signatures bind the digest to these.
    pub names: Vec<String>,
    /// Creation time, RFC 3339; artifacts get the same time, independent of the clock.
    pub created: String,
}

impl Subject {
    /// Creates a subject without names.
    #[must_use]
    pub fn new(media_type: impl Into<MediaType>, digest: Sha256, size: u64) -> Self {
        let manifest = types::descriptor(media_type, digest, size);
        Self { manifest, digest, names: Vec::new(), created: common::time::rfc3339(0) }
    }

    /// Sets the unique names and the creation time of `image`.
    #[must_use]
    pub fn named(mut self, image: &Image) -> Self {
        self.names.clone_from(&image.names);
        self.names.sort();
        self.names.dedup();
        if let Some(created) = &image.config.created {
            self.created.clone_from(created);
        }
        self
    }

    /// Digest of the manifest.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    /// Returns cosign's tag for the `kind` (`sig` or `att`) of this image (cosign, specs/SIGNATURE_SPEC.md, "Tag-based Discovery").
    pub fn tag(&self, kind: &str) -> String {
        format!("sha256-{}.{kind}", self.digest())
    }

    /// Registry and organisation of the first name: who publishes the image, as far as it says.
    pub fn publisher(&self) -> Option<&str> {
        Some(self.names.first()?.rsplit_once('/')?.0)
    }

    /// The first name of the image, or its digest.
    pub fn label(&self) -> String {
        self.names.first().cloned().unwrap_or_else(|| self.digest().oci())
    }
}
