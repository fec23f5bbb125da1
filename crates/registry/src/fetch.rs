//! An image with its artifacts out of a registry, into a [`Stage`]. Pull keeps everything; the check after a push only reads the layers.

use std::collections::{BTreeMap, BTreeSet};

use common::event::{Event, Sink};
use common::{Class, Error, Result, Sha256};
use oci::layout::cosign_subject;
use oci::types::{self, Descriptor, INDEX_DEPTH, ImageConfig, Manifest, MediaType, Named as _, Platform};
use oci::{Layout, Reference};

use crate::client::{Access, Client};
use crate::download::{Nowhere, download};
use crate::local::{self, MANIFESTS};
use crate::manifest::{self, Document};
use crate::pool;
use crate::referrers;
use crate::stage::Stage;
use crate::transfer::Meter;

/// Blobs that one pull may take. An image has a few dozen.
const BLOBS: usize = 10_000;

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

impl Found {
    /// Writes down a document with its blobs, or neither. `image` tells whether all but the first are layers.
    fn add(&mut self, digest: Sha256, blobs: &[Descriptor], image: bool) -> Result<()> {
        let mut sizes = BTreeMap::new();
        for blob in blobs {
            let digest = blob.sha256()?;
            let known = self.small.get(&digest).or_else(|| self.layers.get(&digest)).unwrap_or(blob);
            let size = *sizes.entry(digest).or_insert(known.size());
            if size != blob.size() {
                let why = format!("{} is said to have {size} and {} bytes", blob.digest(), blob.size());
                return Err(Error::new(Class::BadInput, "the image contradicts itself").why(why));
            }
        }
        let more = |what, limit| {
            Error::new(Class::BadInput, format!("the image has too many {what}")).why(format!("more than {limit}"))
        };
        if self.documents.len() >= MANIFESTS {
            return Err(more("manifests", MANIFESTS));
        }
        if self.small.len() + self.layers.len() + sizes.len() > BLOBS {
            return Err(more("blobs", BLOBS));
        }
        self.documents.insert(digest);
        for (number, blob) in blobs.iter().enumerate() {
            let list = if image && number > 0 { &mut self.layers } else { &mut self.small };
            list.entry(blob.sha256()?).or_insert_with(|| blob.clone());
        }
        Ok(())
    }
}

impl Fetch<'_> {
    /// Fetches what `reference`, a tag or a digest, names, and lists it in the stage's index under `names`.
    pub(crate) fn run(&self, reference: &str, names: &[String]) -> Result<Fetched> {
        let root = root(self.client, &self.access, reference)?;
        let mut found = Found::default();
        self.take(&root, INDEX_DEPTH, &mut found)?;
        let subject = root.descriptor.sha256()?;
        let artifacts = self.artifacts(subject, &mut found)?;
        self.blobs(found.small.values(), true)?;
        let platform = self.platform(&root);
        let mut root = root.descriptor;
        root.set_platform(platform);
        let named = names.iter().map(|name| tagged(root.clone(), name));
        self.stage.index(named.chain(artifacts.iter().cloned()).collect())?;
        // Unknown media types, malformed configurations: told before the layers come.
        Layout::open(self.stage.root())?.images()?;
        self.blobs(found.layers.values(), self.keep_layers)?;
        let bytes = sum(found.small.values().chain(found.layers.values()));
        let mut all = found.documents;
        all.extend(found.small.into_keys().chain(found.layers.into_keys()));
        Ok(Fetched { root, artifacts, all, bytes })
    }

    /// Stores a document of the image and everything it names; blobs are only written down.
    fn take(&self, document: &Document, depth: u32, found: &mut Found) -> Result<()> {
        let contents = local::read(&document.descriptor, &document.bytes)?;
        found.add(document.descriptor.sha256()?, &contents.blobs, true)?;
        self.stage.put(&document.bytes)?;
        for child in &contents.children {
            if depth == 0 {
                return Err(
                    Error::new(Class::BadInput, "the image cannot be used").why(oci::types::nested_too_deeply())
                );
            }
            if !found.documents.contains(&child.sha256()?) {
                self.take(&named(self.client, &self.access, child)?, depth - 1, found)?;
            }
        }
        Ok(())
    }

    /// What is about the image. Anybody who may write to the repository can put something there, so that what cannot be used is told and
    /// passed over.
    fn artifacts(&self, subject: Sha256, found: &mut Found) -> Result<Vec<Descriptor>> {
        let mut artifacts: Vec<Descriptor> = Vec::new();
        for entry in referrers::list(self.client, &self.access, subject)? {
            let taken = self.referrer(&entry, subject, found);
            artifacts.extend(self.usable(entry.digest().as_ref(), taken)?);
        }
        for kind in ["sbom", "att", "sig"] {
            let tag = format!("sha256-{subject}.{kind}");
            debug_assert_eq!(cosign_subject(&tag), Some(subject));
            let tagged = self.tagged(&tag, found);
            let Some(artifact) = self.usable(&tag, tagged)?.flatten() else { continue };
            artifacts.retain(|known| known.digest() != artifact.digest());
            artifacts.push(artifact);
        }
        Ok(artifacts)
    }

    /// An artifact out of the list of what is about `subject`.
    fn referrer(&self, entry: &Descriptor, subject: Sha256, found: &mut Found) -> Result<Descriptor> {
        refuse_other_types(entry)?;
        self.artifact(&named(self.client, &self.access, entry)?, Some(subject), found)
    }

    /// The artifact behind a tag of cosign's, which may be about nothing but by that tag.
    fn tagged(&self, tag: &str, found: &mut Found) -> Result<Option<Descriptor>> {
        let Some(document) = manifest::get(self.client, &self.access, tag)? else { return Ok(None) };
        refuse_other_types(&document.descriptor)?;
        let artifact = self.artifact(&document, None, found)?;
        Ok(Some(tagged(artifact, tag)))
    }

    fn artifact(&self, document: &Document, subject: Option<Sha256>, found: &mut Found) -> Result<Descriptor> {
        let contents = local::read(&document.descriptor, &document.bytes)?;
        // Without a subject of its own it would pass for an image in a layout.
        if subject.is_some() && contents.subject != subject {
            return Err(Error::new(Class::BadInput, "it is not about this image"));
        }
        found.add(document.descriptor.sha256()?, &contents.blobs, false)?;
        self.stage.put(&document.bytes)?;
        Ok(document.descriptor.clone().set_artifact_type(contents.artifact_type).clone())
    }

    /// What was taken; none, and a warning, where it is of no use to us.
    fn usable<T>(&self, name: &str, taken: Result<T>) -> Result<Option<T>> {
        let error = match taken {
            Err(e) if matches!(e.class(), Class::BadInput | Class::UntrustedData) => e.to_string(),
            taken => return taken.map(Some),
        };
        let why: Vec<&str> = error.lines().map(str::trim).filter(|line| !line.starts_with("hint: ")).collect();
        let message =
            format!("{}: {name}, beside the image, is passed over: {}", self.access.repository, why.join("; "));
        self.sink.emit(&Event::Warning { message: &message });
        Ok(None)
    }

    fn blobs<'b>(&self, blobs: impl Iterator<Item = &'b Descriptor>, keep: bool) -> Result<()> {
        let mut blobs: Vec<&Descriptor> = blobs.collect();
        blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size()));
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
            meter.add(blob.size());
            return Ok(());
        }
        let (mut part, at, hasher) = self.stage.part(blob)?;
        download(self.client, &self.access, blob, (at, hasher), &mut part, meter)?;
        self.stage.finish(blob)
    }

    /// What the configuration of an image says that it is for.
    fn platform(&self, root: &Document) -> Option<Platform> {
        if types::oci_type(root.descriptor.media_type()) != MediaType::ImageManifest {
            return None;
        }
        let manifest: Manifest = types::read(&root.bytes).ok()?;
        let config = Layout::open(self.stage.root()).and_then(|layout| layout.document(manifest.config()));
        let config: ImageConfig = match config {
            Ok(bytes) => serde_json::from_slice(&bytes).ok()?,
            Err(_) => return None,
        };
        Some(types::platform(&config.architecture, &config.os))
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

/// Artifacts are manifests; the rest of the tool reads no other kind.
fn refuse_other_types(entry: &Descriptor) -> Result<()> {
    if *entry.media_type() == MediaType::ImageManifest {
        return Ok(());
    }
    let why = format!("its media type is {:?}", entry.media_type().as_ref());
    Err(Error::new(Class::BadInput, "it is no manifest").why(why))
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
    let digest = entry.digest().as_ref();
    let mut document = manifest::get(client, access, digest)?.ok_or_else(|| {
        Error::new(Class::BadInput, format!("{} lacks a manifest that it names", access.repository))
            .why(digest)
            .hint("push the image again, whole")
    })?;
    // A manifest need not say its media type; the list it is in must.
    document.descriptor.set_media_type(entry.media_type().clone());
    Ok(document)
}

/// Sizes are what a stranger wrote.
fn sum<'b>(blobs: impl Iterator<Item = &'b Descriptor>) -> u64 {
    blobs.fold(0, |sum, blob| sum.saturating_add(blob.size()))
}

/// The entry of an index under that name.
fn tagged(mut entry: Descriptor, name: &str) -> Descriptor {
    entry.annotate(types::REF_NAME, name);
    entry
}
