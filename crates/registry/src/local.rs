//! Reads the images of a layout in push order, and verifies every digest before the first request.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use common::{Class, Error, Result, Sha256};
use oci::layout::cosign_subject;
use oci::types::{self, DOCUMENT_LIMIT, Descriptor, INDEX_DEPTH, Index, Manifest, MediaType, Named as _};
use oci::{Layout, Reference};

use crate::client::Repository;

/// Maximum number of manifests of a layout or a remote image.
pub(crate) const MANIFESTS: usize = 1000;
/// Annotation with the predicate type of a sigstore bundle.
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";
/// Predicate type of a signature without an attestation.
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";

/// A manifest or index with its contents.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its descriptor, with the manifest's annotations, as a referrers list requires.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Config and layers.
    pub blobs: Vec<Descriptor>,
    /// Manifests of an index.
    pub children: Vec<Part>,
    /// Subject of an artifact.
    pub subject: Option<Sha256>,
    /// Cosign tag of an artifact.
    pub tag: Option<String>,
}

impl Part {
    /// Returns this and all nested manifests, children before parents.
    pub fn flat(&self) -> Vec<&Self> {
        let mut all: Vec<&Self> = self.children.iter().flat_map(Self::flat).collect();
        all.push(self);
        all
    }
}

/// One image with its artifacts and its destination.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The layout.
    pub layout: Layout,
    /// Directory of the layout.
    pub root: PathBuf,
    /// Destination repository.
    pub repository: Repository,
    /// Tags to set in it.
    pub tags: Vec<String>,
    /// The image.
    pub image: Part,
    /// SBOM, provenance and signatures, in this order.
    pub artifacts: Vec<Part>,
}

/// Returns a plan for every image of the layout at `root`. `registry` replaces all but the last component of each image name.
///
/// # Errors
/// [`Class::UntrustedData`] for a missing blob, an image without a full name, or an artifact whose image is missing;
/// [`Class::Verification`] for a digest mismatch.
pub fn plans(root: &Path, registry: Option<&str>) -> Result<Vec<Plan>> {
    let layout = Layout::open(root)?;
    // Fails for malformed and missing manifests and configs.
    layout.images()?;
    let reader = Reader { root, layout: &layout, read: Cell::new(0) };
    let named: Vec<_> = layout.artifacts()?.into_iter().map(|artifact| artifact.descriptor).collect();
    let mut artifacts = named.iter().map(|entry| reader.part(entry)).collect::<Result<Vec<_>>>()?;
    artifacts.sort_by_key(rank);
    let mut targets: BTreeMap<(Sha256, Repository), (Descriptor, Vec<String>)> = BTreeMap::new();
    let is_image = |entry: &&Descriptor| oci::layout::is_known(entry) && !named.contains(entry);
    for entry in layout.index()?.manifests().iter().filter(is_image) {
        let name = entry.annotation(types::REF_NAME).ok_or_else(|| malformed(root, "an image has no name"))?;
        let reference = target(name, registry).map_err(|e| e.file(root))?;
        let tag =
            reference.tag().ok_or_else(|| malformed(root, &format!("the image name {name} has no tag")))?.to_owned();
        let key = (entry.sha256()?, Repository::of(&reference));
        targets.entry(key).or_insert_with(|| (entry.clone(), Vec::new())).1.push(tag);
    }
    if targets.is_empty() {
        return Err(malformed(root, "it contains no image"));
    }
    let mut plans = Vec::new();
    for ((_, repository), (entry, tags)) in targets {
        let image = reader.part(&entry)?;
        let root = root.to_owned();
        plans.push(Plan { layout: layout.clone(), root, repository, tags, image, artifacts: Vec::new() });
    }
    // Without a subject it belongs to no image.
    for artifact in artifacts.into_iter().filter(|artifact| artifact.subject.is_some()) {
        let mut found = false;
        for plan in &mut plans {
            if artifact.subject.is_some_and(|s| plan.image.flat().iter().any(|part| part.descriptor.is(s))) {
                plan.artifacts.push(artifact.clone());
                found = true;
            }
        }
        if !found {
            let why = format!("the subject of the artifact {} is not in the layout", artifact.descriptor.digest());
            return Err(
                malformed(root, &why).hint("create the SBOMs and signatures again: they belong to another image")
            );
        }
    }
    for plan in &plans {
        for part in plan.image.flat().into_iter().chain(&plan.artifacts) {
            part.blobs.iter().try_for_each(|blob| layout.blob(blob).map(drop))?;
        }
    }
    Ok(plans)
}

/// Returns the destination of the image `name` in `registry`, a host with an optional path prefix.
fn target(name: &str, registry: Option<&str>) -> Result<Reference> {
    let reference: Reference = name.parse()?;
    let Some(registry) = registry else { return Ok(reference) };
    let last = reference.repository().rsplit('/').next().unwrap_or_default();
    let tag = reference.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    format!("{}/{last}{tag}", registry.trim_end_matches('/')).parse()
}

/// Push order: SBOM, attestations, signatures.
fn rank(artifact: &Part) -> u8 {
    let kind = artifact.tag.as_deref().and_then(|tag| tag.rsplit_once('.')).map(|(_, kind)| kind);
    let artifact_type = artifact.descriptor.artifact_type().as_ref().map_or("", AsRef::as_ref);
    let predicate = artifact.descriptor.annotation(PREDICATE);
    let bundle = artifact_type.starts_with("application/vnd.dev.sigstore.bundle");
    match (kind, predicate) {
        (Some("sbom"), _) => 0,
        (Some("sig"), _) | (_, Some(SIGNATURE)) => 2,
        (None, None) if bundle => 2,
        (Some(_), _) | (_, Some(_)) => 1,
        _ => u8::from(!artifact_type.contains("spdx") && !artifact_type.contains("cyclonedx")),
    }
}

struct Reader<'a> {
    root: &'a Path,
    layout: &'a Layout,
    /// Number of manifests so far.
    read: Cell<usize>,
}

impl Reader<'_> {
    fn part(&self, entry: &Descriptor) -> Result<Part> {
        self.below(entry, INDEX_DEPTH, &mut BTreeSet::new())
    }

    /// `seen` are the manifests of the same tree so far: each is pushed once.
    fn below(&self, entry: &Descriptor, depth: u32, seen: &mut BTreeSet<Sha256>) -> Result<Part> {
        self.read.set(self.read.get() + 1);
        if self.read.get() > MANIFESTS {
            return Err(malformed(self.root, &format!("it contains more than {MANIFESTS} manifests")));
        }
        if entry.size() > DOCUMENT_LIMIT {
            let why = format!("the manifest {} has {} bytes (max {DOCUMENT_LIMIT})", entry.digest(), entry.size());
            return Err(malformed(self.root, &why));
        }
        let mut bytes = Vec::new();
        self.layout.blob(entry)?.read_to_end(&mut bytes)?;
        let read = read(entry, &bytes).map_err(|e| e.file(self.root))?;
        if depth == 0 && !read.children.is_empty() {
            return Err(malformed(self.root, &types::nested_too_deeply()));
        }
        let mut children = Vec::new();
        for child in &read.children {
            if seen.insert(child.sha256()?) {
                children.push(self.below(child, depth - 1, seen)?);
            }
        }
        let name = entry.annotation(types::REF_NAME).filter(|name| cosign_subject(name).is_some());
        let mut descriptor = entry.clone();
        descriptor.set_artifact_type(read.artifact_type).set_annotations(read.annotations).set_platform(None);
        let subject = read.subject.or_else(|| name.and_then(cosign_subject));
        Ok(Part { descriptor, bytes, blobs: read.blobs, children, subject, tag: name.map(str::to_owned) })
    }
}

/// Contents of a manifest or an index.
pub(crate) struct Contents {
    pub blobs: Vec<Descriptor>,
    pub children: Vec<Descriptor>,
    pub subject: Option<Sha256>,
    pub artifact_type: Option<MediaType>,
    pub annotations: Option<HashMap<String, String>>,
}

/// Parses the manifest or index of the descriptor `entry`.
///
/// # Errors
/// [`Class::UntrustedData`] for an unknown media type or a malformed document.
pub(crate) fn read(entry: &Descriptor, bytes: &[u8]) -> Result<Contents> {
    let bad = |e: String| document(&format!("{}: {e}", entry.digest()));
    match types::oci_type(entry.media_type()) {
        MediaType::ImageManifest => {
            let manifest: Manifest = types::read(bytes).map_err(bad)?;
            let subject = manifest.subject().as_ref();
            // The artifact type defaults to that of the config (distribution-spec, "Pushing Manifests with Subject").
            let by_config = subject.map(|_| manifest.config().media_type().clone());
            Ok(Contents {
                blobs: std::iter::once(manifest.config()).chain(manifest.layers()).cloned().collect(),
                children: Vec::new(),
                subject: subject.map(|subject| subject.sha256()).transpose()?,
                artifact_type: manifest.artifact_type().clone().or(by_config),
                annotations: manifest.annotations().clone().filter(|all| !all.is_empty()),
            })
        }
        MediaType::ImageIndex => {
            let index: Index = types::read(bytes).map_err(bad)?;
            // Entries of unknown types and digests are passed over, as the specification requires (image-index.md, `manifests`).
            let children = index.manifests().iter().filter(|entry| oci::layout::is_known(entry)).cloned().collect();
            Ok(Contents { blobs: Vec::new(), children, subject: None, artifact_type: None, annotations: None })
        }
        other => Err(bad(format!("unknown media type {:?}", other.as_ref()))),
    }
}

fn document(why: &str) -> Error {
    Error::new(Class::UntrustedData, "the manifest is malformed or unsupported")
        .why(why)
        .hint("manifests and indexes of OCI and Docker (schema 2) are supported; `skopeo copy` converts older ones")
}

fn malformed(file: &Path, why: &str) -> Error {
    Error::new(Class::UntrustedData, "cannot push the OCI layout").file(file).why(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_replaces_all_but_the_last_component() {
        let of = |registry| target("ghcr.io/our-org/kernel:v1", registry).unwrap().to_string();
        assert_eq!(of(None), "ghcr.io/our-org/kernel:v1");
        assert_eq!(of(Some("127.0.0.1:5000")), "127.0.0.1:5000/kernel:v1");
        assert_eq!(of(Some("r.io/a/b/")), "r.io/a/b/kernel:v1");
        assert!(target("ghcr.io/our-org/kernel:v1", Some("acme")).is_err());
        assert!(target("kernel:v1", Some("r.io")).is_err());
    }

    #[test]
    fn signatures_come_last() {
        let part = |artifact_type: &str, predicate: Option<&str>, tag: Option<&str>| Part {
            descriptor: types::descriptor(MediaType::ImageManifest, Sha256::of(""), 0)
                .set_artifact_type(Some(artifact_type.into()))
                .set_annotations(types::annotations(predicate.map(|p| (PREDICATE, p))))
                .clone(),
            bytes: Vec::new(),
            blobs: Vec::new(),
            children: Vec::new(),
            subject: None,
            tag: tag.map(|kind| format!("sha256-{}.{kind}", Sha256::of(""))),
        };
        let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
        assert_eq!(rank(&part("application/spdx+json", None, None)), 0);
        assert_eq!(rank(&part(bundle, Some("https://slsa.dev/provenance/v1"), None)), 1);
        assert_eq!(rank(&part("", None, Some("att"))), 1);
        assert_eq!(rank(&part("application/x", None, None)), 1);
        assert_eq!(rank(&part(bundle, Some(SIGNATURE), None)), 2);
        assert_eq!(rank(&part(bundle, None, None)), 2);
        assert_eq!(rank(&part("", None, Some("sig"))), 2);
    }

    #[test]
    fn recognizes_cosign_tags() {
        let digest = Sha256::of("x");
        assert_eq!(cosign_subject(&format!("sha256-{digest}.sig")), Some(digest));
        for other in [format!("sha256-{digest}"), format!("sha256-{digest}.zip"), "sha256-12.sig".to_owned()] {
            assert_eq!(cosign_subject(&other), None);
        }
    }

    /// Part of a layout whose index lists `children`, each an empty index. `before` manifests have been read.
    fn part(children: &[String], before: usize) -> Result<Part> {
        let dir = tempfile::tempdir().unwrap();
        let writer = oci::Writer::create(&dir.path().join("l")).unwrap();
        let entry = |text: &String| writer.bytes(MediaType::ImageIndex, text.as_bytes()).unwrap();
        let manifests: Vec<Descriptor> = children.iter().map(entry).collect();
        let index = types::canonical(&types::index(manifests)).unwrap();
        let entry = writer.bytes(MediaType::ImageIndex, &index).unwrap();
        writer.finish().unwrap();
        let root = dir.path().join("l");
        let layout = Layout::open(&root).unwrap();
        Reader { root: &root, layout: &layout, read: Cell::new(before) }.part(&entry)
    }

    #[test]
    fn an_index_with_too_many_manifests_is_refused() {
        let index = |n: usize| format!("{{\"schemaVersion\":2,\"manifests\":[]{}}}", " ".repeat(n));
        let children: Vec<_> = (0..9).map(index).collect();
        assert_eq!(part(&children, MANIFESTS - 10).unwrap().flat().len(), 10);
        let error = part(&children, MANIFESTS - 9).unwrap_err();
        assert_eq!(error.class(), Class::UntrustedData);
        assert!(error.to_string().contains("more than 1000 manifests"), "{error}");
        // Duplicates count once.
        assert_eq!(part(&vec![index(0); 99], MANIFESTS - 2).unwrap().flat().len(), 2);
    }

    #[test]
    fn unknown_media_types_are_refused() {
        let entry = types::descriptor("application/x", Sha256::of("{}"), 2);
        let error = read(&entry, b"{}").err().unwrap();
        assert!(error.to_string().contains("unknown media type \"application/x\""), "{error}");
    }
}
