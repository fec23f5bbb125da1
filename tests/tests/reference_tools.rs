//! openssl accepts the signature of the boot tests' forged module, so the kernel rejects it because of the key; and it signs the requests of
//! `--sign-later` as docs/keys.md says.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::sandbox::{Run, Sandbox};
use harness::{recipe, signature};
use keys::{KeySet, Role};

const VERIFY: &str = "\
cd /build/work
openssl cms -verify -binary -inform DER -in signature.p7s -content module.ko -certfile cert.pem -CAfile cert.pem -purpose any -out /dev/null
";

#[test]
fn openssl_accepts_the_forged_signature_for_its_content_only() {
    let Some(rootfs) = skip::toolchain(&["openssl"]) else { return };
    let sandbox = Sandbox::new(rootfs);
    let work = tempfile::tempdir().unwrap();
    let original = signature::append(b"ELF and more", b"signature of the builder").unwrap();
    let forged = signature::sign_with_unknown_key(&sandbox, &original, work.path()).unwrap();
    assert_eq!(signature::strip(&forged).unwrap(), b"ELF and more");
    let verify = Run::script(VERIFY, &[]).write(work.path(), "/build/work");
    sandbox.output(&verify).unwrap();
    std::fs::write(work.path().join("module.ko"), b"ELF and less").unwrap();
    assert!(sandbox.output(&verify).is_err());
}

/// Requests of a build that has only the public halves of `keys`.
fn request(keys: &Path, public: &Path, later: &Path) {
    std::fs::create_dir(public).unwrap();
    for role in [Role::Module, Role::Image] {
        std::fs::copy(keys.join(role.public_file()), public.join(role.public_file())).unwrap();
    }
    let set = KeySet::open(public).unwrap().sign_later(later).unwrap();
    for role in [Role::Module, Role::Image] {
        let digest = role.algorithm().digest(b"something to sign");
        assert!(set.signer(role).unwrap().sign(&digest, "something").unwrap().is_err(), "not pending");
    }
}

/// The contents of the signatures, by name.
fn signatures(later: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = std::fs::read_dir(later).unwrap().map(|entry| entry.unwrap().path());
    let signatures = paths.filter(|path| path.extension().is_some_and(|extension| extension == "sig"));
    signatures.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn openssl_and_the_program_sign_requests_alike() {
    let Some(rootfs) = skip::toolchain(&["openssl"]) else { return };
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name);
    let (own, later) = (path("keys"), path("later"));
    keys::init(&own, &keys::Options { name: "test".to_owned(), from: 1_760_000_000, days: 30 }).unwrap();
    request(&own, &path("public"), &later);
    let signer = recipe::openssl_signer(&own, &later).unwrap();
    Sandbox::new(rootfs).output(&signer).unwrap();
    let theirs = signatures(&later);
    assert_eq!(keys::attach(&later).unwrap().taken.len(), 2);
    for path in theirs.keys() {
        std::fs::write(path, "not a signature").unwrap();
    }
    assert!(keys::attach(&later).is_err());
    keys::sign_requests(&later, &KeySet::open(&own).unwrap()).unwrap();
    assert_eq!(signatures(&later), theirs);
    assert_eq!(theirs.len(), 2);
}
