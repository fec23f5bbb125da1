//! openssl accepts the signature of the boot tests' forged module, so the kernel rejects it because of the key.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use common::sandbox::{Run, Sandbox};
use harness::signature;

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
