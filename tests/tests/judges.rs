//! The forged module of the boot tests is forged well: openssl accepts its signature, so the kernel's refusal is about the key.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use common::sandbox::{Run, Sandbox};
use harness::signature;

const VERIFY: &str = "\
cd /build/work
openssl cms -verify -binary -inform DER -in signature.p7s -content module.ko -certfile cert.pem -CAfile cert.pem -purpose any -out /dev/null
";

#[test]
fn openssl_accepts_the_foreign_signature_and_no_other_content() {
    let Some(rootfs) = skip::toolchain(&["openssl"]) else { return };
    let sandbox = Sandbox::new(rootfs);
    let work = tempfile::tempdir().unwrap();
    let original = signature::append(b"ELF and more", b"signature of the builder").unwrap();
    let forged = signature::foreign(&sandbox, &original, work.path()).unwrap();
    assert_eq!(signature::strip(&forged).unwrap(), b"ELF and more");
    let verify = Run::script(VERIFY, &[]).write(work.path(), "/build/work");
    sandbox.output(&verify).unwrap();
    std::fs::write(work.path().join("module.ko"), b"ELF and less").unwrap();
    assert!(sandbox.output(&verify).is_err());
}
