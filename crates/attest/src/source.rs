//! Sources of an image and its artifacts: a layout, complete or without the image's layers.

use common::{Class, Error, Result};
use oci::types::{self, Descriptor, Manifest, MediaType, Named as _};
use oci::{Artifact, Layout};

use crate::subject::Subject;

/// Returns blobs whose digest and size match their descriptors.
pub trait Source {
    /// Reads a document of a few megabytes at most.
    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>>;

    /// Checks that a blob of any size exists and matches its descriptor.
    fn check(&self, blob: &Descriptor) -> Result<()>;

    /// Lists artifacts: referrers and cosign tags of the image, possibly also those of other images.
    fn artifacts(&self, image: &Subject) -> Result<Vec<Artifact>>;
}

impl Source for Layout {
    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        self.document(blob)
    }

    fn check(&self, blob: &Descriptor) -> Result<()> {
        self.blob(blob).map(|_| ())
    }

    fn artifacts(&self, _image: &Subject) -> Result<Vec<Artifact>> {
        Self::artifacts(self)
    }
}

/// A layout without the layers of its images, whose digests the caller has checked: what a registry returns after a push.
#[derive(Clone, Copy, Debug)]
pub struct WithoutLayers<'a>(pub &'a Layout);

impl Source for WithoutLayers<'_> {
    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        self.0.document(blob)
    }

    fn check(&self, _blob: &Descriptor) -> Result<()> {
        Ok(())
    }

    fn artifacts(&self, _image: &Subject) -> Result<Vec<Artifact>> {
        self.0.artifacts()
    }
}

/// Lists the images of a layout, each with its names.
pub fn subjects(layout: &Layout) -> Result<Vec<Subject>> {
    let index = layout.index()?;
    let subject = |image: &oci::Image| {
        let entry = index.manifests().iter().find(|entry| entry.is(image.digest)).ok_or_else(|| {
            Error::new(Class::UntrustedData, "unsupported image index in the layout")
                .why(format!("{} is in a nested index, not in index.json", image.digest.oci()))
                .hint("copy one platform of the image into a separate layout")
        })?;
        Ok(Subject::new(entry.media_type().clone(), image.digest, entry.size()).named(image))
    };
    layout.images()?.iter().map(subject).collect()
}

/// Reads the manifest of `image`.
pub(crate) fn manifest(source: &dyn Source, image: &Subject) -> Result<Manifest> {
    let bad = |why: String| Error::new(Class::UntrustedData, "malformed image manifest").why(why);
    let manifest: Manifest = types::read(&source.read(&image.manifest)?).map_err(bad)?;
    match manifest.media_type() {
        None | Some(MediaType::ImageManifest) => Ok(manifest),
        Some(other) => {
            Err(bad(format!("unsupported media type {:?}, expected {}", other.as_ref(), MediaType::ImageManifest)))
        }
    }
}
