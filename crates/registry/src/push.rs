//! Pushes images with their artifacts in an order in which a tag never points to an incomplete image:
//!
//! 1. config and layers, 2. the manifest by its digest, 3. SBOM, provenance and signatures, blobs before manifests,
//! 4. everything is read back and verified, 5. after that succeeded for every image, the tags are set.
//!
//! A tag of another image is left alone unless [`Existing::Replace`] is given; the tags are looked up before the first upload and again in step 5.
//! A push that fails before the last step does not change the images' tags. Only cosign's tags are written earlier: the check in step 4 needs them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use common::event::{Event, Sink};
use common::{Class, Error, Result, Sha256};
use oci::Layout;
use oci::types::{Descriptor, Named as _};

use crate::client::{Access, Client};
use crate::fetch::{Fetch, Fetched};
use crate::local::{Part, Plan};
use crate::manifest;
use crate::pool;
use crate::referrers;
use crate::staging::StagingDir;
use crate::transfer::Meter;
use crate::upload::{Sent, upload};

/// Verifies an image as read back from the registry, before its tags are set. Gets a layout with the manifests, configs and artifacts, but no
/// layers (their digests are already verified), and the digest of the image.
pub type Verifier<'a> = dyn Fn(&Layout, &Sha256) -> Result<()> + 'a;

/// Accepts every image: the digests are already verified.
pub fn digests_only(_layout: &Layout, _image: &Sha256) -> Result<()> {
    Ok(())
}

/// What to do with tags that the registry has for other images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Keep them, and fail.
    Keep,
    /// Replace them.
    Replace,
}

/// A tag after a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// `registry/repository:tag`.
    pub name: String,
    /// Digest it points to.
    pub digest: Sha256,
    /// Digest it pointed to before the push, if it existed.
    pub before: Option<Sha256>,
}

impl Tagged {
    /// Whether the push made or moved it.
    #[must_use]
    pub fn moved(&self) -> bool {
        self.before != Some(self.digest)
    }
}

/// Bytes of blobs, by how they got into the repository.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    mounted: AtomicU64,
    existing: AtomicU64,
}

struct Push<'a> {
    client: &'a Client<'a>,
    sink: &'a dyn Sink,
    /// A repository with the blob, by registry and digest.
    repositories: Mutex<BTreeMap<(String, Sha256), String>>,
}

/// Pushes `plans` and sets their tags; `existing` decides what happens to tags of other images.
///
/// # Errors
/// [`Class::Infrastructure`] if the registry cannot be reached, rejects a request, or is full; [`Class::Verification`] if it returns other bytes
/// than were pushed, or `verify` fails; [`Class::BadInput`] if two images have the same tag, or a tag would move. The images' tags are
/// unchanged, unless setting one failed.
pub fn push(
    client: &Client<'_>,
    sink: &dyn Sink,
    plans: &[Plan],
    verify: &Verifier<'_>,
    existing: Existing,
) -> Result<Vec<Tagged>> {
    check_unique_tags(plans)?;
    let push = Push { client, sink, repositories: Mutex::default() };
    check_moves(&push.tags(plans, manifest::digest_if_readable)?, existing)?;
    for plan in plans {
        push.image(plan, verify)?;
    }
    // Another push may have set one meanwhile.
    let tags = push.tags(plans, manifest::digest)?;
    check_moves(&tags, existing)?;
    tags.into_iter().map(|tag| push.set(tag)).collect()
}

/// A tag to set.
struct Tag<'a> {
    plan: &'a Plan,
    tag: &'a str,
    after: Tagged,
}

/// Fails if one of `tags` exists for another image and is to be kept.
fn check_moves(tags: &[Tag<'_>], existing: Existing) -> Result<()> {
    let line = |tag: &Tag<'_>| {
        let Tagged { name, digest, before } = &tag.after;
        let before = before.filter(|_| tag.after.moved() && existing == Existing::Keep)?;
        Some(format!("{name}\n- in the registry  {}\n- to push          {}", before.oci(), digest.oci()))
    };
    let lines: Vec<String> = tags.iter().filter_map(line).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let what = if lines.len() == 1 { "the tag names another image" } else { "the tags name other images" };
    Err(Error::new(Class::BadInput, format!("{what} in the registry"))
        .why(lines.join("\n"))
        .hint("build with a tag of its own (`build --tag TAG`), or move the tag with `push --replace-tag`"))
}

/// Fails if two images have the same tag: the second would overwrite the first.
fn check_unique_tags(plans: &[Plan]) -> Result<()> {
    let mut seen: BTreeMap<String, &Plan> = BTreeMap::new();
    for plan in plans {
        for tag in &plan.tags {
            let name = format!("{}:{tag}", plan.repository);
            let first = *seen.entry(name.clone()).or_insert(plan);
            if first.image.descriptor.digest() != plan.image.descriptor.digest() {
                let line = |of: &Plan| format!("{} in {}", of.image.descriptor.digest(), of.root.display());
                return Err(Error::new(Class::BadInput, format!("two different images have the tag {name}"))
                    .why(format!("{}\n{}", line(first), line(plan)))
                    .hint("push only one of the layouts"));
            }
        }
    }
    Ok(())
}

/// Access to the repository of `plan`.
fn access(plan: &Plan) -> Access<'_> {
    Access { repository: &plan.repository, push: true, from: None }
}

impl Push<'_> {
    fn image(&self, plan: &Plan, verify: &Verifier<'_>) -> Result<()> {
        let stage = format!("push {}", plan.repository);
        let began = self.client.options.clock.now();
        self.sink.emit(&Event::StageStarted { stage: &stage });
        let access = access(plan);
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
        pool::for_each(blobs, self.client.options.parallel, |blob| {
            let file = plan.layout.blob(blob)?;
            let key = (access.repository.registry.clone(), blob.sha256()?);
            let from = self.repositories().get(&key).filter(|name| **name != access.repository.name).cloned();
            let sent = upload(self.client, access, blob, file.file(), from.as_deref(), meter)?;
            self.repositories().entry(key).or_insert_with(|| access.repository.name.clone());
            let count = match sent {
                Sent::Exists => &counts.existing,
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

    /// Sets a cosign tag. Warns if it replaces another signature: a tag points to one manifest only.
    fn cosign_tag(&self, access: &Access<'_>, artifact: &Part, tag: &str) -> Result<()> {
        let digest = artifact.descriptor.sha256()?;
        match manifest::digest(self.client, access, tag)? {
            Some(old) if old == digest => return Ok(()),
            Some(old) => {
                let message = format!("{}:{tag} pointed to {}, replacing it", access.repository, old.oci());
                self.sink.emit(&Event::Warning { message: &message });
            }
            None => {}
        }
        self.manifest(access, artifact, tag).map(drop)
    }

    /// Reads everything back and verifies it.
    fn read_back(&self, plan: &Plan, verify: &Verifier<'_>) -> Result<()> {
        let label = format!("verify {}", plan.repository);
        let began = self.client.options.clock.now();
        self.sink.emit(&Event::StageStarted { stage: &label });
        let scratch = tempfile::tempdir()?;
        let stage = StagingDir::open(scratch.path())?;
        let access = access(plan);
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

    /// Returns the tags of all `plans` with what they point to now, according to `lookup`.
    fn tags<'p>(
        &self,
        plans: &'p [Plan],
        lookup: impl Fn(&Client<'_>, &Access<'_>, &str) -> Result<Option<Sha256>>,
    ) -> Result<Vec<Tag<'p>>> {
        let mut tags = Vec::new();
        for plan in plans {
            let digest = plan.image.descriptor.sha256()?;
            for tag in &plan.tags {
                let before = lookup(self.client, &access(plan), tag)?;
                let after = Tagged { name: format!("{}:{tag}", plan.repository), digest, before };
                tags.push(Tag { plan, tag, after });
            }
        }
        Ok(tags)
    }

    fn set(&self, Tag { plan, tag, after }: Tag<'_>) -> Result<Tagged> {
        if !after.moved() {
            return Ok(after);
        }
        self.manifest(&access(plan), &plan.image, tag)?;
        let now = manifest::digest(self.client, &access(plan), tag)?;
        if now == Some(after.digest) {
            return Ok(after);
        }
        let found = now.map_or("nothing".to_owned(), |digest| digest.oci());
        Err(Error::new(Class::Verification, format!("{} does not point to the pushed image", after.name))
            .why(format!("got {found}, expected {}", after.digest.oci()))
            .hint("another push may have changed the tag at the same time; push again"))
    }

    fn note(&self, counts: &Counts, plan: &Plan) {
        let [sent, mounted, existing] =
            [&counts.sent, &counts.mounted, &counts.existing].map(|c| c.load(Ordering::Relaxed));
        let message = format!(
            "{}: {sent} bytes sent, {mounted} mounted from other repositories, {existing} already existed",
            plan.repository
        );
        self.sink.emit(&Event::Remark { message: &message });
    }

    fn repositories(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, Sha256), String>> {
        self.repositories.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Fails if a pushed artifact is not among the referrers of the image.
fn check(plan: &Plan, fetched: &Fetched) -> Result<()> {
    let is_listed = |part: &&Part| fetched.artifacts.iter().any(|a| a.digest() == part.descriptor.digest());
    let Some(missing) = plan.artifacts.iter().find(|part| !is_listed(part)) else { return Ok(()) };
    let kind = missing.descriptor.artifact_type().as_ref().map_or("a signature", AsRef::as_ref);
    Err(Error::new(Class::Verification, format!("{} does not list a pushed artifact", plan.repository))
        .why(format!("{kind}, {}", missing.descriptor.digest()))
        .hint("another push may have changed the list at the same time; push again"))
}
