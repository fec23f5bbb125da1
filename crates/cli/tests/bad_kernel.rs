//! Invalid input that only the real toolchain detects: options that Kconfig drops, truncated downloads. `./x test` provides the toolchain.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use common::stage::Stage;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::Sha256;
use support::{Scene, toolchain_stage};

const BAD_INPUT: i32 = 2;
const BUILD_FAILED: i32 = 4;
const VERIFICATION: i32 = 5;
const INFRASTRUCTURE: i32 = 6;

/// A scene whose cache has links to the toolchain of `./x test` and to finished stages of `more`.
fn scene(toolchain: &Path, more: &[Stage]) -> Option<Scene> {
    let scene = Scene::new();
    if !scene.host_programs(&["bwrap"]) {
        return None;
    }
    let stages = scene.cache().join("stages");
    fs::create_dir_all(&stages).unwrap();
    for entry in fs::read_dir(toolchain.parent().unwrap()).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name().into_string().unwrap())).unwrap();
        if path == toolchain || build::stages::owned(more, &name) {
            symlink(path, stages.join(name)).unwrap();
        }
    }
    Some(scene)
}

/// A scene whose cache has the toolchain, the store with the kernel source, and development keys.
fn scene_with_source() -> Option<Scene> {
    let toolchain = toolchain_stage()?;
    let (store, keys) = (cached(&toolchain, "store")?, cached(&toolchain, "keys")?);
    let scene = scene(&toolchain, &[build::stages::KERNEL_SOURCE])?;
    symlink(store, scene.cache().join("store")).unwrap();
    symlink(keys, scene.cache().join("keys")).unwrap();
    Some(scene)
}

fn cached(toolchain: &Path, name: &str) -> Option<PathBuf> {
    let path = toolchain.parent()?.parent()?.join(name);
    if path.exists() {
        return Some(path);
    }
    skip::skipped(format!("the cache has no {name}"));
    None
}

/// Finished stages that the tool made itself.
fn own_stages(scene: &Scene) -> Vec<PathBuf> {
    let entries = fs::read_dir(scene.cache().join("stages")).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| !path.is_symlink()).collect()
}

/// Appends options to a fragment in a block of their own; returns their file and line.
fn request(scene: &Scene, options: [&str; 2]) -> [String; 2] {
    let path = scene.project().join("kernel-config/fragments/vm-base.config");
    let text = fs::read_to_string(&path).unwrap() + "\n# A test\n# Why: to be refused.\n";
    let line = text.lines().count();
    fs::write(path, text + &options.join("\n") + "\n").unwrap();
    [1, 2].map(|number| format!("fragments/vm-base.config:{}", line + number))
}

#[test]
fn a_dropped_option_is_reported_with_its_missing_dependencies() {
    let Some(scene) = scene_with_source() else { return };
    let [unmet, unknown] = request(&scene, ["CONFIG_SND_HDA_INTEL=y", "CONFIG_HUGETLBFZ=y"]);
    let ran = scene.run(&["kernel", "check", "--profile", "vm"]);
    let words = [
        "dropped 2 options that a fragment requests",
        &format!("file: {unmet}"),
        &format!("{unmet}: CONFIG_SND_HDA_INTEL: requested y, got n"),
        "SOUND",
        &format!("{unknown}: CONFIG_HUGETLBFZ: requested y, got n"),
        "no such symbol in this kernel; close to it: ",
        "hint: request its dependencies as well",
    ];
    ran.failed(BUILD_FAILED, &words);
    let made = own_stages(&scene);
    assert!(made.iter().all(|path| !path.to_string_lossy().contains("kernel-config-")), "{made:?}");
}

#[test]
fn a_profile_without_rust_is_refused_where_the_module_is_built() {
    let Some(scene) = scene_with_source() else { return };
    let ran = scene.run(&["kernel", "build", "--profile", "stock"]);
    ran.failed(BAD_INPUT, &["the profile stock cannot have our module", "CONFIG_RUST=y", "--without-module"]);
}

/// The test's own original differs from the committed minimal form in one option.
#[test]
fn a_minimal_form_that_differs_from_its_original_is_reported_and_written_again() {
    let Some(toolchain) = toolchain_stage() else { return };
    let Some(store) = cached(&toolchain, "store") else { return };
    let Some(scene) = scene(&toolchain, &[build::stages::KERNEL_SOURCE]) else { return };
    let source = format!("sha256/{}", lock::read(&scene.project()).unwrap().kernel.sha256);
    fs::create_dir_all(scene.cache().join("store/sha256")).unwrap();
    symlink(store.join(&source), scene.cache().join("store").join(&source)).unwrap();
    let file = scene.project().join("kernel-config/upstream/talos-1.10.3.config");
    let ours = fs::read_to_string(&file).unwrap();
    let original = ours.replace("CONFIG_KSM=y\n", "# CONFIG_KSM is not set\n");
    let digest = Sha256::of(&original).to_string();
    fs::create_dir(scene.path("mirror")).unwrap();
    fs::write(scene.path("mirror").join(&digest), original).unwrap();
    let pinned = "0ef58b454751dd29e37c19ce4e5d8773f571ad46ba6281f4ad25a7b403c6f540";
    scene.edit("kernel-config/pin.toml", pinned, &digest);

    let ran = scene.run(&["kernel", "check", "--profile", "metal", "--mirror", "mirror"]);
    let words = [
        "an upstream configuration does not expand to its original",
        "file: kernel-config/upstream/talos-1.10.3.config",
        "why: CONFIG_KSM: n -> y",
        "hint: `solana-talos kernel minimize talos-1.10.3`",
    ];
    ran.failed(VERIFICATION, &words);
    scene.run(&["kernel", "minimize", "talos-1.10.3"]).succeeded();
    assert_eq!(fs::read_to_string(&file).unwrap(), ours.replace("CONFIG_KSM=y\n", ""));
}

/// Serves one response on a local port: `Content-Length: promised`, and `body`.
fn serve(promised: usize, body: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            request.take_while(|line| !line.is_empty()).for_each(drop);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {promised}\r\nConnection: close\r\n\r\n");
            // The client may have closed the connection.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    port
}

#[test]
fn an_altered_or_truncated_download_is_rejected() {
    let Some(toolchain) = toolchain_stage() else { return };
    for (promised, code, what) in [
        (8, VERIFICATION, "digest mismatch for a downloaded pinned file"),
        (9000, INFRASTRUCTURE, "cannot download a pinned file"),
    ] {
        let Some(scene) = scene(&toolchain, &[]) else { return };
        let address = format!("http://127.0.0.1:{}/linux-6.12", serve(promised, b"too few!"));
        scene.edit("kernel-config/pin.toml", "https://cdn.kernel.org/pub/linux/kernel/v6.x/linux-6.12", &address);
        let digest = Sha256::of("the kernel").to_string();
        let ran = scene.run(&["build", "--source", "upstream", "--kernel-sha256", &digest]);
        ran.failed(code, &[what, &digest, &address, "hint: without network: "]);
        assert!(support::files(&scene.cache().join("store")).is_empty() && own_stages(&scene).is_empty());
    }
}
