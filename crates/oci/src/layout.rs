//! Reads OCI layout directories (image-layout.md). Digest and size of every blob are verified before use.

use std::collections::BTreeSet;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};

use common::{Class, Error, Result, Sha256};
use serde::de::DeserializeOwned;

use crate::layer::Layer;
use crate::types::{
    self, DOCUMENT_LIMIT as LIMIT, Descriptor, Document, ImageConfig, Index, Manifest, MediaType, Named as _,
};

/// Entries of all indexes of a layout together. An inner index may be listed many times: without this limit, few documents expand to billions.
const ENTRIES: usize = 10_000;
/// Bytes of documents and names that one walk over a layout may read, counting every repetition.
const WALK_LIMIT: u64 = 64 << 20;
/// Layers of one image; Docker's overlayfs driver supports 128 directories (moby, `daemon/graphdriver/overlay2`).
const LAYERS: usize = 128;

/// A layout directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

/// An image of a layout: manifest and configuration verified, layers not yet read.
#[derive(Clone, Debug)]
pub struct Image {
    /// Names in the index.
    pub names: Vec<String>,
    /// Digest of the manifest.
    pub digest: Sha256,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub config: ImageConfig,
    /// Layers, lowest first, with OCI media types; those of unknown types cannot be read, but copied.
    pub layers: Vec<Layer>,
}

/// An artifact of a layout: signature, SBOM, provenance.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The index entry of the manifest.
    pub descriptor: Descriptor,
    /// The manifest, verified.
    pub manifest: Manifest,
}

impl Artifact {
    /// Its name in the index: cosign's `sha256-<hex>.sig`, for artifacts without a subject.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.descriptor.annotation(types::REF_NAME)
    }
}

impl Image {
    /// Returns a label of the image.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.config.config.labels.as_ref()?.get(name).map(String::as_str)
    }
}

impl Layout {
    /// Opens the layout at `root`.
    ///
    /// # Errors
    /// [`Class::BadInput`] when `root` has no file `oci-layout`; [`Class::UntrustedData`] for another version than 1.0.0.
    pub fn open(root: &Path) -> Result<Self> {
        let marker = root.join("oci-layout");
        if !marker.is_file() {
            let why = if root.exists() { "the file oci-layout is missing" } else { "it does not exist" };
            return Err(not_a_layout(Class::BadInput, root, why));
        }
        let marker: serde_json::Value = parse(&marker, &read_small(&marker)?)?;
        match marker.get("imageLayoutVersion").and_then(|v| v.as_str()) {
            Some("1.0.0") => Ok(Self { root: root.to_owned() }),
            other => {
                let why = format!("imageLayoutVersion is {}, expected 1.0.0", other.unwrap_or("missing"));
                Err(not_a_layout(Class::UntrustedData, root, &why))
            }
        }
    }

    /// Returns every image for linux/amd64 in index order. Images for other platforms are skipped, and so are entries of other types than
    /// images and with other digests than SHA-256, as the specification requires (image-index.md, `manifests`).
    ///
    /// # Errors
    /// [`Class::Verification`] for a digest mismatch; [`Class::UntrustedData`] for a missing blob, another schema version, or more than the
    /// limits of entries, documents and layers.
    pub fn images(&self) -> Result<Vec<Image>> {
        let path = self.root.join("index.json");
        let mut walk = Walk::new();
        self.walk(&path, &self.index()?, &[], types::INDEX_DEPTH, &mut walk)?;
        for image in &mut walk.images {
            let mut seen = BTreeSet::new();
            image.names.retain(|name| seen.insert(name.clone()));
        }
        Ok(walk.images)
    }

    /// Reads the index.
    ///
    /// # Errors
    /// [`Class::BadInput`] when there is no `index.json`.
    pub fn index(&self) -> Result<Index> {
        let path = self.root.join("index.json");
        if !path.is_file() {
            return Err(not_a_layout(Class::BadInput, &self.root, "the file index.json is missing"));
        }
        types::read(&read_small(&path)?).map_err(|e| malformed(&path, &e))
    }

    /// Returns every artifact of the index, in index order.
    pub fn artifacts(&self) -> Result<Vec<Artifact>> {
        let path = self.root.join("index.json");
        let mut walk = Walk::new();
        let mut artifacts = Vec::new();
        for descriptor in self.index()?.manifests().iter().filter(|entry| is_known(entry)) {
            walk.count(&path)?;
            let is_manifest = types::oci_type(descriptor.media_type()) == MediaType::ImageManifest;
            // Images for other platforms may be missing in the layout.
            let is_foreign = descriptor.platform().as_ref().is_some_and(|platform| !types::is_linux_amd64(platform));
            if !is_manifest || is_foreign && !is_artifact(descriptor) {
                continue;
            }
            walk.spend(&path, descriptor.size())?;
            let manifest: Manifest = self.read_document(descriptor)?;
            if is_artifact(descriptor) || types::oci_type(manifest.config().media_type()) != MediaType::ImageConfig {
                artifacts.push(Artifact { manifest, descriptor: descriptor.clone() });
            }
        }
        Ok(artifacts)
    }

    /// Reads and verifies a blob of at most 4 MiB, such as a document.
    pub fn document(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        if blob.size() > LIMIT {
            let why = format!("{} bytes (max {LIMIT})", blob.size());
            return Err(malformed(&self.blob_path(blob.sha256()?), &why));
        }
        let mut bytes = Vec::new();
        self.blob(blob)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Returns the image named `name` (its `org.opencontainers.image.ref.name`).
    ///
    /// # Errors
    /// [`Class::BadInput`] when there is no such image; otherwise as [`Layout::images`].
    pub fn image(&self, name: &str) -> Result<Image> {
        let images = self.images()?;
        let known: BTreeSet<_> = images.iter().flat_map(|image| &image.names).cloned().collect();
        images.into_iter().find(|image| image.names.iter().any(|n| n == name)).ok_or_else(|| {
            Error::new(Class::BadInput, format!("the layout contains no image named {name}"))
                .file(&self.root)
                .why(format!("it contains {known:?}"))
        })
    }

    fn walk(&self, file: &Path, index: &Index, outer: &[String], depth: u32, walk: &mut Walk) -> Result<()> {
        for entry in index.manifests() {
            walk.count(file)?;
            if is_artifact(entry) || !is_known(entry) {
                continue;
            }
            let names: Vec<_> =
                entry.annotation(types::REF_NAME).map(str::to_owned).into_iter().chain(outer.iter().cloned()).collect();
            walk.spend(file, names.iter().map(|name| name.len() as u64).sum())?;
            match types::oci_type(entry.media_type()) {
                MediaType::ImageIndex if depth > 0 => {
                    walk.spend(file, entry.size())?;
                    let inner = self.read_document(entry)?;
                    self.walk(&self.blob_path(entry.sha256()?), &inner, &names, depth - 1, walk)?;
                }
                MediaType::ImageIndex => return Err(malformed(file, &types::nested_too_deeply())),
                MediaType::ImageManifest => self.add(entry, names, walk)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds the image of one index entry, or only its names when the image is known already.
    fn add(&self, entry: &Descriptor, names: Vec<String>, walk: &mut Walk) -> Result<()> {
        if entry.platform().as_ref().is_some_and(|platform| !types::is_linux_amd64(platform)) {
            return Ok(());
        }
        if let Some(known) = walk.images.iter_mut().find(|image| entry.is(image.digest)) {
            known.names.extend(names);
            return Ok(());
        }
        let Some(image) = self.read(entry, names, walk)? else { return Ok(()) };
        if (image.config.architecture.as_str(), image.config.os.as_str()) == ("amd64", "linux") {
            walk.images.push(image);
        }
        Ok(())
    }

    /// Reads an image; `None` for an artifact, which has a config of another type.
    fn read(&self, entry: &Descriptor, names: Vec<String>, walk: &mut Walk) -> Result<Option<Image>> {
        let digest = entry.sha256()?;
        let file = self.blob_path(digest);
        walk.spend(&file, entry.size())?;
        let manifest: Manifest = self.read_document(entry)?;
        let count = manifest.layers().len();
        if count > LAYERS {
            return Err(malformed(&file, &format!("it has {count} layers (max {LAYERS})")));
        }
        if types::oci_type(manifest.config().media_type()) != MediaType::ImageConfig {
            return Ok(None);
        }
        walk.spend(&file, manifest.config().size())?;
        let config: ImageConfig =
            parse(&self.blob_path(manifest.config().sha256()?), &self.document(manifest.config())?)?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != count {
            return Err(malformed(
                &file,
                &format!("the manifest has {count} layers, the image config {}", diff_ids.len()),
            ));
        }
        let layer = |(descriptor, diff_id): (&Descriptor, &types::Digest)| {
            let mut descriptor = descriptor.clone();
            descriptor.set_media_type(types::oci_type(descriptor.media_type()));
            Layer { descriptor, diff_id: diff_id.0 }
        };
        let layers = manifest.layers().iter().zip(diff_ids).map(layer).collect();
        Ok(Some(Image { names, digest, manifest, config, layers }))
    }

    /// Verifies a blob against its descriptor and opens it.
    ///
    /// # Errors
    /// [`Class::UntrustedData`] when it is missing, [`Class::Verification`] when size or digest differ.
    pub fn blob(&self, blob: &Descriptor) -> Result<fs_err::File> {
        let expected = blob.sha256()?;
        let path = self.blob_path(expected);
        if !path.is_file() {
            return Err(Error::new(Class::UntrustedData, "a blob of the OCI layout is missing")
                .file(path)
                .why(format!("{} of {} bytes", blob.media_type(), blob.size()))
                .hint("copy the whole image again"));
        }
        let mut file = fs_err::File::open(&path)?;
        let size = file.metadata()?.len();
        let wrong = |why: String| {
            Error::new(Class::Verification, "digest mismatch for a blob of the OCI layout").file(&path).why(why)
        };
        if size != blob.size() {
            return Err(wrong(format!("{size} bytes, expected {}", blob.size())));
        }
        let (digest, _) = Sha256::of_reader(&mut file)?;
        if digest != expected {
            return Err(wrong(format!("sha256 is {digest}, expected {expected}")));
        }
        file.rewind()?;
        Ok(file)
    }

    fn read_document<T: Document>(&self, blob: &Descriptor) -> Result<T> {
        let path = self.blob_path(blob.sha256()?);
        types::read(&self.document(blob)?).map_err(|e| malformed(&path, &e))
    }

    /// Returns the path of the blob `digest`, without checking that it exists.
    #[must_use]
    pub fn blob_path(&self, digest: Sha256) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.to_string())
    }
}

/// State of a walk over the indexes of a layout: images found, and limits left.
struct Walk {
    images: Vec<Image>,
    entries: usize,
    bytes: u64,
}

impl Walk {
    fn new() -> Self {
        Self { images: Vec::new(), entries: ENTRIES, bytes: WALK_LIMIT }
    }

    /// Counts one entry of the index `file`.
    fn count(&mut self, file: &Path) -> Result<()> {
        let over = || malformed(file, &format!("the indexes of the layout have more than {ENTRIES} entries in total"));
        self.entries = self.entries.checked_sub(1).ok_or_else(over)?;
        Ok(())
    }

    /// Charges `bytes` of a document or name referenced by `file`, before they are read.
    fn spend(&mut self, file: &Path, bytes: u64) -> Result<()> {
        let over =
            || malformed(file, &format!("the documents of the layout have more than {WALK_LIMIT} bytes in total"));
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(over)?;
        Ok(())
    }
}

fn not_a_layout(class: Class, root: &Path, why: &str) -> Error {
    Error::new(class, "not an OCI image layout")
        .file(root)
        .why(why)
        .hint("give the directory of an OCI image layout, such as _out/kernel.oci")
}

/// Whether an index entry is a manifest or an index whose digest can be verified.
#[must_use]
pub fn is_known(entry: &Descriptor) -> bool {
    let media_type = types::oci_type(entry.media_type());
    matches!(media_type, MediaType::ImageManifest | MediaType::ImageIndex) && entry.sha256().is_ok()
}

/// Whether an index entry is an artifact. Cosign's tag-based artifacts differ from images only in their tag.
fn is_artifact(entry: &Descriptor) -> bool {
    let cosign = || entry.annotation(types::REF_NAME).and_then(cosign_subject).is_some();
    *entry.media_type() == MediaType::ImageManifest && (entry.artifact_type().is_some() || cosign())
}

/// Returns the digest in a tag of cosign: `sha256-<hex>.sig`, `.att` or `.sbom`.
#[must_use]
pub fn cosign_subject(tag: &str) -> Option<Sha256> {
    let (hex, kind) = tag.strip_prefix("sha256-")?.split_once('.')?;
    ["sig", "att", "sbom"].contains(&kind).then(|| hex.parse().ok()).flatten()
}

fn read_small(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs_err::File::open(path)?.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(malformed(path, &format!("longer than {LIMIT} bytes")));
    }
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| malformed(path, &e.to_string()))
}

fn malformed(file: &Path, why: &str) -> Error {
    Error::new(Class::UntrustedData, "OCI layout document is malformed").file(file).why(why)
}
