//! The Dockerfile, built for real with buildah on a base of our own, holds what the bootstrapped toolchain holds.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const BASE: &str = "localhost/debian:trixie";
const IMAGE: &str = "localhost/solana-talos-toolchain";

/// Packages and their versions, from lines of `name version`.
fn versions(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once(' ')).collect()
}

/// What the toolchain of `./x test` was recorded to hold; `None`, said loudly, when something that the test needs is not there.
fn recorded() -> Option<String> {
    for program in ["buildah", "mmdebstrap"] {
        if Command::new(program).arg("--version").output().is_err() {
            eprintln!("SKIPPED: this machine has no {program}: the Dockerfile was not built (install the package {program})");
            return None;
        }
    }
    let Some(rootfs) = std::env::var_os("SOLANA_TALOS_ROOTFS").map(PathBuf::from) else {
        eprintln!("SKIPPED: SOLANA_TALOS_ROOTFS is not set (`./x test` sets it): the Dockerfile was not built");
        return None;
    };
    Some(std::fs::read_to_string(rootfs.parent()?.join("versions")).unwrap())
}

/// Runs a program that must succeed, and gives its standard output.
fn run(program: &str, arguments: &[&str]) -> String {
    let start = Instant::now();
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{out}\n{err}", output.status);
    eprintln!("{program} {}: {:.0} s", arguments.join(" "), start.elapsed().as_secs_f64());
    out
}

/// buildah with its storage below `dir`, needing no privileges but those of this process and no overlay file system.
struct Buildah<'a>(&'a Path);

impl Buildah<'_> {
    fn run(&self, arguments: &[&str]) -> String {
        let (root, state) = (self.0.join("storage").display().to_string(), self.0.join("state").display().to_string());
        let storage = ["--root", &root, "--runroot", &state, "--storage-driver", "vfs"];
        run("buildah", &[&storage, arguments].concat())
    }

    /// Makes an image of a root filesystem that is packed in a tar.
    fn import(&self, tar: &str, name: &str) {
        let container = self.run(&["from", "scratch"]);
        self.run(&["add", "--quiet", &container, tar, "/"]);
        self.run(&["commit", "--quiet", "--rm", &container, name]);
    }
}

impl Drop for Buildah<'_> {
    /// Files in the storage may belong to identities that only buildah can take on.
    fn drop(&mut self) {
        self.run(&["rm", "--all"]);
        self.run(&["rmi", "--all", "--force"]);
    }
}

#[test]
fn the_image_holds_what_the_toolchain_holds() {
    let Some(recorded) = recorded() else { return };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().display().to_string();
    let tar = dir.path().join("base.tar").display().to_string();
    run("mmdebstrap", &["--quiet", "--variant=apt", "--architectures=amd64", "--dpkgopt=force-unsafe-io", "trixie", &tar]);
    let buildah = Buildah(dir.path());
    buildah.import(&tar, BASE);
    std::fs::remove_file(tar).unwrap();
    let base = format!("BASE={BASE}");
    let place = ["--isolation", "chroot", "--network", "host"];
    let build = ["build", "--quiet", "--pull-never", "--build-arg", &base, "--tag", IMAGE, &project];
    buildah.run(&[&build[..1], &place, &build[1..]].concat());
    let container = buildah.run(&["from", "--pull-never", IMAGE]);
    let query = [container.as_str(), "--", "dpkg-query", "-W", "-f", "${Package} ${Version}\\n"];
    let found = buildah.run(&[&["run"], &place[..], &query].concat());
    compare(&versions(&found), &versions(&recorded));
}

/// The same packages. An archive offers only its newest versions, so one may be newer in the image when the toolchain is some days old.
fn compare(image: &BTreeMap<&str, &str>, toolchain: &BTreeMap<&str, &str>) {
    let missing: Vec<_> = toolchain.keys().filter(|name| !image.contains_key(*name)).collect();
    let more: Vec<_> = image.keys().filter(|name| !toolchain.contains_key(*name)).collect();
    assert!(missing.is_empty() && more.is_empty(), "the image lacks {missing:?} and has beyond the toolchain {more:?}");
    for (name, version) in image {
        let recorded = toolchain[name];
        assert_eq!(version.contains("~bpo"), recorded.contains("~bpo"), "{name} is of another suite");
        if *version != recorded {
            eprintln!("NOTE: {name} is {version} in the image, {recorded} in the toolchain");
        }
    }
    eprintln!("{} packages, the same in the image and in the toolchain", image.len());
}
