//! Resolves an image name to its manifest and blobs, to pin them.

use std::collections::BTreeMap;

use common::{Class, Error, Result, Sha256};
use oci::Reference;
use oci::types::{self, Descriptor, INDEX_DEPTH, ImageConfig, MediaType, Named as _, Platform};

use crate::client::{Access, Client, Repository};
use crate::download;
use crate::fetch;
use crate::local::{self, MANIFESTS};
use crate::manifest::Document;

/// The image for linux/amd64 behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Its manifest.
    pub manifest: Descriptor,
    /// Config and layers.
    pub blobs: Vec<Descriptor>,
}

/// Fetches the manifests of `reference`, and the config of an image that no index describes, but no layers.
///
/// # Errors
/// [`Class::BadInput`] if the registry has no such image, it has not exactly one for linux/amd64, or it is an artifact; otherwise as
/// [`crate::pull`].
pub fn resolve(client: &Client<'_>, reference: &Reference) -> Result<Resolved> {
    let repository = Repository::of(reference);
    let access = Access { repository: &repository, push: false, from: None };
    let root = fetch::root(client, &access, &fetch::tag_or_digest(reference)?)?;
    let mut search = Search { client, access, reference, found: BTreeMap::new(), left: MANIFESTS };
    search.document(&root, None, INDEX_DEPTH)?;
    let count = search.found.len();
    match search.found.into_values().next() {
        Some(image) if count == 1 => Ok(image),
        _ => Err(unusable(Class::BadInput, reference, format!("it has {count} images for linux/amd64"))
            .hint("name the image by its digest")),
    }
}

/// A search for the images for linux/amd64 in an index and those nested in it.
struct Search<'a> {
    client: &'a Client<'a>,
    access: Access<'a>,
    reference: &'a Reference,
    found: BTreeMap<Sha256, Resolved>,
    left: usize,
}

impl Search<'_> {
    /// Looks at a document; `platform` is that of its entry in an index.
    fn document(&mut self, document: &Document, platform: Option<&Platform>, depth: u32) -> Result<()> {
        let bad = |why| unusable(Class::UntrustedData, self.reference, why);
        self.left = self.left.checked_sub(1).ok_or_else(|| bad(format!("more than {MANIFESTS} manifests")))?;
        let contents = local::read(&document.descriptor, &document.bytes)?;
        if types::oci_type(document.descriptor.media_type()) == MediaType::ImageIndex {
            if depth == 0 && !contents.children.is_empty() {
                return Err(bad(types::nested_too_deeply()));
            }
            for entry in
                contents.children.iter().filter(|entry| entry.platform().as_ref().is_none_or(types::is_linux_amd64))
            {
                let child = fetch::child_document(self.client, &self.access, entry)?;
                self.document(&child, entry.platform().as_ref(), depth - 1)?;
            }
            return Ok(());
        }
        let is_alone = depth == INDEX_DEPTH;
        let config =
            contents.blobs.first().filter(|config| types::oci_type(config.media_type()) == MediaType::ImageConfig);
        let Some(config) = config else {
            let kind =
                contents.artifact_type.or_else(|| contents.blobs.first().map(|config| config.media_type().clone()));
            let kind = kind.map_or_else(String::new, |kind| kind.to_string());
            let why = format!("it is an artifact of type {kind:?}, not an image");
            return if is_alone { Err(unusable(Class::BadInput, self.reference, why)) } else { Ok(()) };
        };
        let platform = platform.map_or_else(|| self.platform(config), |platform| Ok(platform.clone()))?;
        if types::is_linux_amd64(&platform) {
            let image = Resolved { manifest: document.descriptor.clone(), blobs: contents.blobs };
            self.found.insert(document.descriptor.sha256()?, image);
        } else if is_alone {
            let why = format!("it is an image for {}/{}, not for linux/amd64", platform.os(), platform.architecture());
            return Err(unusable(Class::BadInput, self.reference, why));
        }
        Ok(())
    }

    /// Returns the platform in an image config.
    fn platform(&self, config: &Descriptor) -> Result<Platform> {
        let bytes = download::small(self.client, &self.access, config)?;
        let config: ImageConfig = serde_json::from_slice(&bytes)
            .map_err(|e| unusable(Class::UntrustedData, self.reference, format!("its config is malformed: {e}")))?;
        Ok(types::platform(&config.architecture, &config.os))
    }
}

fn unusable(class: Class, reference: &Reference, why: String) -> Error {
    Error::new(class, format!("cannot pin the image {reference}")).why(why)
}
