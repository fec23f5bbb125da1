//! The Dockerfile, built for real with buildah on a base of our own, holds what the bootstrapped toolchain holds.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const BASE: &str = "localhost/debian:trixie";
/// Takes what dpkg knows out of the image. Without this, two gigabytes would be packed and unpacked for nothing.
const TAKE: &str = "FROM scratch\nCOPY --from=toolchain /var/lib/dpkg/status /status\n";

/// Packages and their versions, from lines of `name version`.
fn versions(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once(' ')).collect()
}

/// The same, from dpkg's database: paragraphs of `Field: value`.
fn installed(status: &str) -> BTreeMap<&str, &str> {
    status.split("\n\n").filter_map(|text| Some((field(text, "Package")?, field(text, "Version")?))).collect()
}

fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// What the toolchain of `./x test` was recorded to hold; `None` skips the test.
fn recorded() -> Option<String> {
    for program in ["buildah", "mmdebstrap"] {
        if Command::new(program).arg("--version").output().is_err() {
            skip::skipped(format!("this machine has no {program}; install the package {program}"));
            return None;
        }
    }
    Some(std::fs::read_to_string(skip::toolchain(&[])?.parent()?.join("versions")).unwrap())
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
    fn storage(&self) -> [String; 6] {
        let inside = |name| self.0.join(name).display().to_string();
        [
            "--root".into(),
            inside("storage"),
            "--runroot".into(),
            inside("state"),
            "--storage-driver".into(),
            "vfs".into(),
        ]
    }

    fn run(&self, arguments: &[&str]) -> String {
        let storage = self.storage();
        run("buildah", &[&storage.each_ref().map(String::as_str), arguments].concat())
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
        for clean in [&["rm", "--all"][..], &["rmi", "--all", "--force"]] {
            // A panic here would hide the one that may be under way.
            let _ = Command::new("buildah").args(self.storage()).args(clean).output();
        }
    }
}

#[test]
fn the_image_holds_what_the_toolchain_holds() {
    let Some(recorded) = recorded() else { return };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let tar = dir.path().join("base.tar").display().to_string();
    run(
        "mmdebstrap",
        &["--quiet", "--variant=apt", "--architectures=amd64", "--dpkgopt=force-unsafe-io", "trixie", &tar],
    );
    let buildah = Buildah(dir.path());
    buildah.import(&tar, BASE);
    let dockerfile = std::fs::read_to_string(project.join("Dockerfile")).unwrap();
    let file = dir.path().join("Dockerfile");
    std::fs::write(&file, dockerfile + TAKE).unwrap();
    let (base, out) = (format!("BASE={BASE}"), format!("type=local,dest={}/out", dir.path().display()));
    let (file, project) = (file.display().to_string(), project.display().to_string());
    let options =
        ["--isolation", "chroot", "--network", "host", "--pull-never", "--build-arg", &base, "--output", &out];
    buildah.run(&[&["build"], &options[..], &["--file", &file, &project]].concat());
    let status = std::fs::read_to_string(dir.path().join("out/status")).unwrap();
    compare(&installed(&status), &versions(&recorded));
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
