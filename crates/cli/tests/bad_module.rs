//! Invalid modules, kernel-devel images and toolchains; nothing is compiled here.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::fs;
use std::path::PathBuf;

use oci::{Entry, FileMap};
use support::Scene;

const BAD_INPUT: i32 = 2;
const VERIFICATION: i32 = 5;

/// The pinned kernel's release.
const RELEASE: &str = "6.12.117-talos";

/// A scene with a module in `m/`.
fn scene() -> Scene {
    let scene = Scene::new();
    fs::create_dir(scene.path("m")).unwrap();
    fs::write(scene.path("m/Kbuild"), "obj-m := m.o\n").unwrap();
    scene
}

fn record(release: &str) -> String {
    let digest = "0".repeat(64);
    format!(
        r#"{{"schema": 1, "release": "{release}", "toolchain": "{digest}", "compilers": {{"rustc": "1.85.0-1"}}, "config": "{digest}", "certificate": "{digest}"}}"#
    )
}

/// The layout `devel.oci` with an image of `files`.
fn layout(scene: &Scene, files: &FileMap) -> PathBuf {
    let path = scene.path("devel.oci");
    support::layout(&path, "a/b:c", files);
    path
}

/// An image with the tree of kernel `place` whose record names `release`.
fn devel(scene: &Scene, place: &str, release: &str) -> PathBuf {
    let mut files = FileMap::new();
    files.bytes(&format!("usr/src/linux-headers-{place}/kernel-devel.json"), record(release), 0o644).unwrap();
    layout(scene, &files)
}

#[test]
fn a_path_without_a_module_is_reported() {
    let scene = scene();
    fs::remove_file(scene.path("m/Kbuild")).unwrap();
    let words = ["cannot find a module to build", "file: m", "neither Kbuild nor Makefile", "hint: write a Kbuild"];
    scene.fails(BAD_INPUT, &["module", "build", "m"], &words);
    scene.fails(BAD_INPUT, &["module", "build", "nowhere"], &["file: nowhere", "not a directory", "hint: "]);
}

#[test]
fn an_invalid_kernel_devel_image_is_reported() {
    let scene = scene();
    let build =
        |image: &str, words: &[&str]| scene.fails(BAD_INPUT, &["module", "build", "m", "--kernel-devel", image], words);
    build("nowhere", &["cannot find the kernel-devel image", "file: nowhere", "hint: `./x build` writes one"]);
    build("m", &["not an OCI image layout", "file: m", "the file oci-layout is missing"]);
    assert!(!scene.cache().exists(), "the cache was used before");

    if !scene.fake_toolchain() {
        return;
    }
    let image = layout(&scene, &FileMap::new());
    let ran = scene.run(&["module", "build", "m", "--kernel-devel", image.to_str().unwrap()]);
    ran.failed(BAD_INPUT, &["not a kernel-devel image", "kernel-devel.json", "hint: `./x build` writes one"]);
}

#[test]
fn an_image_with_links_to_host_files_is_rejected() {
    let scene = scene();
    if !scene.fake_toolchain() {
        return;
    }
    // A complete tree on the host, and an image that only links to it.
    let outside = scene.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kernel-devel.json"), record(RELEASE)).unwrap();
    let link = |target: PathBuf| Entry::Symlink { target: target.display().to_string() };
    let tree = format!("usr/src/linux-headers-{RELEASE}");
    let mut files = FileMap::new();
    files.insert(&tree, link(outside.clone())).unwrap();
    let words = ["not a kernel-devel image"];
    let image = layout(&scene, &files);
    let build = ["module", "build", "m", "--kernel-devel", image.to_str().unwrap()];
    scene.run(&build).failed(BAD_INPUT, &words);
    let mut files = FileMap::new();
    files.insert(&format!("{tree}/kernel-devel.json"), link(outside.join("kernel-devel.json"))).unwrap();
    layout(&scene, &files);
    scene.run(&build).failed(BAD_INPUT, &words);
}

#[test]
fn an_image_of_another_kernel_is_reported() {
    let scene = scene();
    if !scene.fake_toolchain() {
        return;
    }
    let image = devel(&scene, "6.18.1-talos", "6.18.1-talos");
    let build = ["module", "build", "m", "--kernel-devel", image.to_str().unwrap()];
    let words =
        ["for another kernel", "the image is for 6.18.1-talos, requested is 6.12.117-talos", "--kernel 6.18.1-talos"];
    scene.run(&build).failed(BAD_INPUT, &words);
    devel(&scene, "6.18.1-talos", RELEASE);
    scene.run(&build).failed(BAD_INPUT, &["the tree for 6.12.117-talos is in another kernel's directory"]);
}

#[test]
fn another_toolchain_is_rejected_and_its_compilers_compared() {
    let scene = scene();
    if !scene.fake_toolchain() {
        return;
    }
    let image = devel(&scene, RELEASE, RELEASE);
    let words =
        ["not the one that compiled the kernel", "rustc: kernel compiled with 1.85.0-1, installed: none", "hint: "];
    let ran = scene.run(&["module", "build", "m", "--kernel-devel", image.to_str().unwrap()]);
    ran.failed(VERIFICATION, &words);
    assert!(!scene.project().join("_out-modules").exists(), "there is an output");
}

#[test]
fn a_manifest_with_an_invalid_image_name_is_reported_first() {
    let scene = scene();
    let manifest = "version: v1alpha1\nmetadata: {name: M, version: 1.0, author: a, description: d, compatibility: {talos: {version: ''}}}\n";
    fs::write(scene.path("manifest.yaml"), manifest).unwrap();
    let words = ["invalid image reference \"ghcr.io/our-org/M:1.0\""];
    scene.fails(BAD_INPUT, &["module", "build", "m", "--extension", "manifest.yaml"], &words);
    assert!(!scene.cache().exists(), "the cache was used before");
}
