//! The JSON documents of an image (OCI image-spec 1.1): the types of `oci-spec`, and our own for the image configuration.
//!
//! Unknown fields are ignored on reading, as the specification requires (considerations.md, "Extensibility").

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr as _;

use common::{Class, Error, Result, Sha256};
pub use oci_spec::image::{
    ANNOTATION_REF_NAME as REF_NAME, Descriptor, ImageIndex as Index, ImageManifest as Manifest, MediaType, Platform,
};
use oci_spec::image::{Arch, ImageManifestBuilder, Os, Sha256Digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Largest index or manifest that is read; the distribution specification lets registries reject larger ones.
pub const DOCUMENT_LIMIT: u64 = 4 << 20;
/// How deep image indexes may be nested.
pub const INDEX_DEPTH: u32 = 3;

/// Reason of the error for deeper nesting.
#[must_use]
pub fn nested_too_deeply() -> String {
    format!("image indexes nested too deeply (max {INDEX_DEPTH})")
}

/// A digest in OCI notation: `sha256:<hex>`. Other algorithms are rejected.
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
        let hex = hex.ok_or_else(|| Error::new(Class::UntrustedData, format!("invalid SHA-256 digest {text:?}")))?;
        hex.parse().map(Self)
    }
}

/// Extends the descriptors of `oci-spec`, which allow digests of any algorithm and missing annotations.
pub trait Named {
    /// Returns the digest of the content; an error for other algorithms than SHA-256.
    fn sha256(&self) -> Result<Sha256>;

    /// Whether the digest of the content is `digest`.
    fn is(&self, digest: Sha256) -> bool;

    /// Returns the annotation `key`.
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

/// Returns a descriptor of `size` bytes, without platform and annotations.
#[must_use]
pub fn descriptor(media_type: impl Into<MediaType>, digest: Sha256, size: u64) -> Descriptor {
    let digest = Sha256Digest::from_str(&digest.to_string()).expect("a SHA-256 prints as 64 hexadecimal digits");
    Descriptor::new(media_type.into(), size, digest)
}

/// Returns an OCI manifest of these blobs; layers lowest first.
pub fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<Manifest> {
    let manifest = ImageManifestBuilder::default().schema_version(2u32).media_type(MediaType::ImageManifest);
    let manifest = manifest.config(config).layers(layers).build();
    manifest.map_err(|e| Error::new(Class::UntrustedData, "cannot build a manifest").why(e))
}

/// Returns an OCI index of these manifests.
#[must_use]
pub fn index(manifests: Vec<Descriptor>) -> Index {
    let mut index = Index::default();
    index.set_media_type(Some(MediaType::ImageIndex)).set_manifests(manifests);
    index
}

/// Returns annotations for `oci-spec`; `None` for an empty map.
pub fn annotations<K: Into<String>, V: Into<String>>(
    pairs: impl IntoIterator<Item = (K, V)>,
) -> Option<HashMap<String, String>> {
    let all: HashMap<_, _> = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    Some(all).filter(|all| !all.is_empty())
}

/// The only supported platform.
#[must_use]
pub fn linux_amd64() -> Platform {
    platform("amd64", "linux")
}

/// Returns the platform with Go's names of architecture and operating system.
#[must_use]
pub fn platform(architecture: &str, os: &str) -> Platform {
    let mut platform = Platform::default();
    platform.set_architecture(Arch::from(architecture)).set_os(Os::from(os));
    platform
}

/// Whether `platform` is linux/amd64, of any variant.
#[must_use]
pub fn is_linux_amd64(platform: &Platform) -> bool {
    (platform.architecture(), platform.os()) == (&Arch::Amd64, &Os::Linux)
}

/// Maps Docker's media types to those of OCI, and those of layers that need not be distributed to those of other layers; others are kept.
#[must_use]
pub fn oci_type(media_type: &MediaType) -> MediaType {
    match media_type.as_ref() {
        "application/vnd.docker.distribution.manifest.list.v2+json" => MediaType::ImageIndex,
        "application/vnd.docker.distribution.manifest.v2+json" => MediaType::ImageManifest,
        "application/vnd.docker.container.image.v1+json" => MediaType::ImageConfig,
        "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar" => MediaType::ImageLayer,
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip" => MediaType::ImageLayerGzip,
        "application/vnd.docker.image.rootfs.diff.tar.zstd"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd" => MediaType::ImageLayerZstd,
        _ => media_type.clone(),
    }
}

/// An index or a manifest.
pub trait Document: DeserializeOwned {
    /// Key of its required list.
    const LIST: &'static str;
    /// Schema version.
    fn schema(&self) -> u32;
    /// Descriptors whose content is needed to use the document.
    fn needed(&self) -> Vec<&Descriptor>;
}

impl Document for Index {
    const LIST: &'static str = "manifests";

    fn schema(&self) -> u32 {
        self.schema_version()
    }

    fn needed(&self) -> Vec<&Descriptor> {
        Vec::new()
    }
}

impl Document for Manifest {
    const LIST: &'static str = "layers";

    fn schema(&self) -> u32 {
        self.schema_version()
    }

    fn needed(&self) -> Vec<&Descriptor> {
        std::iter::once(self.config()).chain(self.layers()).chain(self.subject()).collect()
    }
}

/// Parses an index or manifest of schema version 2; the error is the reason for the caller's error.
///
/// As for Go, a list that is null or absent is empty. A manifest has SHA-256 digests only; the entries of an index may have others, for a
/// reader passes over what it does not know (image-index.md, descriptor.md).
pub fn read<T: Document>(bytes: &[u8]) -> Result<T, String> {
    let mut value: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    without_null(&mut value);
    if let Some(fields) = value.as_object_mut() {
        let list = fields.entry(T::LIST).or_insert_with(|| Value::Array(Vec::new()));
        list.as_array_mut().into_iter().flatten().for_each(without_unclear_platform);
    }
    let document: T = serde_json::from_value(value).map_err(|e| e.to_string())?;
    if document.schema() != 2 {
        return Err(format!("schemaVersion is {}, expected 2", document.schema()));
    }
    document.needed().into_iter().try_for_each(|entry| entry.sha256().map(drop)).map_err(|e| e.to_string())?;
    Ok(document)
}

/// Removes the fields that are null: Go writes an empty list so, and reads it as absent.
fn without_null(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// Removes a platform without architecture or operating system: the image config has both.
fn without_unclear_platform(entry: &mut Value) {
    let Some(fields) = entry.as_object_mut() else { return };
    let is_clear = |platform: &Value| {
        ["architecture", "os"].iter().all(|key| platform.get(key).is_some_and(|name| name.as_str() != Some("")))
    };
    if fields.get("platform").is_some_and(|platform| !is_clear(platform)) {
        fields.remove("platform");
    }
}

/// An image config (config.md). Own type: that of `oci-spec` drops unknown fields of `config` (`Healthcheck`, `Shell`, `OnBuild`, …),
/// which an installer inherits from its base image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Creation time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Go's name of the architecture.
    pub architecture: String,
    /// Go's name of the operating system.
    pub os: String,
    /// How a container is started.
    #[serde(default, deserialize_with = "or_default")]
    pub config: RunConfig,
    /// Digests of the uncompressed layers.
    pub rootfs: RootFs,
    /// History of the layers.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// Reads null, which Go writes for empty lists and missing structures, as the default.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// How a container is started; other fields are kept unchanged.
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
    pub other: BTreeMap<String, Value>,
}

/// The layers of an image config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Creation time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Command that created the layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Whether the step created no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// Serialises a value as canonical JSON: sorted keys, no white space.
pub fn canonical(value: &impl Serialize) -> Result<Vec<u8>> {
    let bad = |e| Error::new(Class::UntrustedData, "cannot serialise JSON").why(e);
    // Via `Value`, whose maps are sorted: structs keep the order of declaration.
    serde_json::to_vec(&serde_json::to_value(value).map_err(bad)?).map_err(bad)
}
