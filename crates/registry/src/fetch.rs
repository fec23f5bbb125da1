//! Fetches an image with its artifacts into a [`StagingDir`]. A pull keeps everything; the check after a push discards the layers.

use std::collections::{BTreeMap, BTreeSet};

use common::digest::Hasher;
use common::event::{Event, Sink};
use common::{Class, Error, Result, Sha256};
use oci::layout::cosign_subject;
use oci::types::{self, Descriptor, INDEX_DEPTH, ImageConfig, Manifest, MediaType, Named as _, Platform};
use oci::{Layout, Reference};

use crate::client::{Access, Client};
use crate::download::{Discard, download};
use crate::local::{self, MANIFESTS};
use crate::manifest::{self, Document};
use crate::pool;
use crate::referrers;
use crate::staging::StagingDir;
use crate::transfer::Meter;

/// Maximum number of blobs of one pull. An image has a few dozen.
const BLOBS: usize = 10_000;

/// A fetched image.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub root: Descriptor,
    /// Artifacts; those behind a cosign tag are annotated with it.
    pub artifacts: Vec<Descriptor>,
    /// Digests of all documents and blobs.
    pub all: BTreeSet<Sha256>,
    /// Size of all blobs.
    pub bytes: u64,
}

/// Parameters of a fetch.
pub(crate) struct Fetch<'a> {
    pub client: &'a Client<'a>,
    pub access: Access<'a>,
    pub stage: &'a StagingDir,
    pub sink: &'a dyn Sink,
    /// Name of the stage in events.
    pub label: &'a str,
    /// Whether to keep layers, or only to verify their digests.
    pub keep_layers: bool,
}

/// Documents and blobs found so far.
#[derive(Default)]
struct Found {
    documents: BTreeSet<Sha256>,
    small: BTreeMap<Sha256, Descriptor>,
    layers: BTreeMap<Sha256, Descriptor>,
}

impl Found {
    /// Records a document with its blobs, or nothing on error. With `image`, all blobs but the first are layers.
    fn add(&mut self, digest: Sha256, blobs: &[Descriptor], image: bool) -> Result<()> {
        let mut sizes = BTreeMap::new();
        for blob in blobs {
            let digest = blob.sha256()?;
            let known = self.small.get(&digest).or_else(|| self.layers.get(&digest)).unwrap_or(blob);
            let size = *sizes.entry(digest).or_insert(known.size());
            if size != blob.size() {
                let why = format!("{} has the sizes {size} and {}", blob.digest(), blob.size());
                return Err(Error::new(Class::UntrustedData, "conflicting sizes of a blob in the image").why(why));
            }
        }
        let more = |what, limit| {
            Error::new(Class::UntrustedData, format!("the image has too many {what}")).why(format!("more than {limit}"))
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
    /// Fetches the image `reference`, a tag or a digest, and adds it to the index under `names`.
    pub(crate) fn run(&self, reference: &str, names: &[String]) -> Result<Fetched> {
        let root = root(self.client, &self.access, reference)?;
        let mut found = Found::default();
        self.manifests(&root, INDEX_DEPTH, &mut found)?;
        let subject = root.descriptor.sha256()?;
        let artifacts = self.artifacts(subject, &mut found)?;
        self.blobs(found.small.values(), true)?;
        let platform = self.platform(&root);
        let mut root = root.descriptor;
        root.set_platform(platform);
        let named = names.iter().map(|name| tagged(root.clone(), name));
        self.stage.index(named.chain(artifacts.iter().cloned()).collect())?;
        // Fails for malformed manifests and configs before the layers are fetched.
        Layout::open(self.stage.root())?.images()?;
        self.blobs(found.layers.values(), self.keep_layers)?;
        let bytes = sum(found.small.values().chain(found.layers.values()));
        let mut all = found.documents;
        all.extend(found.small.into_keys().chain(found.layers.into_keys()));
        Ok(Fetched { root, artifacts, all, bytes })
    }

    /// Stores a document of the image and its children, and records their blobs.
    fn manifests(&self, document: &Document, depth: u32, found: &mut Found) -> Result<()> {
        let contents = local::read(&document.descriptor, &document.bytes)?;
        found.add(document.descriptor.sha256()?, &contents.blobs, true)?;
        self.stage.put(&document.bytes)?;
        for child in &contents.children {
            if depth == 0 {
                return Err(Error::new(Class::UntrustedData, types::nested_too_deeply()));
            }
            if !found.documents.contains(&child.sha256()?) {
                self.manifests(&child_document(self.client, &self.access, child)?, depth - 1, found)?;
            }
        }
        Ok(())
    }

    /// Fetches the artifacts of the image. Anyone who can write to the repository can attach one, so malformed ones are skipped with a warning.
    fn artifacts(&self, subject: Sha256, found: &mut Found) -> Result<Vec<Descriptor>> {
        let mut artifacts: Vec<Descriptor> = Vec::new();
        let listing = referrers::list(self.client, &self.access, subject)?;
        if let Some(error) = listing.unread {
            self.warn("the list of referrers", &error);
        }
        for entry in listing.entries {
            let artifact = self.referrer(&entry, subject, found);
            artifacts.extend(self.skip_malformed(entry.digest().as_ref(), artifact)?);
        }
        for kind in ["sbom", "att", "sig"] {
            let tag = format!("sha256-{subject}.{kind}");
            debug_assert_eq!(cosign_subject(&tag), Some(subject));
            let tagged = self.tagged(&tag, found);
            let Some(artifact) = self.skip_malformed(&tag, tagged)?.flatten() else { continue };
            artifacts.retain(|known| known.digest() != artifact.digest());
            artifacts.push(artifact);
        }
        Ok(artifacts)
    }

    /// Fetches a referrer of `subject`.
    fn referrer(&self, entry: &Descriptor, subject: Sha256, found: &mut Found) -> Result<Descriptor> {
        check_is_manifest(entry)?;
        self.artifact(&child_document(self.client, &self.access, entry)?, Some(subject), found)
    }

    /// Fetches the artifact behind a cosign tag, which need not have a subject.
    fn tagged(&self, tag: &str, found: &mut Found) -> Result<Option<Descriptor>> {
        let Some(document) = manifest::get(self.client, &self.access, tag)? else { return Ok(None) };
        check_is_manifest(&document.descriptor)?;
        let artifact = self.artifact(&document, None, found)?;
        Ok(Some(tagged(artifact, tag)))
    }

    fn artifact(&self, document: &Document, subject: Option<Sha256>, found: &mut Found) -> Result<Descriptor> {
        let contents = local::read(&document.descriptor, &document.bytes)?;
        // Without a subject it would be an image in the layout.
        if subject.is_some() && contents.subject != subject {
            return Err(Error::new(Class::UntrustedData, "its subject is not this image"));
        }
        found.add(document.descriptor.sha256()?, &contents.blobs, false)?;
        self.stage.put(&document.bytes)?;
        Ok(document.descriptor.clone().set_artifact_type(contents.artifact_type).clone())
    }

    /// Returns `None`, with a warning, for a malformed artifact.
    fn skip_malformed<T>(&self, name: &str, artifact: Result<T>) -> Result<Option<T>> {
        match artifact {
            Err(e) if matches!(e.class(), Class::BadInput | Class::UntrustedData) => {
                self.warn(&format!("the artifact {name}"), &e);
                Ok(None)
            }
            artifact => artifact.map(Some),
        }
    }

    /// Warns that `what` is skipped because of `error`.
    fn warn(&self, what: &str, error: &Error) {
        let error = error.to_string();
        let why: Vec<&str> = error.lines().map(str::trim).filter(|line| !line.starts_with("hint: ")).collect();
        let message = format!("{}: skipping {what}: {}", self.access.repository, why.join("; "));
        self.sink.emit(&Event::Warning { message: &message });
    }

    fn blobs<'b>(&self, blobs: impl Iterator<Item = &'b Descriptor>, keep: bool) -> Result<()> {
        let mut blobs: Vec<&Descriptor> = blobs.collect();
        blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size()));
        let total = sum(blobs.iter().copied());
        let meter = Meter::new(self.sink, self.client.options.clock, self.label, total);
        pool::for_each(&blobs, self.client.options.parallel, |blob| self.blob(blob, keep, &meter))?;
        if total > 0 {
            meter.finish();
        }
        Ok(())
    }

    fn blob(&self, blob: &Descriptor, keep: bool, meter: &Meter<'_>) -> Result<()> {
        if !keep {
            return download(self.client, &self.access, blob, (0, Hasher::default()), &mut Discard, meter);
        }
        if self.stage.has(blob)? {
            meter.add(blob.size());
            return Ok(());
        }
        let (mut part, at, hasher) = self.stage.part(blob)?;
        download(self.client, &self.access, blob, (at, hasher), &mut part, meter)?;
        self.stage.finish(blob)
    }

    /// Returns the platform in the config of an image.
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

/// Returns the digest of `reference`, or its tag if it has none.
pub(crate) fn tag_or_digest(reference: &Reference) -> Result<String> {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => Ok(digest.oci()),
        (None, Some(tag)) => Ok(tag.to_owned()),
        (None, None) => Err(Error::new(Class::BadInput, format!("{reference} has neither a tag nor a digest"))
            .hint("add :TAG or @sha256:DIGEST")),
    }
}

/// Artifacts of other types than manifests, and with digests that cannot be verified, are not supported.
fn check_is_manifest(entry: &Descriptor) -> Result<()> {
    entry.sha256()?;
    if *entry.media_type() == MediaType::ImageManifest {
        return Ok(());
    }
    let why = format!("its media type is {:?}", entry.media_type().as_ref());
    Err(Error::new(Class::UntrustedData, "not an image manifest").why(why))
}

/// Fetches the document behind `reference`, a tag or a digest.
pub(crate) fn root(client: &Client<'_>, access: &Access<'_>, reference: &str) -> Result<Document> {
    manifest::get(client, access, reference)?.ok_or_else(|| {
        Error::new(Class::BadInput, format!("{} does not contain {reference}", access.repository))
            .why("the registry returned 404")
            .hint("check the name and the tag")
    })
}

/// Fetches the manifest or index of the descriptor `entry` in another document.
pub(crate) fn child_document(client: &Client<'_>, access: &Access<'_>, entry: &Descriptor) -> Result<Document> {
    let digest = entry.digest().as_ref();
    let mut document = manifest::get(client, access, digest)?.ok_or_else(|| {
        Error::new(Class::UntrustedData, format!("a manifest is missing in {}", access.repository))
            .why(digest)
            .hint("push the complete image again")
    })?;
    // The media type is optional in a manifest, but not in a descriptor.
    document.descriptor.set_media_type(entry.media_type().clone());
    Ok(document)
}

/// Sizes are untrusted: the sum saturates.
fn sum<'b>(blobs: impl Iterator<Item = &'b Descriptor>) -> u64 {
    blobs.fold(0, |sum, blob| sum.saturating_add(blob.size()))
}

/// Returns `entry` annotated with a name.
fn tagged(mut entry: Descriptor, name: &str) -> Descriptor {
    entry.annotate(types::REF_NAME, name);
    entry
}
