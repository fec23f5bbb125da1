//! The JSON documents of an image (OCI image-spec 1.1): the types of `oci-spec`, and our own for the image configuration.
//!
//! Fields that nobody knows are ignored in what others wrote, as the specification demands (considerations.md, "Extensibility").

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr as _;

use common::{Class, Error, Result, Sha256};
pub use oci_spec::image::{
    ANNOTATION_REF_NAME as REF_NAME, Descriptor, ImageIndex as Index, ImageManifest as Manifest, MediaType, Platform,
};
use oci_spec::image::{Arch, ImageManifestBuilder, Os, Sha256Digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest index or manifest that is read; the distribution specification lets registries refuse longer ones.
pub const DOCUMENT_LIMIT: u64 = 4 << 20;
/// How deep image indexes may be nested.
pub const INDEX_DEPTH: u32 = 3;

/// A digest as OCI writes it: `sha256:<hex>`. Other algorithms are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub Sha256);

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0.oci()
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let hex = text.strip_prefix("sha256:");
        let hex = hex.ok_or_else(|| Error::new(Class::BadInput, format!("{text:?} is no sha256: digest")))?;
        hex.parse().map(Self)
    }
}

/// What `oci-spec` leaves open in a descriptor: it takes digests of any algorithm, and annotations may be missing.
pub trait Named {
    /// The digest of the content.
    ///
    /// # Errors
    /// [`Class::BadInput`] for another algorithm than SHA-256, which [`read`] lets no document have.
    fn sha256(&self) -> Result<Sha256>;

    /// Whether the content is that of `digest`.
    fn is(&self, digest: Sha256) -> bool;

    /// The annotation `key`.
    fn annotation(&self, key: &str) -> Option<&str>;

    /// Sets the annotation `key`.
    fn annotate(&mut self, key: &str, value: &str);
}

impl Named for Descriptor {
    fn sha256(&self) -> Result<Sha256> {
        Digest::try_from(self.digest().to_string()).map(|digest| digest.0)
    }

    fn is(&self, digest: Sha256) -> bool {
        self.as_digest_sha256() == Some(digest.to_string().as_str())
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations().as_ref()?.get(key).map(String::as_str)
    }

    fn annotate(&mut self, key: &str, value: &str) {
        let mut all = self.annotations().clone().unwrap_or_default();
        all.insert(key.to_owned(), value.to_owned());
        self.set_annotations(Some(all));
    }
}

/// A descriptor of `size` bytes, without platform and annotations.
#[must_use]
pub fn descriptor(media_type: impl Into<MediaType>, digest: Sha256, size: u64) -> Descriptor {
    let digest = Sha256Digest::from_str(&digest.to_string()).expect("a SHA-256 prints as 64 hexadecimal digits");
    Descriptor::new(media_type.into(), size, digest)
}

/// An OCI manifest of these blobs; layers lowest first.
pub fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<Manifest> {
    let manifest = ImageManifestBuilder::default().schema_version(2u32).media_type(MediaType::ImageManifest);
    let manifest = manifest.config(config).layers(layers).build();
    manifest.map_err(|e| Error::new(Class::BadInput, "cannot make a manifest").why(e))
}

/// An OCI index of these manifests.
#[must_use]
pub fn index(manifests: Vec<Descriptor>) -> Index {
    let mut index = Index::default();
    index.set_media_type(Some(MediaType::ImageIndex)).set_manifests(manifests);
    index
}

/// Annotations as `oci-spec` has them: an empty map is left out.
pub fn annotations<K: Into<String>, V: Into<String>>(
    pairs: impl IntoIterator<Item = (K, V)>,
) -> Option<HashMap<String, String>> {
    let all: HashMap<_, _> = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    Some(all).filter(|all| !all.is_empty())
}

/// The only platform that we build for.
#[must_use]
pub fn linux_amd64() -> Platform {
    platform("amd64", "linux")
}

/// The platform with Go's names of architecture and operating system.
#[must_use]
pub fn platform(architecture: &str, os: &str) -> Platform {
    let mut platform = Platform::default();
    platform.set_architecture(Arch::from(architecture)).set_os(Os::from(os));
    platform
}

/// Whether an image for `platform` runs where ours do, whatever the variant.
#[must_use]
pub fn is_linux_amd64(platform: &Platform) -> bool {
    (platform.architecture(), platform.os()) == (&Arch::Amd64, &Os::Linux)
}

/// The OCI media type of what Docker names otherwise; any other is kept.
#[must_use]
pub fn oci_type(media_type: &MediaType) -> MediaType {
    match media_type.as_ref() {
        "application/vnd.docker.distribution.manifest.list.v2+json" => MediaType::ImageIndex,
        "application/vnd.docker.distribution.manifest.v2+json" => MediaType::ImageManifest,
        "application/vnd.docker.container.image.v1+json" => MediaType::ImageConfig,
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => MediaType::ImageLayerGzip,
        _ => media_type.clone(),
    }
}

/// An index or a manifest.
pub trait Document: DeserializeOwned {
    /// Its schema version.
    fn schema(&self) -> u32;
    /// Every descriptor in it.
    fn named(&self) -> Vec<&Descriptor>;
}

impl Document for Index {
    fn schema(&self) -> u32 {
        self.schema_version()
    }

    fn named(&self) -> Vec<&Descriptor> {
        self.manifests().iter().chain(self.subject()).collect()
    }
}

impl Document for Manifest {
    fn schema(&self) -> u32 {
        self.schema_version()
    }

    fn named(&self) -> Vec<&Descriptor> {
        std::iter::once(self.config()).chain(self.layers()).chain(self.subject()).collect()
    }
}

/// Reads an index or a manifest of schema version 2 in which every digest is a SHA-256.
///
/// # Errors
/// What is wrong with it, for the caller's error.
pub fn read<T: Document>(bytes: &[u8]) -> Result<T, String> {
    let document: T = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if document.schema() != 2 {
        return Err(format!("schemaVersion is {}, 2 is known", document.schema()));
    }
    document.named().into_iter().try_for_each(|entry| entry.sha256().map(drop)).map_err(|e| e.to_string())?;
    Ok(document)
}

/// An image configuration (config.md). Our own, since that of `oci-spec` loses the fields of `config` that it does not know (`Healthcheck`,
/// `Shell`, `OnBuild`, …), which an installer takes over from its base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Go's name of the architecture.
    pub architecture: String,
    /// Go's name of the operating system.
    pub os: String,
    /// How a container is started from it.
    #[serde(default)]
    pub config: RunConfig,
    /// Digests of the uncompressed layers.
    pub rootfs: RootFs,
    /// How the layers came about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// How a container is started; what we do not name is kept as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// The program and its first arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=value` pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Everything else.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// The layers of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// The one text of a value: keys sorted, no white space.
pub fn canonical(value: &impl Serialize) -> Result<Vec<u8>> {
    let bad = |e| Error::new(Class::BadInput, "cannot write JSON").why(e);
    // Through `Value`, whose maps are sorted: structs alone would keep the order of their declaration.
    serde_json::to_vec(&serde_json::to_value(value).map_err(bad)?).map_err(bad)
}
