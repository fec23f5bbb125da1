//! What a name stands for now, down to the blobs: for those who pin it.

use common::{Class, Error, Result};
use oci::Reference;
use oci::types::{self, Descriptor, INDEX_DEPTH};

use crate::client::{Access, Client, Repository};
use crate::fetch;
use crate::local;

/// An image for linux/amd64 as a registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Its manifest.
    pub manifest: Descriptor,
    /// Configuration and layers.
    pub blobs: Vec<Descriptor>,
}

/// Asks for the manifests that `reference` leads to, and for no blob.
///
/// # Errors
/// [`Class::BadInput`] when the registry has no such image, or it has not exactly one for linux/amd64; otherwise as [`crate::pull`].
pub fn resolve(client: &Client<'_>, reference: &Reference) -> Result<Resolved> {
    let repository = Repository::of(reference);
    let access = Access { repository: &repository, push: false, from: None };
    let mut document = fetch::root(client, &access, &fetch::wanted(reference)?)?;
    for _ in 0..=INDEX_DEPTH {
        let contents = local::read(&document.descriptor, &document.bytes)?;
        if contents.children.is_empty() {
            return Ok(Resolved { manifest: document.descriptor, blobs: contents.blobs });
        }
        let is_ours = |child: &&Descriptor| child.platform().as_ref().is_some_and(types::is_linux_amd64);
        let ours: Vec<_> = contents.children.iter().filter(is_ours).collect();
        let [entry] = ours[..] else {
            let why = format!("its index names {} images for linux/amd64", ours.len());
            return Err(unusable(reference, &why).hint("give the digest of the one that is meant"));
        };
        document = fetch::named(client, &access, entry)?;
    }
    Err(unusable(reference, &types::nested_too_deeply()))
}

fn unusable(reference: &Reference, why: &str) -> Error {
    Error::new(Class::BadInput, format!("{reference} cannot be pinned")).why(why)
}
