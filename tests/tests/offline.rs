//! A bundle is enough: in a network namespace without any interface, a fresh cache gives the same stages and the same outputs.
//!
//! The kernel alone is taken over from the cache with network, by its key, since compiling it takes longer than all other tests;
//! `./x test --full` compiles it as well.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use build::stages;
use common::stage::Stage;
use harness::outputs::comparable;
use harness::settings::{OUT, PROGRAM};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// `eprintln!` would be kept back by the test harness where the test passes.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What `./x test` made with network.
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
            skip::skipped("this user may not make a network namespace (`unshare --net`): run as root");
            return None;
        }
        Some(Self { tool, cache: toolchain.parent()?.parent()?.to_owned(), toolchain, out })
    }

    /// Runs the tool with `cache`, in a network namespace of its own, and gives its standard output.
    #[track_caller]
    fn alone(&self, cache: &Path, arguments: &[&str]) -> String {
        let start = Instant::now();
        let mut command = Command::new("unshare");
        command.arg("--net").arg(&self.tool).args(arguments).arg("--cache").arg(cache).arg("--project").arg(project());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{arguments:?}: {}\n{}", output.status, text(&output.stderr));
        say(&format!("{arguments:?}: {:.0} s", start.elapsed().as_secs_f64()));
        text(&output.stdout)
    }
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Fingerprints of the finished stages of `cache` by directory; those of `wanted`.
fn finished(cache: &Path, wanted: &[Stage]) -> BTreeMap<String, String> {
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

/// Digest of a root filesystem: names, modes, links and bytes. Programs do it, since a debug build of ours would take minutes.
fn tree(stage: &Path) -> String {
    let script = "tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C \"$1\" -cf - rootfs | sha256sum";
    let output = Command::new("sh").args(["-euc", script, "sh"]).arg(stage).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_bundle_is_enough_where_there_is_no_network() {
    let Some(online) = Online::find() else { return };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (bundle, fresh) = (dir.path().join("bundle.tar"), dir.path().join("cache"));
    let interfaces = Command::new("unshare").args(["--net", "cat", "/proc/net/dev"]).output().unwrap();
    let interfaces = String::from_utf8(interfaces.stdout).unwrap();
    assert!(interfaces.lines().skip(2).all(|line| line.trim().starts_with("lo:")), "{interfaces}");

    // Without its inputs it says so, and does not try for long.
    let mut command = Command::new("unshare");
    command.arg("--net").arg(&online.tool).args(["toolchain", "path", "--offline", "--cache"]).arg(&fresh);
    let output = command.arg("--project").arg(project()).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{error}");
    assert!(error.contains("offline: inputs are missing in the store") && error.contains("bundle load"), "{error}");

    let path = bundle.display().to_string();
    online.alone(&online.cache, &["bundle", "create", &path]);
    online.alone(&fresh, &["bundle", "load", &path]);
    std::fs::remove_file(&bundle).unwrap();
    online.alone(&fresh, &["kernel", "check", "--profile", "vm", "--offline"]);
    let cold = [stages::TOOLCHAIN, stages::KERNEL_SOURCE, stages::KERNEL_CONFIG];
    let (here, there) = (finished(&fresh, &cold), finished(&online.cache, &cold));
    assert_eq!(here.len(), cold.len(), "{here:?}");
    for (name, fingerprint) in &here {
        assert_eq!(Some(fingerprint), there.get(name), "{name}");
    }
    let toolchain = fresh.join("stages").join(online.toolchain.file_name().unwrap());
    let (ours, theirs) = std::thread::scope(|scope| {
        let ours = scope.spawn(|| tree(&toolchain));
        (tree(&online.toolchain), ours.join().unwrap())
    });
    assert_eq!(ours, theirs, "the toolchain's root filesystem is another one");

    let keys = Command::new("cp").arg("-a").args([online.cache.join("keys"), fresh.join("keys")]).status().unwrap();
    assert!(keys.success(), "the development keys are what both builds sign with");
    if std::env::var_os("SOLANA_TALOS_FULL").is_none() {
        for name in finished(&online.cache, &[stages::KERNEL]).keys() {
            symlink(online.cache.join("stages").join(name), fresh.join("stages").join(name)).unwrap();
        }
    }
    let out = dir.path().join("out");
    online.alone(&fresh, &["build", "--offline", "--out", &out.display().to_string()]);
    let (ours, theirs) = (comparable(&out).unwrap(), comparable(&online.out).unwrap());
    assert_eq!(ours.0, theirs.0, "SHA256SUMS");
    assert_eq!(ours.1, theirs.1, "build.json");
    say(&format!("{} outputs, the same without network", ours.0.len()));
}
