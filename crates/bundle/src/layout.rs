//! The documents of a bundle.

use std::collections::BTreeMap;

use common::{Class, Error, Result, Sha256};
use lock::{Entry, Kind};
use oci::types::{self, Descriptor, Index, Manifest, canonical};

use crate::{ARTIFACT, LOCK, TITLE, URI};

/// What stands in `oci-layout`.
pub const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// No document of a bundle is larger; a manifest of 1000 inputs has 400 KB.
pub const LARGEST_DOCUMENT: u64 = 8 << 20;

/// Path of a blob in a layout.
pub fn blob_path(digest: &Sha256) -> String {
    format!("blobs/sha256/{digest}")
}

/// The digest that a path of a layout names.
pub fn digest_of(path: &str) -> Option<Sha256> {
    path.strip_prefix("blobs/sha256/")?.parse().ok()
}

/// The manifest: `lock` is the lock's text, `inputs` are entries with their sizes.
pub fn manifest(lock: &[u8], inputs: &[(Entry, u64)]) -> Result<Vec<u8>> {
    let layer = |(entry, size): &(Entry, u64)| {
        let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let annotations = BTreeMap::from([text(TITLE, &entry.name), text(URI, &entry.uri)]);
        Descriptor { annotations, ..Descriptor::new(media_type(entry.kind), entry.sha256, *size) }
    };
    canonical(&Manifest {
        schema_version: 2,
        media_type: Some(types::MANIFEST.to_owned()),
        artifact_type: Some(ARTIFACT.to_owned()),
        config: Descriptor::new(LOCK, Sha256::of(lock), lock.len() as u64),
        layers: inputs.iter().map(layer).collect(),
        subject: None,
        annotations: BTreeMap::new(),
    })
}

/// `index.json`.
pub fn index(manifest: &[u8]) -> Result<Vec<u8>> {
    let descriptor = Descriptor {
        artifact_type: Some(ARTIFACT.to_owned()),
        annotations: BTreeMap::from([(types::REF_NAME.to_owned(), "solana-talos-bundle".to_owned())]),
        ..Descriptor::new(types::MANIFEST, Sha256::of(manifest), manifest.len() as u64)
    };
    canonical(&Index { schema_version: 2, media_type: Some(types::INDEX.to_owned()), manifests: vec![descriptor] })
}

fn media_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Kernel | Kind::Package(_) => "application/vnd.debian.binary-package",
        Kind::Crate => "application/vnd.rust.crate+gzip",
        _ => "application/octet-stream",
    }
}

/// The manifest that an index of a bundle names.
pub fn read_index(bytes: &[u8]) -> Result<Descriptor> {
    let index: Index = serde_json::from_slice(bytes).map_err(|e| bad(format!("index.json: {e}")))?;
    let mut bundles = index.manifests.into_iter().filter(|m| m.artifact_type.as_deref() == Some(ARTIFACT));
    match (bundles.next(), bundles.next()) {
        (Some(manifest), None) if manifest.size <= LARGEST_DOCUMENT => Ok(manifest),
        (Some(manifest), None) => Err(bad(format!("its manifest would have {} bytes", manifest.size))),
        (None, _) => Err(bad(format!("index.json names no artifact of the type {ARTIFACT}"))),
        _ => Err(bad("index.json names more than one bundle".to_owned())),
    }
}

/// A manifest whose bytes are those that the index names.
pub fn read_manifest(bytes: &[u8], named: &Descriptor) -> Result<Manifest> {
    if Sha256::of(bytes) != named.digest.0 {
        return Err(bad(format!("its manifest is not {}, which index.json names", named.digest.0)));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|e| bad(format!("its manifest: {e}")))?;
    if manifest.config.media_type != LOCK || manifest.config.size > LARGEST_DOCUMENT {
        return Err(bad("its configuration is no lock".to_owned()));
    }
    Ok(manifest)
}

/// What is wrong with a bundle.
pub fn bad(why: String) -> Error {
    Error::new(Class::Verification, "this is no sound bundle")
        .why(why)
        .hint("nothing wrong was stored; create the bundle again with `solana-talos bundle create`, and compare its sha256 after copying")
}
