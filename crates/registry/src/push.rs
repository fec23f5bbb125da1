//! Images with their artifacts to a registry, in an order in which no tag ever names something incomplete:
//!
//! 1. configuration and layers, 2. the manifest by its digest, 3. bill of materials, provenance and signatures, each its blobs and then its manifest,
//! 4. everything is read back, compared with its digest and verified, 5. when that is done for every image, the tags move.
//!
//! Whatever ends a push before its last step leaves the images' tags as they were. Only cosign's tags, by which signatures are found, are written
//! before: the registry has to give them back as a stranger would find them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use common::event::{Event, Sink};
use common::{Class, Error, Result, Sha256};
use oci::Layout;
use oci::types::{Descriptor, Named as _};

use crate::client::{Access, Client, Repository};
use crate::fetch::{Fetch, Fetched};
use crate::local::{Part, Plan};
use crate::manifest;
use crate::pool;
use crate::referrers;
use crate::stage::Stage;
use crate::transfer::Meter;
use crate::upload::{Sent, upload};

/// Looks at an image as the registry gives it back, before its tags move: a layout with the manifests, configurations and artifacts, but without
/// layers (their digests have been compared already), and the digest of the image.
pub type Verifier<'a> = dyn Fn(&Layout, &Sha256) -> Result<()> + 'a;

/// Is content with the digests, which have been compared already.
pub fn digests_only(_layout: &Layout, _image: &Sha256) -> Result<()> {
    Ok(())
}

/// A tag after a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// `registry/repository:tag`.
    pub name: String,
    /// What it names now.
    pub digest: Sha256,
    /// Whether it named something else before, or nothing.
    pub moved: bool,
}

/// Bytes of blobs, by how they came there.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    mounted: AtomicU64,
    there: AtomicU64,
}

struct Push<'a> {
    client: &'a Client<'a>,
    sink: &'a dyn Sink,
    /// A repository that has the blob, by registry and digest.
    places: Mutex<BTreeMap<(String, Sha256), String>>,
}

/// Pushes `plans` and moves their tags.
///
/// # Errors
/// [`Class::Infrastructure`] when the registry cannot be reached, refuses, or is full; [`Class::Verification`] when it gives back something else than it
/// was given, or `verify` does not accept it; [`Class::BadInput`] when two images are to have one tag. The images' tags are as they were then, unless
/// it was a tag that could not be moved.
pub fn push(client: &Client<'_>, sink: &dyn Sink, plans: &[Plan], verify: &Verifier<'_>) -> Result<Vec<Tagged>> {
    refuse_shared_tags(plans)?;
    let push = Push { client, sink, places: Mutex::default() };
    for plan in plans {
        push.image(plan, verify)?;
    }
    let mut tagged = Vec::new();
    for plan in plans {
        for tag in &plan.tags {
            tagged.push(push.tag(plan, tag)?);
        }
    }
    Ok(tagged)
}

/// Of two images for one tag the later would take it from the earlier.
fn refuse_shared_tags(plans: &[Plan]) -> Result<()> {
    let mut meant: BTreeMap<String, &Plan> = BTreeMap::new();
    for plan in plans {
        for tag in &plan.tags {
            let name = format!("{}:{tag}", plan.repository);
            let first = *meant.entry(name.clone()).or_insert(plan);
            if first.image.descriptor.digest() != plan.image.descriptor.digest() {
                let line = |of: &Plan| format!("{} in {}", of.image.descriptor.digest(), of.root.display());
                return Err(Error::new(Class::BadInput, format!("two images are to be {name}"))
                    .why(format!("{}\n{}", line(first), line(plan)))
                    .hint("give the layout of the one that is meant, or remove the other"));
            }
        }
    }
    Ok(())
}

impl Push<'_> {
    fn image(&self, plan: &Plan, verify: &Verifier<'_>) -> Result<()> {
        let stage = format!("push {}", plan.repository);
        let began = self.client.options.clock.now();
        self.sink.emit(&Event::StageStarted { stage: &stage });
        let access = Access { repository: &plan.repository, push: true, from: None };
        let counts = Counts::default();
        let blobs = |parts: &[&Part]| -> Vec<Descriptor> {
            let all = parts.iter().flat_map(|part| &part.blobs);
            let all: BTreeMap<_, _> = all.map(|blob| (blob.digest().to_string(), blob)).collect();
            let mut all: Vec<_> = all.into_values().cloned().collect();
            all.sort_by_key(|blob| std::cmp::Reverse(blob.size()));
            all
        };
        let parts = plan.image.flat();
        let image = blobs(&parts);
        let artifacts: Vec<_> = plan.artifacts.iter().map(|artifact| blobs(&[artifact])).collect();
        let total = image.iter().chain(artifacts.iter().flatten()).map(Descriptor::size).sum();
        let meter = Meter::new(self.sink, self.client.options.clock, &stage, total);
        self.blobs(plan, &access, &image, &meter, &counts)?;
        for part in parts {
            self.manifest(&access, part, part.descriptor.digest().as_ref())?;
        }
        let mut unlisted: BTreeMap<Sha256, Vec<Descriptor>> = BTreeMap::new();
        for (artifact, blobs) in plan.artifacts.iter().zip(&artifacts) {
            self.blobs(plan, &access, blobs, &meter, &counts)?;
            let listed = self.manifest(&access, artifact, artifact.descriptor.digest().as_ref())?;
            if let Some(subject) = artifact.subject.filter(|_| !listed && artifact.tag.is_none()) {
                unlisted.entry(subject).or_default().push(artifact.descriptor.clone());
            }
        }
        meter.finish();
        for (subject, entries) in &unlisted {
            referrers::update_fallback(self.client, &access, *subject, entries)?;
        }
        for artifact in &plan.artifacts {
            if let Some(tag) = &artifact.tag {
                self.cosign_tag(&access, artifact, tag)?;
            }
        }
        self.note(&counts, plan);
        let took = self.client.options.clock.now().saturating_sub(began);
        self.sink.emit(&Event::StageFinished { stage: &stage, cached: false, took });
        self.read_back(plan, verify)
    }

    fn blobs(
        &self,
        plan: &Plan,
        access: &Access<'_>,
        blobs: &[Descriptor],
        meter: &Meter<'_>,
        counts: &Counts,
    ) -> Result<()> {
        pool::each(blobs, self.client.options.parallel, |blob| {
            let file = plan.layout.blob(blob)?;
            let key = (access.repository.registry.clone(), blob.sha256()?);
            let from = self.places().get(&key).filter(|name| **name != access.repository.name).cloned();
            let sent = upload(self.client, access, blob, file.file(), from.as_deref(), meter)?;
            self.places().entry(key).or_insert_with(|| access.repository.name.clone());
            let count = match sent {
                Sent::There => &counts.there,
                Sent::Mounted => &counts.mounted,
                Sent::Uploaded => &counts.sent,
            };
            count.fetch_add(blob.size(), Ordering::Relaxed);
            Ok(())
        })
    }

    fn manifest(&self, access: &Access<'_>, part: &Part, reference: &str) -> Result<bool> {
        manifest::put(self.client, access, reference, part.descriptor.media_type(), &part.bytes)
    }

    /// Cosign's tags hold one manifest: a signature that somebody else left there would be gone, so that is told.
    fn cosign_tag(&self, access: &Access<'_>, artifact: &Part, tag: &str) -> Result<()> {
        let digest = artifact.descriptor.sha256()?;
        match manifest::head(self.client, access, tag)? {
            Some(there) if there == digest => return Ok(()),
            Some(there) => {
                let message = format!("{}:{tag} named {} and is replaced", access.repository, there.oci());
                self.sink.emit(&Event::Warning { message: &message });
            }
            None => {}
        }
        self.manifest(access, artifact, tag).map(drop)
    }

    /// Reads everything back and lets `verify` look at it.
    fn read_back(&self, plan: &Plan, verify: &Verifier<'_>) -> Result<()> {
        let label = format!("verify {}", plan.repository);
        let began = self.client.options.clock.now();
        self.sink.emit(&Event::StageStarted { stage: &label });
        let scratch = tempfile::tempdir()?;
        let stage = Stage::open(scratch.path())?;
        let access = Access { repository: &plan.repository, push: true, from: None };
        let fetch =
            Fetch { client: self.client, access, stage: &stage, sink: self.sink, label: &label, keep_layers: false };
        let digest = plan.image.descriptor.sha256()?;
        let names: Vec<_> = plan.tags.iter().map(|tag| format!("{}:{tag}", plan.repository)).collect();
        let fetched = fetch.run(&digest.oci(), &names)?;
        check(plan, &fetched)?;
        verify(&Layout::open(scratch.path())?, &digest)?;
        let took = self.client.options.clock.now().saturating_sub(began);
        self.sink.emit(&Event::StageFinished { stage: &label, cached: false, took });
        Ok(())
    }

    fn tag(&self, plan: &Plan, tag: &str) -> Result<Tagged> {
        let access = Access { repository: &plan.repository, push: true, from: None };
        let digest = plan.image.descriptor.sha256()?;
        let name = format!("{}:{tag}", plan.repository);
        let moved = manifest::head(self.client, &access, tag)? != Some(digest);
        if moved {
            self.manifest(&access, &plan.image, tag)?;
            let now = manifest::head(self.client, &access, tag)?;
            if now != Some(digest) {
                let why = format!("it names {}", now.map_or("nothing".to_owned(), |digest| digest.oci()));
                return Err(Error::new(Class::Verification, format!("{name} does not name what was pushed"))
                    .why(why)
                    .hint("somebody else may have pushed at the same time; push again"));
            }
        }
        Ok(Tagged { name, digest, moved })
    }

    fn note(&self, counts: &Counts, plan: &Plan) {
        let [sent, mounted, there] = [&counts.sent, &counts.mounted, &counts.there].map(|c| c.load(Ordering::Relaxed));
        let message = format!(
            "{}: {sent} bytes sent, {mounted} taken from other repositories, {there} were there",
            plan.repository
        );
        self.sink.emit(&Event::Note { message: &message });
    }

    fn places(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, Sha256), String>> {
        self.places.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Whether all that was pushed is found from the image's digest.
fn check(plan: &Plan, fetched: &Fetched) -> Result<()> {
    let missing = plan
        .artifacts
        .iter()
        .find(|artifact| !fetched.artifacts.iter().any(|a| a.digest() == artifact.descriptor.digest()));
    missing.map_or(Ok(()), |artifact| Err(lost(&plan.repository, artifact)))
}

fn lost(repository: &Repository, artifact: &Part) -> Error {
    let what = artifact.descriptor.artifact_type().as_ref().map_or("a signature", AsRef::as_ref);
    Error::new(Class::Verification, format!("{repository} does not list what was pushed to it"))
        .why(format!("{what}, {}", artifact.descriptor.digest()))
        .hint("somebody else may have pushed at the same time; push again")
}
