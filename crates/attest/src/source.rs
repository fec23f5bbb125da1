//! Where an image and what is said of it are read from: a layout, whole or without the image's layers.

use common::{Class, Error, Result};
use oci::types::{self, Descriptor, Manifest, MediaType, Named as _};
use oci::{Artifact, Layout};

use crate::subject::Subject;

/// Gives blobs that were compared with their descriptors.
pub trait Source {
    /// The bytes of a document of a few megabytes at most.
    ///
    /// # Errors
    /// [`Class::Verification`] when they are not what the descriptor says; [`Class::BadInput`] when there is no such blob.
    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>>;

    /// Requires that a blob of any size is there and is what its descriptor says.
    ///
    /// # Errors
    /// As [`Source::read`].
    fn check(&self, blob: &Descriptor) -> Result<()>;

    /// Artifacts that may be about the image: its referrers, and what has cosign's tag names. Others may be among them.
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

/// A layout without the layers of its images, whose digests somebody else has compared: what a registry gave back after a push.
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

/// The images of a layout, each with its names.
///
/// # Errors
/// As [`Layout::images`].
pub fn subjects(layout: &Layout) -> Result<Vec<Subject>> {
    let index = layout.index()?;
    let subject = |image: &oci::Image| {
        let entry = index.manifests().iter().find(|entry| entry.is(image.digest)).ok_or_else(|| {
            Error::new(Class::BadInput, "an image stands in an index of its own")
                .why(format!("{} is not listed in index.json itself", image.digest.oci()))
                .hint("copy one platform of it into a layout of its own")
        })?;
        Ok(Subject::new(entry.media_type().clone(), image.digest, entry.size()).named(image))
    };
    layout.images()?.iter().map(subject).collect()
}

/// Reads a manifest.
pub(crate) fn manifest(source: &dyn Source, image: &Subject) -> Result<Manifest> {
    let bad = |why: String| Error::new(Class::BadInput, "the image's manifest cannot be used").why(why);
    let manifest: Manifest = types::read(&source.read(&image.manifest)?).map_err(bad)?;
    match manifest.media_type() {
        None | Some(MediaType::ImageManifest) => Ok(manifest),
        Some(other) => {
            Err(bad(format!("its media type is {:?}, {} is known", other.as_ref(), MediaType::ImageManifest)))
        }
    }
}
