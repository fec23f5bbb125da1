//! Problems of the machine: a missing program, a full disk, no network, altered files. Programs in `PATH` are scripts, so the tests are fast.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::fs;
use std::process::Command;

use common::Sha256;
use support::{Ran, Scene, find};

const MISSING_TOOL: i32 = 3;
const VERIFICATION: i32 = 5;
const INFRASTRUCTURE: i32 = 6;

/// A fake bubblewrap, for tests that end before it would run anything.
const IDLE: &str = "exit 0";

/// The command `unshare FLAGS`, if this machine allows it.
fn namespaces(flags: &'static str) -> Option<[String; 2]> {
    let unshare = find("unshare")?.display().to_string();
    if Command::new(&unshare).args([flags, "true"]).status().is_ok_and(|status| status.success()) {
        return Some([unshare, flags.to_owned()]);
    }
    skip::skipped(format!("this machine does not allow `unshare {flags}`"));
    None
}

/// Pins the kernel source to `content`; a mirror has `offered` under its digest.
fn pin(scene: &Scene, content: &[u8], offered: &[u8]) {
    let digest = Sha256::of(content).to_string();
    let pin = scene.project().join("kernel-config/pin.toml");
    let text = fs::read_to_string(&pin).unwrap();
    let old = text.split("sha256 = \"").nth(1).unwrap().split('"').next().unwrap();
    fs::write(&pin, text.replace(old, &digest)).unwrap();
    scene.lock_again();
    fs::create_dir(scene.path("mirror")).unwrap();
    fs::write(scene.path("mirror").join(digest), offered).unwrap();
}

#[test]
fn a_file_with_the_wrong_digest_is_rejected() {
    let scene = Scene::new();
    pin(&scene, b"the kernel", b"The kernel");
    let words = [
        "digest mismatch for pinned file",
        &format!("file: {}", scene.path("mirror").display()),
        "(10 bytes)",
        &format!("expected sha256:{}", Sha256::of(b"the kernel")),
        "hint: the file is truncated or altered; remove it",
    ];
    scene.fails(VERIFICATION, &["build", "--mirror", "mirror"], &words);
}

#[test]
fn a_truncated_file_is_rejected() {
    let scene = Scene::new();
    pin(&scene, b"the kernel", b"the ke");
    scene.fails(
        VERIFICATION,
        &["build", "--mirror", "mirror"],
        &["digest mismatch for pinned file", "(6 bytes)", "hint: "],
    );
}

#[test]
fn a_missing_program_is_reported_with_its_package() {
    let scene = Scene::new();
    let words = ["cannot start bwrap", "why: ", "hint: install the package bubblewrap"];
    scene.fails(MISSING_TOOL, &["toolchain", "path"], &words);
    scene.script("bwrap", IDLE);
    let words = ["cannot start mmdebstrap", "why: ", "hint: install the package mmdebstrap"];
    scene.fails(MISSING_TOOL, &["toolchain", "path"], &words);
    scene.fails(MISSING_TOOL, &["build"], &words);
}

#[test]
fn forbidden_namespaces_are_reported_first() {
    let scene = Scene::new();
    scene.script("bwrap", "echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1");
    let words = ["cannot create the namespaces", "why: bwrap: setting up uid map: Permission denied", "hint: "];
    scene.fails(INFRASTRUCTURE, &["toolchain", "path"], &words);
}

#[test]
fn a_program_missing_from_the_toolchain_is_reported() {
    let scene = Scene::new();
    pin(&scene, b"the kernel", b"the kernel");
    if !scene.fake_toolchain() {
        return;
    }
    let ran = scene.run(&["build", "--mirror", "mirror"]);
    ran.failed(
        MISSING_TOOL,
        &["mkdir is not in the toolchain", "hint: add its package to crates/toolchain/packages.list"],
    );
    assert!(!scene.project().join("_out").exists());
}

#[test]
fn a_full_disk_while_creating_the_toolchain_is_reported() {
    let Some([unshare, flags]) = namespaces("-rm") else { return };
    let scene = Scene::new();
    scene.script("bwrap", IDLE);
    scene.lock_nothing();
    scene.script("mmdebstrap", "for tar; do :; done\necho 'I: fake'\nhead -c 1000000 /dev/zero >\"$tar\"");
    on_a_small_disk(&scene, &unshare, &flags, &["toolchain", "path"])
        .failed(INFRASTRUCTURE, &["mmdebstrap failed", "No space left on device", "hint: check the free disk space"]);
}

#[test]
fn a_full_disk_while_writing_the_store_is_reported() {
    let Some([unshare, flags]) = namespaces("-rm") else { return };
    let scene = Scene::new();
    let archive = vec![7; 1_000_000];
    pin(&scene, &archive, &archive);
    on_a_small_disk(&scene, &unshare, &flags, &["build", "--mirror", "mirror"]).failed(
        INFRASTRUCTURE,
        &["failed to copy file", "/store/sha256/", "No space left on device", "hint: free some space"],
    );
}

/// Runs the tool with its cache on a 64 KiB disk, and checks that no finished file is left on it.
fn on_a_small_disk(scene: &Scene, unshare: &str, flags: &str, arguments: &[&str]) -> Ran {
    let script = "
        PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin
        mkdir -p \"$SCENE/cache\"
        mount -t tmpfs -o size=64k small \"$SCENE/cache\"
        code=0
        PATH=$SCENE/bin \"$@\" || code=$?
        find \"$SCENE/cache\" -type f ! -path '*/unfinished/*'
        exit $code";
    let wrapper = [unshare, flags, "/bin/sh", "-euc", script, "sh"];
    let ran = Ran::of(&mut scene.wrapped(&wrapper, arguments));
    assert_eq!(ran.stdout, "", "finished files");
    ran
}

#[test]
fn a_missing_network_is_reported() {
    let Some([unshare, flags]) = namespaces("-rn") else { return };
    let scene = Scene::new();
    scene.script("bwrap", IDLE);
    let Some(mmdebstrap) = find("mmdebstrap") else {
        skip::skipped("this machine has no mmdebstrap");
        return;
    };
    scene.script("mmdebstrap", &format!("exec {} \"$@\"", mmdebstrap.display()));
    let ran = Ran::of(&mut scene.wrapped(&[&unshare, &flags], &["toolchain", "path"]));
    ran.failed(
        INFRASTRUCTURE,
        &["cannot download a pinned file", "adduser 3", "hint: without network: `solana-talos bundle load`"],
    );
    scene.holds_nothing_final();
}
