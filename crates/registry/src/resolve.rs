//! Resolves an image name to its manifest and blobs, to pin them.

use common::{Class, Error, Result};
use oci::Reference;
use oci::types::{self, Descriptor, INDEX_DEPTH};

use crate::client::{Access, Client, Repository};
use crate::fetch;
use crate::local;

/// The image for linux/amd64 behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Its manifest.
    pub manifest: Descriptor,
    /// Config and layers.
    pub blobs: Vec<Descriptor>,
}

/// Fetches the manifests of `reference`, but no blobs.
///
/// # Errors
/// [`Class::BadInput`] if the registry has no such image, or it has not exactly one for linux/amd64; otherwise as [`crate::pull`].
pub fn resolve(client: &Client<'_>, reference: &Reference) -> Result<Resolved> {
    let repository = Repository::of(reference);
    let access = Access { repository: &repository, push: false, from: None };
    let mut document = fetch::root(client, &access, &fetch::tag_or_digest(reference)?)?;
    for _ in 0..=INDEX_DEPTH {
        let contents = local::read(&document.descriptor, &document.bytes)?;
        if contents.children.is_empty() {
            return Ok(Resolved { manifest: document.descriptor, blobs: contents.blobs });
        }
        let is_ours = |child: &&Descriptor| child.platform().as_ref().is_some_and(types::is_linux_amd64);
        let ours: Vec<_> = contents.children.iter().filter(is_ours).collect();
        let [entry] = ours[..] else {
            let why = format!("its index lists {} images for linux/amd64", ours.len());
            return Err(unusable(Class::BadInput, reference, why).hint("name the image by its digest"));
        };
        document = fetch::child_document(client, &access, entry)?;
    }
    Err(unusable(Class::UntrustedData, reference, types::nested_too_deeply()))
}

fn unusable(class: Class, reference: &Reference, why: String) -> Error {
    Error::new(class, format!("cannot pin the image {reference}")).why(why)
}
