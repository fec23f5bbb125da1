//! Images to push.

use std::path::Path;

use common::Sha256;
use oci::types::{self, MediaType, Named as _};
use oci::{FileMap, NewImage, Writer};

/// Config of an artifact with a cosign tag.
const CONFIG: &[u8] = br#"{"architecture":"","os":"","rootfs":{"diff_ids":[],"type":"layers"}}"#;
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// Returns `length` incompressible bytes from `seed`.
pub fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in 0.. {
        if bytes.len() >= length {
            break;
        }
        let digest = Sha256::of(format!("{seed} {n}")).to_string();
        bytes.extend((0..32).map(|i| u8::from_str_radix(&digest[2 * i..2 * i + 2], 16).unwrap()));
    }
    bytes.truncate(length);
    bytes
}

/// Writes an image with a layer of each of `sizes` bytes and, with `artifacts`, SBOM, provenance and signatures of both kinds.
/// Returns its digest.
pub fn write(dir: &Path, names: &[&str], sizes: &[usize], artifacts: bool) -> Sha256 {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut writer = Writer::create(dir).unwrap();
    let layer = |size: &usize| {
        let mut files = FileMap::new();
        files.bytes("f", noise("layer", *size), 0o644).unwrap();
        writer.layer(&files, 0).unwrap()
    };
    let layers: Vec<_> = sizes.iter().map(layer).collect();
    let digest = writer.image(&NewImage { names: &names, layers: &layers, ..NewImage::default() }).unwrap();
    if artifacts {
        let part = dir.with_file_name(format!(".{}.part", dir.file_name().unwrap().display()));
        let size = std::fs::metadata(blob(&part, digest)).unwrap().len();
        let subject = types::descriptor(MediaType::ImageManifest, digest, size);
        // Not in push order.
        for (artifact_type, predicate, name, text) in [
            ("", None, Some(format!("sha256-{digest}.sig")), "old signature"),
            (BUNDLE, Some("https://sigstore.dev/cosign/sign/v1"), None, "signature"),
            (BUNDLE, Some("https://slsa.dev/provenance/v1"), None, "provenance"),
            ("application/spdx+json", None, None, "sbom"),
        ] {
            let (kind, config) = match name {
                Some(_) => ("application/vnd.dev.cosign.simplesigning.v1+json", (MediaType::ImageConfig, CONFIG)),
                None => (artifact_type, (MediaType::EmptyJSON, &b"{}"[..])),
            };
            let layer = writer.bytes(kind, text.as_bytes()).unwrap();
            let config = writer.bytes(config.0, config.1).unwrap();
            let mut manifest = types::manifest(config, vec![layer]).unwrap();
            manifest.set_artifact_type(Some(artifact_type.into()).filter(|_| !artifact_type.is_empty()));
            manifest.set_subject(name.is_none().then(|| subject.clone()));
            let predicate = predicate.map(|p| ("dev.sigstore.bundle.predicateType", p));
            manifest.set_annotations(types::annotations(predicate));
            writer.artifact(&manifest, name.as_deref()).unwrap();
        }
    }
    writer.finish().unwrap();
    digest
}

/// Digest of the first layer of the first image.
pub fn layer(layout: &Path) -> Sha256 {
    oci::Layout::open(layout).unwrap().images().unwrap()[0].layers[0].descriptor.sha256().unwrap()
}

pub fn blob(layout: &Path, digest: Sha256) -> std::path::PathBuf {
    layout.join("blobs/sha256").join(digest.to_string())
}

/// Names of all blobs.
pub fn blobs(layout: &Path) -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir(layout.join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    all
}
