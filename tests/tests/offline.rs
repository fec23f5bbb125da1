//! A build from a bundle, in a network namespace without interfaces and with a new cache, gives the same stages and outputs.
//!
//! The compiled kernel is reused by its key from the cache with network, since compiling it takes longer than all other tests;
//! `./x test --full` compiles it.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use build::stages;
use common::stage::Stage;
use harness::modules::project;
use harness::outputs::comparable;
use harness::settings::{OUT, PROGRAM};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Prints also when the test passes; the test harness would capture `eprintln!`.
fn report(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The build of `./x test`, made with network.
struct Online {
    tool: PathBuf,
    cache: PathBuf,
    toolchain: PathBuf,
    out: PathBuf,
}

impl Online {
    /// `None` skips the test.
    fn find() -> Option<Self> {
        let (tool, rootfs, out) = (skip::path(PROGRAM)?, skip::toolchain(&[])?, skip::path(OUT)?);
        let toolchain = rootfs.parent()?.to_owned();
        if !Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success()) {
            skip::skipped("cannot make a network namespace (`unshare --net`): run as root");
            return None;
        }
        Some(Self { tool, cache: toolchain.parent()?.parent()?.to_owned(), toolchain, out })
    }

    /// Runs the tool with `cache` in a new network namespace.
    #[track_caller]
    fn run_isolated(&self, cache: &Path, arguments: &[&str]) {
        let start = Instant::now();
        let mut command = Command::new("unshare");
        command.arg("--net").arg(&self.tool).args(arguments).arg("--cache").arg(cache).arg("--project").arg(project());
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}\n{stderr}", output.status);
        report(&format!("{arguments:?}: {:.0} s", start.elapsed().as_secs_f64()));
    }
}

/// Returns the fingerprints of those finished stages of `cache` that are in `wanted`, by directory name.
fn fingerprints(cache: &Path, wanted: &[Stage]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(cache.join("stages")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if stages::owned(wanted, &name) {
            found.insert(name, std::fs::read_to_string(entry.path().join("fingerprint.json")).unwrap());
        }
    }
    found
}

/// Returns a digest of a root filesystem: names, modes, links and bytes. By tar, since a debug build of our code would take minutes.
fn tree_digest(stage: &Path) -> String {
    let script = "tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C \"$1\" -cf - rootfs | sha256sum";
    let output = Command::new("sh").args(["-euc", script, "sh"]).arg(stage).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_bundle_builds_without_network() {
    let Some(online) = Online::find() else { return };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (bundle, fresh) = (dir.path().join("bundle.tar"), dir.path().join("cache"));
    let interfaces = Command::new("unshare").args(["--net", "cat", "/proc/net/dev"]).output().unwrap();
    let interfaces = String::from_utf8(interfaces.stdout).unwrap();
    assert!(interfaces.lines().skip(2).all(|line| line.trim().starts_with("lo:")), "{interfaces}");

    // Missing inputs are reported at once.
    let mut command = Command::new("unshare");
    command.arg("--net").arg(&online.tool).args(["toolchain", "path", "--offline", "--cache"]).arg(&fresh);
    let output = command.arg("--project").arg(project()).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{error}");
    assert!(error.contains("offline: inputs are missing in the store") && error.contains("bundle load"), "{error}");

    let path = bundle.display().to_string();
    online.run_isolated(&online.cache, &["bundle", "create", &path]);
    online.run_isolated(&fresh, &["bundle", "load", &path]);
    std::fs::remove_file(&bundle).unwrap();
    online.run_isolated(&fresh, &["kernel", "check", "--profile", "vm", "--offline"]);
    let cold = [stages::TOOLCHAIN, stages::KERNEL_SOURCE, stages::KERNEL_CONFIG];
    let (here, there) = (fingerprints(&fresh, &cold), fingerprints(&online.cache, &cold));
    assert_eq!(here.len(), cold.len(), "{here:?}");
    for (name, fingerprint) in &here {
        assert_eq!(Some(fingerprint), there.get(name), "{name}");
    }
    let toolchain = fresh.join("stages").join(online.toolchain.file_name().unwrap());
    let (ours, theirs) = std::thread::scope(|scope| {
        let ours = scope.spawn(|| tree_digest(&toolchain));
        (tree_digest(&online.toolchain), ours.join().unwrap())
    });
    assert_eq!(ours, theirs, "the toolchain's root filesystem differs");

    let keys = Command::new("cp").arg("-a").args([online.cache.join("keys"), fresh.join("keys")]).status().unwrap();
    assert!(keys.success(), "cannot copy the development keys");
    if std::env::var_os("SOLANA_TALOS_FULL").is_none() {
        for name in fingerprints(&online.cache, &[stages::KERNEL]).keys() {
            symlink(online.cache.join("stages").join(name), fresh.join("stages").join(name)).unwrap();
        }
    }
    let out = dir.path().join("out");
    online.run_isolated(&fresh, &["build", "--base", "testbed", "--offline", "--out", &out.display().to_string()]);
    let (ours, theirs) = (comparable(&out).unwrap(), comparable(&online.out).unwrap());
    assert_eq!(ours.0, theirs.0, "SHA256SUMS");
    assert_eq!(ours.1, theirs.1, "build.json");
    report(&format!("{} outputs are the same without network", ours.0.len()));
}
