//! An image with its artifacts out of a registry, into a [`Stage`]. Pull keeps everything; the check after a push only reads the layers.

use std::collections::{BTreeMap, BTreeSet};

use common::event::Sink;
use common::{Class, Error, Result, Sha256};
use images::types::{self, Descriptor, ImageConfig, Manifest, Platform};
use images::{Layout, Reference};

use crate::client::{Access, Client};
use crate::download::{Nowhere, download};
use crate::local::{self, DEPTH, cosign};
use crate::manifest::{self, DOCKER_MANIFEST, Document};
use crate::pool;
use crate::referrers;
use crate::stage::Stage;
use crate::transfer::Meter;

/// Manifests that one pull may take: an index of a hostile registry has no end.
const MANIFESTS: usize = 1000;

/// What came.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub root: Descriptor,
    /// Artifacts, with the name in the index where cosign finds them by a tag.
    pub artifacts: Vec<Descriptor>,
    /// Every document and blob.
    pub all: BTreeSet<Sha256>,
    /// Bytes of the blobs.
    pub bytes: u64,
}

/// What to fetch, and where to.
pub(crate) struct Fetch<'a> {
    pub client: &'a Client<'a>,
    pub access: Access<'a>,
    pub stage: &'a Stage,
    pub sink: &'a dyn Sink,
    /// Name of the stage in events.
    pub label: &'a str,
    /// Whether layers are kept, or only compared with their digests.
    pub keep_layers: bool,
}

/// Documents and blobs, as they are found.
#[derive(Default)]
struct Found {
    documents: BTreeSet<Sha256>,
    small: BTreeMap<Sha256, Descriptor>,
    layers: BTreeMap<Sha256, Descriptor>,
}

impl Fetch<'_> {
    /// Fetches what `reference`, a tag or a digest, names, and lists it in the stage's index under `names`.
    pub(crate) fn run(&self, reference: &str, names: &[String]) -> Result<Fetched> {
        let root = root(self.client, &self.access, reference)?;
        let mut found = Found::default();
        self.take(&root, DEPTH, &mut found, true)?;
        let subject = root.descriptor.digest.0;
        let artifacts = self.artifacts(subject, &mut found)?;
        self.blobs(found.small.values(), true)?;
        let root = Descriptor { platform: self.platform(&root), ..root.descriptor };
        let named = names.iter().map(|name| Descriptor { annotations: ref_name(name), ..root.clone() });
        self.stage.index(named.chain(artifacts.iter().cloned()).collect())?;
        // Unknown media types, malformed configurations: told before the layers come.
        Layout::open(self.stage.root())?.images()?;
        self.blobs(found.layers.values(), self.keep_layers)?;
        let bytes = sum(found.small.values().chain(found.layers.values()));
        let mut all = found.documents;
        all.extend(found.small.into_keys().chain(found.layers.into_keys()));
        Ok(Fetched { root, artifacts, all, bytes })
    }

    /// Stores a document and everything it names; blobs are only written down. `image` tells whether its layers are.
    fn take(&self, document: &Document, depth: u32, found: &mut Found, image: bool) -> Result<local::Contents> {
        let contents = local::read(&document.descriptor, &document.bytes)?;
        self.stage.put(&document.bytes)?;
        found.documents.insert(document.descriptor.digest.0);
        if found.documents.len() > MANIFESTS {
            return Err(
                Error::new(Class::BadInput, "the image has too many manifests").why(format!("more than {MANIFESTS}"))
            );
        }
        for (number, blob) in contents.blobs.iter().enumerate() {
            let list = if image && number > 0 { &mut found.layers } else { &mut found.small };
            let size = list.entry(blob.digest.0).or_insert_with(|| blob.clone()).size;
            if size != blob.size {
                let why = format!("{} is said to have {size} and {} bytes", blob.digest.0.oci(), blob.size);
                return Err(Error::new(Class::BadInput, "the image contradicts itself").why(why));
            }
        }
        for child in &contents.children {
            if depth == 0 {
                return Err(Error::new(Class::BadInput, "the image cannot be used")
                    .why("indexes stand in each other too deeply"));
            }
            if !found.documents.contains(&child.digest.0) {
                self.take(&named(self.client, &self.access, child)?, depth - 1, found, image)?;
            }
        }
        Ok(contents)
    }

    fn artifacts(&self, subject: Sha256, found: &mut Found) -> Result<Vec<Descriptor>> {
        let mut artifacts = Vec::new();
        for entry in referrers::list(self.client, &self.access, subject)? {
            let document = named(self.client, &self.access, &entry)?;
            let contents = self.take(&document, 0, found, false)?;
            let artifact_type = contents.artifact_type.or(entry.artifact_type);
            artifacts.push(Descriptor { artifact_type, ..document.descriptor });
        }
        for kind in ["sbom", "att", "sig"] {
            let tag = format!("sha256-{subject}.{kind}");
            debug_assert_eq!(cosign(&tag), Some(subject));
            let Some(document) = manifest::get(self.client, &self.access, &tag)? else { continue };
            let contents = self.take(&document, 0, found, false)?;
            artifacts.retain(|known| known.digest != document.descriptor.digest);
            let artifact_type = contents.artifact_type;
            artifacts.push(Descriptor { artifact_type, annotations: ref_name(&tag), ..document.descriptor });
        }
        Ok(artifacts)
    }

    fn blobs<'b>(&self, blobs: impl Iterator<Item = &'b Descriptor>, keep: bool) -> Result<()> {
        let mut blobs: Vec<&Descriptor> = blobs.collect();
        blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        let total = sum(blobs.iter().copied());
        let meter = Meter::new(self.sink, self.client.options.clock, self.label, total);
        pool::each(&blobs, self.client.options.parallel, |blob| self.blob(blob, keep, &meter))?;
        if total > 0 {
            meter.finish();
        }
        Ok(())
    }

    fn blob(&self, blob: &Descriptor, keep: bool, meter: &Meter<'_>) -> Result<()> {
        if !keep {
            return download(
                self.client,
                &self.access,
                blob,
                (0, common::digest::Hasher::default()),
                &mut Nowhere,
                meter,
            );
        }
        if self.stage.has(blob)? {
            meter.add(blob.size);
            return Ok(());
        }
        let (mut part, at, hasher) = self.stage.part(blob)?;
        download(self.client, &self.access, blob, (at, hasher), &mut part, meter)?;
        self.stage.finish(blob)
    }

    /// What the configuration of an image says that it is for.
    fn platform(&self, root: &Document) -> Option<Platform> {
        if ![types::MANIFEST, DOCKER_MANIFEST].contains(&root.descriptor.media_type.as_str()) {
            return None;
        }
        let manifest: Manifest = serde_json::from_slice(&root.bytes).ok()?;
        let config = Layout::open(self.stage.root()).and_then(|layout| layout.blob(&manifest.config));
        let config: ImageConfig = match config {
            Ok(file) => serde_json::from_reader(std::io::Read::take(file, manifest::LIMIT)).ok()?,
            Err(_) => return None,
        };
        Some(Platform { architecture: config.architecture, os: config.os })
    }
}

/// The tag or digest to ask for; the digest where there are both.
pub(crate) fn wanted(reference: &Reference) -> Result<String> {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => Ok(digest.oci()),
        (None, Some(tag)) => Ok(tag.to_owned()),
        (None, None) => Err(Error::new(Class::BadInput, format!("{reference} has neither a tag nor a digest"))
            .hint("add :TAG or @sha256:DIGEST")),
    }
}

/// What `reference`, a tag or a digest, names.
pub(crate) fn root(client: &Client<'_>, access: &Access<'_>, reference: &str) -> Result<Document> {
    manifest::get(client, access, reference)?.ok_or_else(|| {
        Error::new(Class::BadInput, format!("{} has nothing named {reference}", access.repository))
            .why("the registry answered 404")
            .hint("check the name and the tag")
    })
}

/// The manifest or index that another document names.
pub(crate) fn named(client: &Client<'_>, access: &Access<'_>, entry: &Descriptor) -> Result<Document> {
    let digest = entry.digest.0.oci();
    let document = manifest::get(client, access, &digest)?.ok_or_else(|| {
        Error::new(Class::BadInput, format!("{} lacks a manifest that it names", access.repository))
            .why(&digest)
            .hint("push the image again, whole")
    })?;
    // A manifest need not say its media type; the list it is in must.
    let media_type = entry.media_type.clone();
    Ok(Document { descriptor: Descriptor { media_type, ..document.descriptor }, ..document })
}

/// Sizes are what a stranger wrote.
fn sum<'b>(blobs: impl Iterator<Item = &'b Descriptor>) -> u64 {
    blobs.fold(0, |sum, blob| sum.saturating_add(blob.size))
}

fn ref_name(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(types::REF_NAME.to_owned(), name.to_owned())])
}
