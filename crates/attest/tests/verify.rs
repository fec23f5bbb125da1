//! Verification: rejects every way of presenting something other than what was signed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::{Path, PathBuf};

use attest::{Demand, subjects, verify_layout};
use common::{Class, Sha256};
use oci::Layout;
use oci::types::{self, Descriptor, Manifest, MediaType, Named as _};
use support::{NAMES, TestKey, blob, edit_index, put, sample, tree};

struct Case {
    _dir: tempfile::TempDir,
    path: PathBuf,
    key: TestKey,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (path, key) = (dir.path().join("a"), TestKey::number(1));
        sample(&path, "hello\n", &key);
        Self { _dir: dir, path, key }
    }

    fn verify(&self, demand: Demand) -> common::Result<Vec<attest::Verified>> {
        verify_layout(&Layout::open(&self.path).unwrap(), &self.key.public(), demand)
    }

    /// Expects a verification error for each of `demands`; returns the message of the last.
    #[track_caller]
    fn rejected(&self, demands: &[Demand]) -> String {
        let mut message = String::new();
        for demand in demands {
            let error = self.verify(*demand).expect_err("must not verify");
            assert_eq!(error.class(), Class::Verification, "{error}");
            message = error.to_string();
        }
        message
    }
}

const ALL: [Demand; 3] = [Demand::AnyName, Demand::Signature, Demand::Everything];

#[test]
fn rejects_another_key() {
    let case = Case { key: TestKey::number(2), ..Case::new() };
    let message = case.rejected(&ALL);
    assert!(message.contains(&TestKey::number(2).public().fingerprint().to_string()), "{message}");
}

#[test]
fn rejects_an_unsigned_image() {
    let case = Case::new();
    support::layout(&case.path, "hello\n");
    case.rejected(&ALL);
}

#[test]
fn rejects_a_changed_layer() {
    let case = Case::new();
    let layer = Layout::open(&case.path).unwrap().images().unwrap()[0].layers[0].descriptor.clone();
    let mut bytes = blob(&case.path, layer.sha256().unwrap());
    // The operating system byte of the gzip header: detected only by the digest.
    bytes[9] ^= 1;
    std::fs::write(case.path.join("blobs/sha256").join(layer.sha256().unwrap().to_string()), bytes).unwrap();
    case.rejected(&ALL);
}

/// The manifest is changed, and the index has the new digest.
#[test]
fn rejects_a_changed_manifest() {
    let case = Case::new();
    let image = Layout::open(&case.path).unwrap().images().unwrap()[0].clone();
    let mut manifest: Manifest = serde_json::from_slice(&blob(&case.path, image.digest)).unwrap();
    manifest.set_annotations(types::annotations([("changed", "yes")]));
    let (digest, size) = put(&case.path, &types::canonical(&manifest).unwrap());
    edit_index(&case.path, |entries| {
        for entry in entries.iter_mut().filter(|entry| entry.is(image.digest)) {
            support::point(entry, digest, size);
        }
    });
    case.rejected(&ALL);
}

/// The blob does not match the digest in the index.
#[test]
fn rejects_a_manifest_with_a_digest_mismatch() {
    let case = Case::new();
    let image = Layout::open(&case.path).unwrap().images().unwrap()[0].digest;
    let text =
        String::from_utf8(blob(&case.path, image)).unwrap().replacen("\"schemaVersion\":2", "\"schemaVersion\":3", 1);
    std::fs::write(case.path.join("blobs/sha256").join(image.to_string()), text).unwrap();
    case.rejected(&ALL);
}

#[test]
fn rejects_a_missing_artifact() {
    let count = Layout::open(&Case::new().path).unwrap().artifacts().unwrap().len();
    assert_eq!(count, 6);
    for (number, missed) in
        [(0, "SBOM"), (1, "under its tag"), (2, "under its tag"), (3, "sign/v1"), (4, "spdx"), (5, "slsa")]
    {
        let case = Case::new();
        let gone = Layout::open(&case.path).unwrap().artifacts().unwrap()[number].descriptor.digest().clone();
        edit_index(&case.path, |entries| entries.retain(|entry| *entry.digest() != gone));
        let message = case.rejected(&[Demand::Everything]);
        assert!(message.contains(missed), "{message}");
        // One signature remains in each case.
        case.verify(Demand::Signature).unwrap();
    }
}

#[test]
fn rejects_an_image_without_either_signature() {
    let case = Case::new();
    let gone: Vec<_> =
        [1, 3].map(|n| Layout::open(&case.path).unwrap().artifacts().unwrap()[n].descriptor.digest().clone()).into();
    edit_index(&case.path, |entries| entries.retain(|entry| !gone.contains(entry.digest())));
    case.rejected(&ALL);
}

/// Attaches everything that the same key signed about another image.
#[test]
fn rejects_replayed_signatures() {
    let case = Case::new();
    let old = subjects(&Layout::open(&case.path).unwrap()).unwrap().remove(0);
    let artifacts = Layout::open(&case.path).unwrap().artifacts().unwrap();
    let blobs = tree(&case.path.join("blobs/sha256"));
    let new = subjects(&support::layout(&case.path, "evil\n")).unwrap().remove(0);
    for (name, bytes) in blobs {
        std::fs::write(case.path.join("blobs/sha256").join(name), bytes).unwrap();
    }
    for artifact in artifacts {
        let mut manifest = artifact.manifest.clone();
        if manifest.subject().is_some() {
            manifest.set_subject(Some(new.manifest.clone()));
        }
        let (digest, size) = put(&case.path, &types::canonical(&manifest).unwrap());
        let mut entry = artifact.descriptor.clone();
        support::point(&mut entry, digest, size);
        if let Some(name) = artifact.name() {
            entry.annotate(types::REF_NAME, &name.replace(&old.digest().to_string(), &new.digest().to_string()));
        }
        edit_index(&case.path, |entries| entries.push(entry));
    }
    let message = case.rejected(&ALL);
    assert_eq!(message.matches("the signature belongs to another image").count(), 7, "{message}");
}

/// An old image under the name of a new one.
#[test]
fn rejects_another_name() {
    let case = Case::new();
    edit_index(&case.path, |entries| {
        for entry in entries {
            if entry.annotation(types::REF_NAME) == Some(NAMES[1]) {
                entry.annotate(types::REF_NAME, "ghcr.io/our-org/sample:v2");
            }
        }
    });
    let message = case.rejected(&[Demand::Signature, Demand::Everything]);
    assert!(message.contains("for the name ghcr.io/our-org/sample:v2"), "{message}");
    case.verify(Demand::AnyName).unwrap();
}

/// Changes one byte of each signed document, and updates the digests.
#[test]
fn rejects_changed_documents() {
    for number in 1..6 {
        let case = Case::new();
        change(&case.path, number);
        case.rejected(&[Demand::Everything]);
    }
}

/// Edits the manifest of an artifact, and updates the index.
fn edit_artifact(path: &Path, number: usize, edit: impl FnOnce(&mut Manifest)) {
    let artifact = Layout::open(path).unwrap().artifacts().unwrap()[number].clone();
    let mut manifest = artifact.manifest.clone();
    edit(&mut manifest);
    let (digest, size) = put(path, &types::canonical(&manifest).unwrap());
    edit_index(path, |entries| {
        let entry = entries.iter_mut().find(|entry| entry.digest() == artifact.descriptor.digest()).unwrap();
        support::point(entry, digest, size);
    });
}

fn change(path: &Path, number: usize) {
    edit_artifact(path, number, |manifest| {
        manifest.layers_mut().iter_mut().for_each(|layer| change_layer(path, layer));
    });
}

fn change_layer(path: &Path, layer: &mut Descriptor) {
    let text = String::from_utf8(blob(path, layer.sha256().unwrap())).unwrap();
    let changed = match serde_json::from_str::<serde_json::Value>(&text).unwrap() {
        // A payload: another name.
        value if value.get("critical").is_some() => text.replacen("our-org", "our-0rg", 1),
        // An envelope, or a bundle with one: one digit of the payload.
        value => {
            let envelope = value.get("dsseEnvelope").unwrap_or(&value);
            let payload = envelope["payload"].as_str().unwrap();
            let bytes = String::from_utf8(attest::encoding::decode(payload).unwrap()).unwrap();
            let changed = bytes.replacen("our-org", "our-0rg", 1);
            assert_ne!(changed, bytes);
            text.replacen(payload, &attest::encoding::encode(changed.as_bytes()), 1)
        }
    };
    assert_ne!(changed, text);
    let (digest, size) = put(path, changed.as_bytes());
    support::point(layer, digest, size);
}

/// An entry that is ignored here, but that other tools find by the image name.
#[test]
fn rejects_an_entry_that_another_tool_would_use_as_the_image() {
    let arm = types::platform("arm64", "linux");
    let disguises: [&dyn Fn(&mut Descriptor); 3] = [
        &|entry| drop(entry.set_platform(Some(arm.clone())).clone()),
        &|entry| drop(entry.set_artifact_type(Some("application/spdx+json".into())).clone()),
        &|entry| drop(entry.set_media_type(MediaType::ImageIndex).clone()),
    ];
    for disguise in disguises {
        let case = Case::new();
        let good = case.verify(Demand::Everything).unwrap()[0].image;
        let manifest = "{\"schemaVersion\":2,\"manifests\":[],\"config\":{\"mediaType\":\"a/b\",\"size\":2,\
            \"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"},\"layers\":[]}";
        let (digest, size) = put(&case.path, manifest.as_bytes());
        let mut evil = types::descriptor(MediaType::ImageManifest, digest, size);
        evil.annotate(types::REF_NAME, NAMES[1]);
        disguise(&mut evil);
        edit_index(&case.path, |entries| entries.insert(0, evil));
        let message = case.rejected(&ALL);
        assert!(message.contains("unverifiable entry") && message.contains(&digest.oci()), "{message}");
        // The image itself, under a name that is not verified.
        let case = Case::new();
        edit_index(&case.path, |entries| {
            let mut other = entries.iter().find(|entry| entry.is(good)).unwrap().clone();
            other.set_platform(Some(arm.clone()));
            other.annotate(types::REF_NAME, "ghcr.io/our-org/other:v1");
            entries.insert(0, other);
        });
        assert!(case.rejected(&ALL).contains("ghcr.io/our-org/other:v1"));
    }
}

/// `cosign attest` by a third party adds a layer in another format.
#[test]
fn reports_and_ignores_a_third_party_attestation_under_the_tag() {
    let case = Case::new();
    edit_artifact(&case.path, 2, |manifest| {
        let (digest, size) = put(&case.path, b"{\"payloadType\":\"text/plain\",\"payload\":\"\",\"signatures\":[]}");
        let mut layer = manifest.layers()[0].clone();
        support::point(&mut layer, digest, size);
        manifest.layers_mut().insert(0, layer);
    });
    let verified = case.verify(Demand::Everything).unwrap();
    assert!(verified[0].ignored[0].contains("does not contain an in-toto statement"), "{:?}", verified[0].ignored);
}

#[test]
fn reports_and_ignores_a_third_party_sbom() {
    let case = Case::new();
    let (digest, size) = put(&case.path, b"{}");
    edit_artifact(&case.path, 0, |manifest| {
        let mut layer = manifest.layers()[0].clone();
        support::point(&mut layer, digest, size);
        manifest.layers_mut().insert(0, layer);
    });
    let verified = case.verify(Demand::Everything).unwrap();
    assert!(verified[0].ignored[0].contains("not signed"), "{:?}", verified[0].ignored);
}

/// Anyone with write access to the repository can attach documents, which must not block or influence verification.
#[test]
fn reports_and_ignores_malformed_artifacts() {
    let case = Case::new();
    let image = subjects(&Layout::open(&case.path).unwrap()).unwrap().remove(0);
    let bundle = Layout::open(&case.path).unwrap().artifacts().unwrap()[3].clone();
    let (digest, size) = put(&case.path, b"{}");
    let mut manifest = bundle.manifest.clone();
    support::point(&mut manifest.layers_mut()[0], digest, size);
    let (digest, size) = put(&case.path, &types::canonical(&manifest).unwrap());
    let mut entry = bundle.descriptor.clone();
    support::point(&mut entry, digest, size);
    edit_index(&case.path, |entries| entries.push(entry));
    let verified = case.verify(Demand::Everything).unwrap();
    assert_eq!(verified[0].image, image.digest());
    assert!(verified[0].ignored[0].contains("sigstore bundle"), "{:?}", verified[0].ignored);
}

/// Turns the artifact under cosign's `.sig` tag into a referrer, as cosign 2 writes it with `--registry-referrers-mode oci-1-1`.
fn signature_as_referrer(case: &Case, artifact_type: &str) {
    let image = subjects(&Layout::open(&case.path).unwrap()).unwrap().remove(0);
    edit_artifact(&case.path, 1, |manifest| {
        manifest.set_subject(Some(image.manifest.clone()));
        let mut config = manifest.config().clone();
        manifest.set_config(config.set_media_type(artifact_type.into()).clone());
    });
    let only = Layout::open(&case.path).unwrap().artifacts().unwrap().remove(1).descriptor;
    edit_index(&case.path, |entries| {
        entries.retain(|entry| entry.digest() == only.digest() || entry.is(image.digest()));
        let entry = entries.iter_mut().find(|entry| entry.digest() == only.digest()).unwrap();
        entry.set_artifact_type(Some(artifact_type.into())).set_annotations(None);
    });
}

#[test]
fn a_simple_signature_may_be_a_referrer() {
    let case = Case::new();
    signature_as_referrer(&case, "application/vnd.dev.cosign.artifact.sig.v1+json");
    case.verify(Demand::Signature).unwrap();
    case.rejected(&[Demand::Everything]);
    let other = Case { key: TestKey::number(2), ..case };
    other.rejected(&ALL);
}

#[test]
fn signatures_of_other_formats_are_named() {
    for unsupported in ["application/vnd.cncf.notary.signature", "application/vnd.dev.sigstore.bundle+json;version=0.1"]
    {
        let case = Case::new();
        signature_as_referrer(&case, unsupported);
        let message = case.rejected(&[Demand::AnyName]);
        assert!(message.contains(&format!("unsupported signature format {unsupported}")), "{message}");
    }
}

#[test]
fn rejects_a_replaced_sbom() {
    let case = Case::new();
    edit_artifact(&case.path, 0, |manifest| {
        let (digest, size) = put(&case.path, b"{\"spdxVersion\":\"SPDX-2.3\"}");
        support::point(&mut manifest.layers_mut()[0], digest, size);
    });
    let message = case.rejected(&[Demand::Everything]);
    assert!(message.contains("the signed SBOM is not attached"), "{message}");
}

/// Only the empty configs of artifacts may be missing.
#[test]
fn rejects_missing_blobs() {
    let case = Case::new();
    let artifacts = Layout::open(&case.path).unwrap().artifacts().unwrap();
    for (name, bytes) in tree(&case.path.join("blobs/sha256")) {
        let path = case.path.join("blobs/sha256").join(&name);
        std::fs::remove_file(&path).unwrap();
        let empty = artifacts.iter().any(|artifact| artifact.manifest.config().is(Sha256::of(&bytes)));
        assert_eq!(case.verify(Demand::Everything).is_ok(), empty, "{name}");
        std::fs::write(path, bytes).unwrap();
    }
    case.verify(Demand::Everything).unwrap();
}
