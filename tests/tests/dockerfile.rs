//! The image of the Dockerfile, built with buildah, contains the same packages as the bootstrapped toolchain.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use harness::modules::project;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const BASE: &str = "localhost/debian:trixie";
/// Exports dpkg's database only: packing and unpacking the whole image would cost two gigabytes.
const EXPORT: &str = "FROM scratch\nCOPY --from=toolchain /var/lib/dpkg/status /status\n";

/// Parses packages and their versions from lines of `name version`.
fn versions(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once(' ')).collect()
}

/// Parses packages and their versions from dpkg's database.
fn installed(status: &str) -> BTreeMap<&str, &str> {
    status.split("\n\n").filter_map(|text| Some((field(text, "Package")?, field(text, "Version")?))).collect()
}

fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Reads the recorded package versions of the toolchain of `./x test`; `None` skips the test.
fn recorded() -> Option<String> {
    for program in ["buildah", "mmdebstrap"] {
        if Command::new(program).arg("--version").output().is_err() {
            skip::skipped(format!("{program} is missing; install the package {program}"));
            return None;
        }
    }
    Some(std::fs::read_to_string(skip::toolchain(&[])?.parent()?.join("versions")).unwrap())
}

/// Runs a program that must succeed, and returns its standard output.
fn run(program: &str, arguments: &[&str]) -> String {
    let start = Instant::now();
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{out}\n{err}", output.status);
    eprintln!("{program} {}: {:.0} s", arguments.join(" "), start.elapsed().as_secs_f64());
    out
}

/// buildah with its storage in a directory of the test; works without further privileges and without overlayfs.
struct Buildah<'a>(&'a Path);

impl Buildah<'_> {
    fn storage(&self) -> [String; 6] {
        let [root, state] = ["storage", "state"].map(|name| self.0.join(name).display().to_string());
        ["--root".into(), root, "--runroot".into(), state, "--storage-driver".into(), "vfs".into()]
    }

    fn run(&self, arguments: &[&str]) -> String {
        let storage = self.storage();
        run("buildah", &[&storage.each_ref().map(String::as_str), arguments].concat())
    }

    /// Makes an image from a tar archive of a root filesystem.
    fn import(&self, tar: &str, name: &str) {
        let container = self.run(&["from", "scratch"]);
        self.run(&["add", "--quiet", &container, tar, "/"]);
        self.run(&["commit", "--quiet", "--rm", &container, name]);
    }
}

impl Drop for Buildah<'_> {
    /// Files in the storage may have owners whose files only buildah can remove.
    fn drop(&mut self) {
        for clean in [&["rm", "--all"][..], &["rmi", "--all", "--force"]] {
            // A panic here would abort the process if the test is already panicking.
            let _ = Command::new("buildah").args(self.storage()).args(clean).output();
        }
    }
}

#[test]
fn the_image_has_the_same_packages_as_the_toolchain() {
    let Some(recorded) = recorded() else { return };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let project = project();
    let tar = dir.path().join("base.tar").display().to_string();
    run(
        "mmdebstrap",
        &["--quiet", "--variant=apt", "--architectures=amd64", "--dpkgopt=force-unsafe-io", "trixie", &tar],
    );
    let buildah = Buildah(dir.path());
    buildah.import(&tar, BASE);
    let dockerfile = std::fs::read_to_string(project.join("Dockerfile")).unwrap();
    let file = dir.path().join("Dockerfile");
    std::fs::write(&file, dockerfile + EXPORT).unwrap();
    let (base, out) = (format!("BASE={BASE}"), format!("type=local,dest={}/out", dir.path().display()));
    let (file, project) = (file.display().to_string(), project.display().to_string());
    let options =
        ["--isolation", "chroot", "--network", "host", "--pull-never", "--build-arg", &base, "--output", &out];
    buildah.run(&[&["build"], &options[..], &["--file", &file, &project]].concat());
    let status = std::fs::read_to_string(dir.path().join("out/status")).unwrap();
    compare(&installed(&status), &versions(&recorded));
}

/// Compares packages and suites. Versions may be newer in the image: the archive has only the newest ones.
fn compare(image: &BTreeMap<&str, &str>, toolchain: &BTreeMap<&str, &str>) {
    let missing: Vec<_> = toolchain.keys().filter(|name| !image.contains_key(*name)).collect();
    let extra: Vec<_> = image.keys().filter(|name| !toolchain.contains_key(*name)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing in the image: {missing:?}, only in the image: {extra:?}");
    for (name, version) in image {
        let recorded = toolchain[name];
        assert_eq!(version.contains("~bpo"), recorded.contains("~bpo"), "{name} is from another suite");
        if *version != recorded {
            eprintln!("NOTE: {name} is {version} in the image, {recorded} in the toolchain");
        }
    }
    eprintln!("{} packages are the same in the image and in the toolchain", image.len());
}
