//! `sign` and `verify` on the binary: outside of any project, on a layout and on an output directory, and their exit codes.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

fn tool(dir: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_solana-talos")).current_dir(dir).args(words).output().unwrap()
}

#[track_caller]
fn ends(dir: &Path, words: &[&str], code: i32, word: &str) {
    let output = tool(dir, words);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
    assert!(text.contains(word), "{words:?}: {text}");
}

fn layout(dest: &Path, motd: &str) {
    support::motd(dest, &format!("ghcr.io/our-org/{motd}:v1"), motd);
}

/// Two key sets, each with only an image key.
fn keys(dir: &Path) {
    for (number, name) in [(1, "keys"), (2, "others")] {
        let mut secret = [0; 32];
        secret[31] = number;
        let signer = p256::SecretKey::from_slice(&secret).unwrap();
        let set = dir.join(name);
        let private = p256::pkcs8::EncodePrivateKey::to_pkcs8_pem(&signer, p256::pkcs8::LineEnding::LF).unwrap();
        let public = signer.public_key();
        let public = p256::pkcs8::EncodePublicKey::to_public_key_pem(&public, p256::pkcs8::LineEnding::LF).unwrap();
        common::atomic::write(&set.join("image.key.pem"), private.as_bytes()).unwrap();
        common::atomic::write(&set.join("image.pub.pem"), public).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(set.join("image.key.pem"), mode).unwrap();
    }
}

#[test]
fn a_layout_is_signed_and_verified() {
    let scene = tempfile::tempdir().unwrap();
    let dir = scene.path();
    keys(dir);
    layout(&dir.join("a.oci"), "one");
    let verify = ["verify", "a.oci", "--key", "keys/image.pub.pem"];
    ends(dir, &[&verify[..], &["--signature-only"]].concat(), 5, "signature verification failed");
    ends(dir, &["sign", "a.oci", "--keys", "keys"], 0, "signed 1 layout");
    ends(dir, &[&verify[..], &["--signature-only"]].concat(), 0, "every image in a.oci is signed by key");
    ends(dir, &verify, 5, "spdx.dev/Document");
    ends(dir, &["verify", "a.oci", "--key", "others/image.pub.pem", "--any-name"], 5, "signature verification failed");
    ends(
        dir,
        &["sign", "a.oci", "--keys", "others", "--old-key", "others/image.pub.pem"],
        5,
        "signature verification failed",
    );
    ends(dir, &["sign", "a.oci", "--keys", "others", "--old-key", "keys/image.pub.pem"], 0, "signed 1 layout");
    ends(dir, &[&verify[..], &["--any-name"]].concat(), 5, "signature verification failed");
}

#[test]
fn an_output_directory_is_updated_as_a_whole() {
    let scene = tempfile::tempdir().unwrap();
    let (dir, out) = (scene.path(), scene.path().join("_out"));
    keys(dir);
    for name in ["one", "two"] {
        layout(&out.join(format!("{name}.oci")), name);
    }
    let record = "{\"keys\": \"development\", \"outputs\": {}}\n";
    for (name, text) in
        [("build.json", record), ("SHA256SUMS", "stale\n"), (".identity", "stale"), ("cmdline", "quiet")]
    {
        std::fs::write(out.join(name), text).unwrap();
    }
    ends(dir, &["sign", "_out", "--keys", "keys"], 0, "signed 2 layouts");
    let config = ["verify", "_out", "--key", "_out/image.pub.pem", "--signature-only", "--talos-config", "talos.yaml"];
    ends(dir, &config, 0, "name ghcr.io/our-org/two:v1");
    let talos = std::fs::read_to_string(dir.join("talos.yaml")).unwrap();
    assert!(talos.contains("- image: ghcr.io/our-org/one\n"), "{talos}");
    assert_eq!(talos, std::fs::read_to_string(out.join("image-verification.yaml")).unwrap());
    assert!(!out.join(".identity").exists(), "the next build would not write the output");
    let sums = std::fs::read_to_string(out.join("SHA256SUMS")).unwrap();
    let digest = |name: &str| common::Sha256::of_file(&out.join(name)).unwrap();
    for name in ["cmdline", "image.pub.pem", "one.oci/index.json", "build.json"] {
        assert!(sums.contains(&format!("{}  {name}\n", digest(name))), "{sums}");
    }
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("build.json")).unwrap()).unwrap();
    assert_eq!(record["keys"], "development");
    assert_eq!(record["outputs"]["two.oci/index.json"], digest("two.oci/index.json").to_string());
    let key = keys::PublicKey::read(&dir.join("keys/image.pub.pem")).unwrap();
    assert_eq!(record["image_key"], key.fingerprint().to_string());
    // From within the directory, and then with a key that did not sign it.
    ends(&out, &["sign", ".", "--keys", "../others"], 0, "signed 2 layouts");
    std::fs::copy(dir.join("keys/image.pub.pem"), out.join("image.pub.pem")).unwrap();
    ends(dir, &["sign", "_out", "--keys", "keys"], 5, "signature verification failed");
    ends(dir, &["sign", "_out", "--keys", "keys", "--old-key", "others/image.pub.pem"], 0, "signed 2 layouts");
    // A document next to a layout that differs from the signed one.
    std::fs::write(out.join("one.spdx.json"), "{}").unwrap();
    ends(dir, &config, 5, "document differs from the signed one");
}

#[test]
fn signatures_can_come_from_an_external_signer() {
    let scene = tempfile::tempdir().unwrap();
    let dir = scene.path();
    keys(dir);
    layout(&dir.join("a.oci"), "one");
    let before = std::fs::read(dir.join("a.oci/index.json")).unwrap();
    std::fs::rename(dir.join("keys/image.key.pem"), dir.join("elsewhere.pem")).unwrap();
    ends(dir, &["sign", "a.oci", "--keys", "keys", "--sign-later", "requests"], 7, "signatures pending");
    assert_eq!(std::fs::read(dir.join("a.oci/index.json")).unwrap(), before);
}

/// Attaches an artifact of `kind` to the one image of a layout, as anyone could.
fn attach(layout: &Path, kind: &str) {
    let index = layout.join("index.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
    let blob = |bytes: &[u8], media_type: &str| {
        let digest = common::Sha256::of(bytes);
        std::fs::write(layout.join("blobs/sha256").join(digest.to_string()), bytes).unwrap();
        serde_json::json!({"mediaType": media_type, "digest": digest.oci(), "size": bytes.len()})
    };
    let image = &json["manifests"].as_array().unwrap().iter().find(|entry| entry["artifactType"].is_null()).unwrap();
    let subject = serde_json::json!({
        "mediaType": image["mediaType"], "digest": image["digest"], "size": image["size"],
    });
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": oci::types::MediaType::ImageManifest, "artifactType": kind, "subject": subject,
        "config": blob(b"{}", "application/vnd.oci.empty.v1+json"), "layers": [blob(b"{}", kind)],
    });
    let mut entry = blob(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json");
    entry["artifactType"] = kind.into();
    json["manifests"].as_array_mut().unwrap().push(entry);
    std::fs::write(index, json.to_string()).unwrap();
}

/// The new name is not signed by the old key.
#[test]
fn renamed_images_are_re_signed_only_with_any_name() {
    let scene = tempfile::tempdir().unwrap();
    let dir = scene.path();
    keys(dir);
    layout(&dir.join("a.oci"), "one");
    let output = tool(dir, &["sign", "a.oci", "--keys", "keys"]);
    assert!(output.status.success() && !String::from_utf8_lossy(&output.stderr).contains("warning"));
    let index = std::fs::read_to_string(dir.join("a.oci/index.json")).unwrap();
    std::fs::write(dir.join("a.oci/index.json"), index.replace("one:v1", "one:v2")).unwrap();
    let sign = ["sign", "a.oci", "--keys", "others", "--old-key", "keys/image.pub.pem"];
    ends(dir, &sign, 5, "for the name ghcr.io/our-org/one:v2");
    ends(dir, &[&sign[..], &["--any-name"]].concat(), 0, "signed 1 layout");
    ends(dir, &["verify", "a.oci", "--key", "others/image.pub.pem", "--signature-only"], 0, "one:v2");
}

#[test]
fn inspect_rejects_an_sbom_that_the_key_has_not_signed() {
    let scene = tempfile::tempdir().unwrap();
    let dir = scene.path();
    keys(dir);
    layout(&dir.join("a.oci"), "one");
    ends(dir, &["sign", "a.oci", "--keys", "keys"], 0, "signed 1 layout");
    let inspect = ["inspect", "a.oci", "--key", "keys/image.pub.pem"];
    ends(dir, &inspect, 0, "");
    attach(&dir.join("a.oci"), "text/plain");
    ends(dir, &inspect, 0, "");
    attach(&dir.join("a.oci"), "application/spdx+json");
    ends(dir, &inspect, 5, "does not verify against the given key");
}

/// Operators who only sign or deploy images have no clone.
#[test]
fn verbs_on_images_and_keys_need_no_project() {
    let scene = tempfile::tempdir().unwrap();
    ends(scene.path(), &["attach", "later"], 2, "no signing requests in this directory");
    ends(scene.path(), &["keys", "show", "--dir", "set"], 2, "not a key set");
    ends(scene.path(), &["--offline", "inspect", "localhost:1/a:v1"], 6, "cannot access a registry with --offline");
    ends(
        scene.path(),
        &["--offline", "pull", "localhost:1/a:v1", "--out", "a.oci"],
        6,
        "cannot access a registry with --offline",
    );
}

#[test]
fn control_characters_in_image_names_are_escaped() {
    let scene = tempfile::tempdir().unwrap();
    let dir = scene.path();
    keys(dir);
    layout(&dir.join("a.oci"), "one");
    let index = std::fs::read_to_string(dir.join("a.oci/index.json")).unwrap();
    std::fs::write(dir.join("a.oci/index.json"), index.replace("one:v1", "\\u001b[2J:v1")).unwrap();
    let verify = ["verify", "a.oci", "--key", "keys/image.pub.pem", "--signature-only"];
    ends(dir, &verify, 5, "/\\u{1b}[2J:v1");
    assert!(!tool(dir, &verify).stderr.contains(&0x1b));
}

#[test]
fn a_path_without_images_is_reported() {
    let scene = tempfile::tempdir().unwrap();
    let dir = scene.path();
    keys(dir);
    ends(dir, &["sign", "keys", "--keys", "keys"], 2, "nothing to sign");
    layout(&dir.join("home/a.oci"), "one");
    std::fs::write(dir.join("home/thesis.txt"), "years").unwrap();
    ends(dir, &["sign", "home", "--keys", "keys"], 2, "not an output directory");
    assert!(dir.join("home/thesis.txt").exists());
    ends(dir, &["verify", "keys", "--key", "keys/image.pub.pem"], 2, "nothing to verify");
    ends(dir, &["verify", "keys", "--key", "keys/image.key.pem"], 2, "PRIVATE KEY");
    ends(dir, &["sign", "keys", "--keys", "nowhere"], 2, "not a key set");
}
