//! The image that signatures and attestations are about.

use common::Sha256;
use oci::Image;
use oci::types::{self, Descriptor, MediaType};

/// An image by its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Media type, digest and size of the manifest; nothing else of the descriptor.
    pub manifest: Descriptor,
    digest: Sha256,
    /// Names it goes by, with their tags: what signatures bind the digest to.
    pub names: Vec<String>,
    /// When it was made, RFC 3339: artifacts bear the same time, not the clock's.
    pub created: String,
}

impl Subject {
    /// The image, whose manifest has `size` bytes of `media_type`.
    #[must_use]
    pub fn new(media_type: impl Into<MediaType>, digest: Sha256, size: u64) -> Self {
        let manifest = types::descriptor(media_type, digest, size);
        Self { manifest, digest, names: Vec::new(), created: common::time::rfc3339(0) }
    }

    /// The same with the names, each once, and the time of `image`.
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

    /// Tag under which cosign's first layout keeps `kind` (`sig` or `att`) of this image (cosign, specs/SIGNATURE_SPEC.md, "Tag-based Discovery").
    pub fn tag(&self, kind: &str) -> String {
        format!("sha256-{}.{kind}", self.digest())
    }

    /// The image's name for people.
    pub fn label(&self) -> String {
        self.names.first().cloned().unwrap_or_else(|| self.digest().oci())
    }
}
