//! Signing: artifacts, reproducible bytes, and pending signatures.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use attest::{Demand, Evidence, Predicates, SigningSession, sign, subjects, verify_layout};
use common::{Class, Sha256};
use keys::Signer as _;
use oci::Layout;
use oci::types::Named as _;
use support::{Detached, NAMES, TestKey, golden, layout, predicates, sample, signed, tree};

#[test]
fn signed_images_verify() {
    let dir = tempfile::tempdir().unwrap();
    let key = TestKey::number(1);
    let signed = sample(&dir.path().join("a"), "hello\n", &key);
    let verified = &verify_layout(&signed, &key.public(), Demand::Everything).unwrap()[0];
    assert_eq!(verified.names, NAMES.map(str::to_owned).into());
    assert_eq!(verified.statements.len(), 6, "{:?}", verified.statements);
    assert_eq!(verified.sbom.as_ref().unwrap()["spdxVersion"], "SPDX-2.3");
    let provenance = verified.provenance.as_ref().unwrap();
    assert_eq!(provenance["buildDefinition"]["externalParameters"]["profile"], "vm");
    assert!(verified.ignored.is_empty(), "{:?}", verified.ignored);
}

/// The image is unchanged, and everything else is an attached artifact.
#[test]
fn signing_does_not_change_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let before = layout(&path, "hello\n").images().unwrap()[0].clone();
    let after = signed(&path, &TestKey::number(1));
    let images = after.images().unwrap();
    assert_eq!((images.len(), images[0].digest, &images[0].names), (1, before.digest, &before.names));
    let artifacts = after.artifacts().unwrap();
    let kinds: Vec<_> = artifacts
        .iter()
        .map(|a| a.manifest.artifact_type().as_ref().map(AsRef::as_ref).or(a.name()).unwrap())
        .collect();
    let tag = |kind: &str| format!("sha256-{}.{kind}", before.digest);
    let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
    assert_eq!(kinds, ["application/spdx+json", &tag("sig"), &tag("att"), bundle, bundle, bundle]);
}

/// The same image and key produce the same bytes, whose digest is recorded.
#[test]
fn signing_is_reproducible() {
    let dir = tempfile::tempdir().unwrap();
    let key = TestKey::number(1);
    sample(&dir.path().join("a"), "hello\n", &key);
    sample(&dir.path().join("b"), "hello\n", &key);
    assert_eq!(tree(&dir.path().join("a")), tree(&dir.path().join("b")));
    signed(&dir.path().join("a"), &key);
    assert_eq!(tree(&dir.path().join("a")), tree(&dir.path().join("b")), "signing again changed something");
    let index = Sha256::of(&tree(&dir.path().join("a"))["index.json"]);
    golden("index.sha256", &format!("{index}\n"));
}

#[test]
fn documents_match_the_golden_files() {
    let dir = tempfile::tempdir().unwrap();
    let key = TestKey::number(1);
    let layout = sample(&dir.path().join("a"), "hello\n", &key);
    let pretty = |value: &serde_json::Value| serde_json::to_string_pretty(value).unwrap() + "\n";
    let image = &subjects(&layout).unwrap()[0];
    let made = predicates(image).unwrap();
    golden("sbom.json", &pretty(&made.sbom.unwrap()));
    golden("provenance.json", &pretty(&made.provenance.unwrap()));
    for (name, number) in [("sig-manifest.json", 1), ("att-manifest.json", 2), ("bundle-manifest.json", 3)] {
        let artifact = &layout.artifacts().unwrap()[number];
        golden(name, &pretty(&serde_json::to_value(&artifact.manifest).unwrap()));
    }
    let bundle = layout.document(&layout.artifacts().unwrap()[3].manifest.layers()[0]).unwrap();
    golden("bundle.json", &pretty(&serde_json::from_slice(&bundle).unwrap()));
}

#[test]
fn the_sbom_of_a_base_lists_packages_and_modules() {
    let dir = tempfile::tempdir().unwrap();
    let image = &subjects(&layout(dir.path(), "hello\n")).unwrap()[0];
    let sbom = attest::sbom::base_document(image, &support::source_base(), "0.1.0").unwrap();
    let packages = sbom["packages"].as_array().unwrap();
    let purls: BTreeSet<_> =
        packages.iter().filter_map(|one| one["externalRefs"][0]["referenceLocator"].as_str()).collect();
    for purl in [
        "pkg:golang/github.com/burntsushi/toml@v1.0.0",
        "pkg:golang/x.org/y/v2@v1.0.0",
        "pkg:deb/debian/systemd-boot-efi@257.13-1~deb13u1?arch=amd64",
    ] {
        assert!(purls.contains(purl), "{purl} is not in {purls:?}");
    }
    assert_eq!(packages.len(), 4);
    let relations = sbom["relationships"].as_array().unwrap();
    let count = |kind| relations.iter().filter(|one| one["relationshipType"] == kind).count();
    assert_eq!((count("CONTAINS"), count("STATIC_LINK")), (1, 2));
}

#[test]
fn all_signatures_are_requested_at_once_and_the_second_pass_writes_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let unsigned = layout(&path, "hello\n");
    let before = tree(&path);
    let mut detached = Detached { key: TestKey::number(1), requests: Mutex::default(), signatures: BTreeMap::new() };
    let mut session = SigningSession::new(&detached).unwrap();
    sign(&unsigned, &path, &mut session, &mut predicates).unwrap();
    assert_eq!(session.finish(), Err(keys::Pending));
    assert_eq!(tree(&path), before, "the layout must not change");
    let requests = std::mem::take(&mut *detached.requests.lock().unwrap());
    assert_eq!(requests.len(), 5, "two names, the signature, two attestations: {requests:?}");
    assert_eq!(requests.values().collect::<BTreeSet<_>>().len(), 5, "descriptions must differ: {requests:?}");
    detached.signatures =
        requests.into_keys().map(|digest| (digest.clone(), detached.key.sign(&digest, "").unwrap().unwrap())).collect();
    signed(&path, &detached);
    sample(&dir.path().join("b"), "hello\n", &TestKey::number(1));
    assert_eq!(tree(&path), tree(&dir.path().join("b")));
}

#[test]
fn rejects_an_invalid_signature_of_the_signer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let unsigned = layout(&path, "hello\n");
    let mut detached = Detached { key: TestKey::number(1), requests: Mutex::default(), signatures: BTreeMap::new() };
    sign(&unsigned, &path, &mut SigningSession::new(&detached).unwrap(), &mut predicates).unwrap();
    let other = TestKey::number(2);
    let requests = std::mem::take(&mut *detached.requests.lock().unwrap());
    detached.signatures =
        requests.into_keys().map(|digest| (digest.clone(), other.sign(&digest, "").unwrap().unwrap())).collect();
    let error = sign(&unsigned, &path, &mut SigningSession::new(&detached).unwrap(), &mut predicates).unwrap_err();
    assert_eq!(error.class(), Class::Verification, "{error}");
}

#[test]
fn another_key_can_re_sign() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let (old, new) = (TestKey::number(1), TestKey::number(2));
    let layout = sample(&path, "hello\n", &old);
    let mut session = SigningSession::new(&new).unwrap();
    sign(&layout, &path, &mut session, &mut |image| Predicates::stated(&layout, image)).unwrap();
    session.finish().unwrap();
    let again = Layout::open(&path).unwrap();
    verify_layout(&again, &new.public(), Demand::Everything).unwrap();
    assert!(verify_layout(&again, &old.public(), Demand::AnyName).is_err());
    sample(&dir.path().join("b"), "hello\n", &new);
    assert_eq!(tree(&path), tree(&dir.path().join("b")), "must equal a layout signed only with the new key");
}

/// Attached attestations of another image, by another key, are ignored.
#[test]
fn re_signs_only_signed_predicates_about_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("a"), dir.path().join("b"));
    let (old, new) = (TestKey::number(1), TestKey::number(2));
    let layout = sample(&path, "hello\n", &old);
    let image = subjects(&layout).unwrap().remove(0);
    sample(&other, "other\n", &TestKey::number(3));
    for (name, bytes) in tree(&other.join("blobs/sha256")) {
        std::fs::write(path.join("blobs/sha256").join(name), bytes).unwrap();
    }
    for mut artifact in Layout::open(&other).unwrap().artifacts().unwrap().split_off(3) {
        artifact.manifest.set_subject(Some(image.manifest.clone()));
        let (digest, size) = support::put(&path, &oci::types::canonical(&artifact.manifest).unwrap());
        support::point(&mut artifact.descriptor, digest, size);
        support::edit_index(&path, |entries| entries.push(artifact.descriptor));
    }
    let stated = Predicates::stated(&layout, &image).unwrap();
    let signed = Predicates::signed(&layout, &image, &old.public(), Demand::Signature).unwrap();
    assert!(signed.sbom.is_some() && (signed.sbom, signed.provenance) == (stated.sbom, stated.provenance));
    let error = Predicates::signed(&layout, &image, &new.public(), Demand::AnyName).unwrap_err();
    assert_eq!(error.class(), Class::Verification);
}

#[test]
fn signs_several_images_of_one_layout_separately() {
    let dir = tempfile::tempdir().unwrap();
    let key = TestKey::number(1);
    let (path, other) = (dir.path().join("a"), dir.path().join("b"));
    support::named_layout(&path, "one", &["ghcr.io/a/one:v1"]);
    let second = support::named_layout(&other, "two", &["ghcr.io/a/two:v1"]);
    for (name, bytes) in tree(&other.join("blobs/sha256")) {
        std::fs::write(path.join("blobs/sha256").join(name), bytes).unwrap();
    }
    support::edit_index(&path, |entries| entries.extend(second.index().unwrap().manifests().iter().cloned()));
    let layout = signed(&path, &key);
    assert_eq!(verify_layout(&layout, &key.public(), Demand::Everything).unwrap().len(), 2);
    for image in subjects(&layout).unwrap() {
        assert_eq!(Evidence::of(&layout, &image).unwrap().items.len(), 6, "{}", image.label());
    }
    let marked = layout.index().unwrap().manifests().iter().filter(|entry| entry.annotation("kind").is_some()).count();
    assert_eq!(marked, 0, "cosign would use one image of two");
}

#[test]
fn the_talos_document_matches_the_golden_file() {
    let names = ["ghcr.io/our-org/kernel:v1", "ghcr.io/our-org/installer:v1", "ghcr.io/our-org/installer:latest"];
    let names = names.map(str::to_owned).into();
    golden(
        "image-verification.yaml",
        &attest::talos::image_verification(&names, &TestKey::number(1).public()).unwrap(),
    );
    let error = attest::talos::image_verification(&BTreeSet::new(), &TestKey::number(1).public()).unwrap_err();
    assert_eq!(error.class(), Class::BadInput);
}

#[test]
fn provenance_rejects_local_paths_and_contradicting_digests() {
    let parameters = support::parameters();
    let build = |materials: &[attest::Material]| {
        let internal = BTreeMap::new();
        attest::provenance::Build { parameters: &parameters, internal, materials, tool: "0.1.0" }.predicate()
    };
    for uri in ["/home/me/base", "base", "file:///home/me/base"] {
        assert_eq!(build(&[support::material("base", uri)]).unwrap_err().class(), Class::BadInput, "{uri}");
    }
    let contradicting = [support::material("a", "pkg:x"), support::material("b", "pkg:x")];
    assert_eq!(build(&contradicting).unwrap_err().class(), Class::BadInput);
    let twice = build(&[support::material("a", "pkg:x"), support::material("a", "pkg:x")]).unwrap();
    assert_eq!(twice["buildDefinition"]["resolvedDependencies"].as_array().unwrap().len(), 1);
}
