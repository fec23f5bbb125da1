//! `inspect` on the binary: outside of any project, on invalid images, and its exit codes.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

/// A public key with which nothing is signed.
const KEY: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEv/55w91owiIDVFl61BxXHhXbgBKc
Qxj6uQEZt53O2+XPPTba1NF7r6+YzqpBQE2iOXrVinMp59USLcbHPLu+BA==
-----END PUBLIC KEY-----
";

fn inspect(dir: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_solana-talos")).current_dir(dir).arg("inspect").args(words).output().unwrap()
}

fn layout(dest: &Path, motd: &str) {
    support::motd(dest, "ghcr.io/our-org/sample:v1", motd);
}

#[test]
fn shows_an_image_and_its_difference_to_another() {
    let dir = tempfile::tempdir().unwrap();
    layout(&dir.path().join("a.oci"), "one");
    layout(&dir.path().join("b.oci"), "two");
    let out = inspect(dir.path(), &["a.oci"]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success() && text.starts_with("ghcr.io/our-org/sample:v1\n  digest       sha256:"), "{text}");

    let out = inspect(dir.path(), &["a.oci", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(json["images"][0]["kind"], "other");

    let out = inspect(dir.path(), &["a.oci", "--diff", "b.oci"]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!((out.status.code(), text.contains("    ~ etc/motd  ")), (Some(0), true), "{text}");

    let out = inspect(dir.path(), &["a.oci", "--diff", "b.oci", "--bytes", "--exit-code"]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(text, "image ghcr.io/our-org/sample:v1 > layer 1 > file etc/motd: line 1: \"one\" and \"two\"\n");
    assert_eq!(inspect(dir.path(), &["a.oci", "--diff", "a.oci", "--exit-code"]).status.code(), Some(0));
}

#[test]
fn invalid_images_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    layout(&dir.path().join("out/a.oci"), "one");
    std::fs::write(dir.path().join("file"), "not a tarball").unwrap();
    // Not a file, so an image reference; nothing listens on that port.
    let out = inspect(dir.path(), &["127.0.0.1:1/a/b:c"]);
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.code() == Some(6) && text.contains("127.0.0.1:1"), "{text}");
    for (name, word) in
        [("none", "cannot open the image"), ("file", "file"), ("out", "the directory contains layouts: out/a.oci")]
    {
        let out = inspect(dir.path(), &[name]);
        let text = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{text}");
        assert!(text.contains(word), "{word}: {text}");
    }
    let blobs = dir.path().join("out/a.oci/blobs/sha256");
    let largest = std::fs::read_dir(&blobs).unwrap().map(|e| e.unwrap().path()).next().unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&largest, bytes).unwrap();
    assert_eq!(inspect(dir.path(), &["out/a.oci"]).status.code(), Some(5), "a damaged blob");
}

#[test]
fn signatures_are_verified_only_with_a_key() {
    let dir = tempfile::tempdir().unwrap();
    layout(&dir.path().join("a.oci"), "one");
    std::fs::write(dir.path().join("key.pem"), KEY).unwrap();
    let out = inspect(dir.path(), &["a.oci", "--key", "key.pem"]);
    let (text, error) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert_eq!(out.status.code(), Some(5), "{error}");
    assert!(text.contains("NOT VERIFIED") && error.contains("does not verify against the given key"), "{text}{error}");
    assert_eq!(inspect(dir.path(), &["a.oci", "--key", "a.oci/index.json"]).status.code(), Some(2), "not a key");
}
