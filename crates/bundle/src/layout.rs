//! The documents of a bundle.

use common::{Class, Error, Result, Sha256};
use lock::{Entry, Kind};
use oci::types::{self, DOCUMENT_LIMIT, Descriptor, Index, Manifest, MediaType, Named as _, canonical};

use crate::{ARTIFACT, LOCK, TITLE, URI};

/// Content of `oci-layout`.
pub const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Path of a blob in a layout.
pub fn blob_path(digest: &Sha256) -> String {
    format!("blobs/sha256/{digest}")
}

/// Returns the digest in the path of a blob.
pub fn digest_of(path: &str) -> Option<Sha256> {
    path.strip_prefix("blobs/sha256/")?.parse().ok()
}

/// Returns the manifest; `lock` is the text of the lock, `inputs` are entries with their sizes.
pub fn manifest(lock: &[u8], inputs: &[(Entry, u64)]) -> Result<Vec<u8>> {
    let layer = |(entry, size): &(Entry, u64)| {
        let mut layer = types::descriptor(media_type(entry.kind), entry.sha256, *size);
        layer.set_annotations(types::annotations([(TITLE, &entry.name), (URI, &entry.uri)]));
        layer
    };
    let config = types::descriptor(LOCK, Sha256::of(lock), lock.len() as u64);
    canonical(types::manifest(config, inputs.iter().map(layer).collect())?.set_artifact_type(Some(ARTIFACT.into())))
}

/// Returns `index.json`.
pub fn index(manifest: &[u8]) -> Result<Vec<u8>> {
    let size = manifest.len() as u64;
    let mut entry = types::descriptor(MediaType::ImageManifest, Sha256::of(manifest), size);
    entry.set_artifact_type(Some(ARTIFACT.into()));
    entry.annotate(types::REF_NAME, "solana-talos-bundle");
    canonical(&types::index(vec![entry]))
}

fn media_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Kernel | Kind::Package(_) => "application/vnd.debian.binary-package",
        Kind::Crate => "application/vnd.rust.crate+gzip",
        _ => "application/octet-stream",
    }
}

/// Returns the descriptor of the manifest in the index of a bundle.
pub fn read_index(bytes: &[u8]) -> Result<Descriptor> {
    let index: Index = types::read(bytes).map_err(|e| bad(format!("index.json: {e}")))?;
    let is_bundle = |entry: &&Descriptor| entry.artifact_type().as_ref().is_some_and(|kind| kind.as_ref() == ARTIFACT);
    let mut bundles = index.manifests().iter().filter(is_bundle).cloned();
    match (bundles.next(), bundles.next()) {
        (Some(manifest), None) if manifest.size() <= DOCUMENT_LIMIT => Ok(manifest),
        (Some(manifest), None) => {
            Err(bad(format!("the manifest has {} bytes (max {DOCUMENT_LIMIT})", manifest.size())))
        }
        (None, _) => Err(bad(format!("index.json lists no artifact of the type {ARTIFACT}"))),
        _ => Err(bad("index.json lists more than one bundle".to_owned())),
    }
}

/// Parses the manifest after verifying its digest.
pub fn read_manifest(bytes: &[u8], named: &Descriptor) -> Result<Manifest> {
    if !named.is(Sha256::of(bytes)) {
        return Err(bad(format!("digest mismatch: the manifest is not {}", named.digest())));
    }
    let manifest: Manifest = types::read(bytes).map_err(|e| bad(format!("manifest: {e}")))?;
    if manifest.config().media_type().as_ref() != LOCK || manifest.config().size() > DOCUMENT_LIMIT {
        return Err(bad("its config is not a lock".to_owned()));
    }
    Ok(manifest)
}

/// Returns the error for a malformed bundle.
pub fn bad(why: String) -> Error {
    Error::new(Class::Verification, "the bundle is malformed or corrupt")
        .why(why)
        .hint("create the bundle again with `solana-talos bundle create`, and compare its SHA-256 after copying; only verified inputs were stored")
}
