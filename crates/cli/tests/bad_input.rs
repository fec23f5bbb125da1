//! Invalid user input: each ends with one error that says what failed, on which file, why and what to do, before any stage runs.
//!
//! `PATH` is empty here, so a run that gets as far as creating the toolchain ends with exit code 3, missing tool.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::fs;
use std::path::Path;

use oci::types::RunConfig;
use oci::{FileMap, NewImage, Writer};
use support::{Ran, Scene};

const BAD_INPUT: i32 = 2;
const VERIFICATION: i32 = 5;
const MISSING_TOOL: i32 = 3;

#[test]
fn an_unknown_name_is_reported_with_the_known_ones() {
    let scene = Scene::new();
    let profile = ["unknown kernel profile `nope`", "hint: use one of: debug, metal, stock, vm"];
    scene.fails(BAD_INPUT, &["build", "--profile", "nope"], &profile);
    scene.fails(BAD_INPUT, &["kernel", "build", "--profile", "nope"], &profile);
    scene.fails(
        BAD_INPUT,
        &["build", "--preset", "nope"],
        &["unknown preset \"nope\"", "spec, agave, frankendancer, firedancer"],
    );
    scene.fails(BAD_INPUT, &["build", "--base", "nope"], &["unknown base \"nope\"", "hint: give --base talos"]);
}

#[test]
fn a_failure_is_reported_as_json_too() {
    let scene = Scene::new();
    let ran =
        scene.fails(BAD_INPUT, &["build", "--format", "json", "--profile", "nope"], &["unknown kernel profile `nope`"]);
    let event: serde_json::Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&event["event"], &event["exit_code"]), (&"failed".into(), &BAD_INPUT.into()));
    assert!(event["message"].as_str().unwrap().contains("hint: use one of"), "{event}");
}

#[test]
fn an_unknown_option_or_verb_is_reported() {
    let scene = Scene::new();
    scene.fails(BAD_INPUT, &["build", "--nope"], &["unexpected argument '--nope'", "--help"]);
    scene.fails(BAD_INPUT, &["nope"], &["unrecognized subcommand 'nope'"]);
    scene.fails(BAD_INPUT, &["build", "--kernel-sha256", "12"], &["--kernel-sha256"]);
    scene.fails(BAD_INPUT, &["build", "--jobs", "0"], &["--jobs"]);
}

#[test]
fn a_malformed_value_is_reported() {
    let scene = Scene::new();
    let upstream = ["has no pinned digest", "file: pin.toml", "hint: give `--kernel-sha256"];
    scene.fails(BAD_INPUT, &["build", "--source", "upstream"], &upstream);
    scene.fails(BAD_INPUT, &["build", "--registry", "No Registry"], &["No Registry"]);
    for tag in ["a:b", "", "-x", "sha256-1.sig"] {
        let tag = format!("--tag={tag}");
        for verb in ["build", "module"] {
            scene.fails(BAD_INPUT, &[verb, &tag], &["invalid tag"]);
        }
    }
    scene.fails(BAD_INPUT, &["build", "--extra-kernel-arg", "a\nb"], &["kernel argument"]);
    scene.fails(BAD_INPUT, &["build", "--extra-kernel-arg=-no_such_argument"], &["no_such_argument"]);
}

#[test]
fn an_unknown_key_in_a_data_file_is_reported() {
    for (file, from, to, words) in [
        (
            "kernel-config/pin.toml",
            "epoch =",
            "epok = 1\nepoch =",
            ["file: kernel-config/pin.toml", "unknown field `epok`"],
        ),
        (
            "kernel-config/profiles/vm.toml",
            "base =",
            "bass = 1\nbase =",
            ["file: profiles/vm.toml", "unknown field `bass`"],
        ),
        (
            "kernel-config/profiles/vm.toml",
            "\"solana\"",
            "\"solano\"",
            ["unknown config fragment `solano`", "hint: use one of:"],
        ),
        ("kernel-config/fragments/solana.config", "CONFIG_", "KONFIG_", ["file: fragments/solana.config", "KONFIG_"]),
        ("kernel-config/fragments/solana.config", "# Why:", "# Way:", ["file: fragments/solana.config", "hint: "]),
        ("extension/solana-optimizer.yaml", "  author:", "  autor: x\n  author:", ["solana-optimizer.yaml", "autor"]),
    ] {
        let scene = Scene::new();
        scene.edit(file, from, to);
        scene.fails(BAD_INPUT, &["build"], &words);
    }
}

#[test]
fn a_profile_with_an_unknown_upstream_configuration_is_reported() {
    let scene = Scene::new();
    scene.edit("kernel-config/profiles/metal.toml", "talos-1.10.3", "talos-9");
    let words = ["unknown upstream configuration `talos-9`", "hint: use one of: talos-1.10.3"];
    scene.fails(BAD_INPUT, &["build", "--profile", "metal"], &words);
}

#[test]
fn minimizing_needs_the_pinned_original() {
    let scene = Scene::new();
    let known = ["upstream configuration `talos-9` is not pinned", "file: pin.toml", "hint: use one of: talos-1.10.3"];
    scene.fails(BAD_INPUT, &["kernel", "minimize", "talos-9"], &known);
    let missing = ["original of the configuration is neither in the store", "hint: download https://"];
    scene.fails(BAD_INPUT, &["kernel", "minimize", "talos-1.10.3"], &missing);
    fs::write(scene.path("other"), "CONFIG_A=y\n").unwrap();
    let other = ["digest mismatch", "expected sha256:0ef58b454751dd29"];
    scene.fails(VERIFICATION, &["kernel", "minimize", "talos-1.10.3", "other"], &other);
}

#[test]
fn a_malformed_package_list_is_reported() {
    let scene = Scene::new();
    scene.edit("crates/toolchain/packages.list", "\nclang\n", "\nClang!\n");
    scene.fails(BAD_INPUT, &["toolchain", "path"], &["crates/toolchain/packages.list", "why: line "]);
}

#[test]
fn a_malformed_or_outdated_lock_is_reported() {
    let (lock, update) = ("solana-talos.lock", "hint: run `solana-talos update");
    for (file, from, to, class, words) in [
        (lock, "name = \"clang\"", "name = \"zz\"", BAD_INPUT, ["the lock is malformed", "is not sorted", "hint: "]),
        (
            "crates/toolchain/packages.list",
            "\nclang\n",
            "\nclang\nmold\n",
            VERIFICATION,
            ["does not contain mold", lock, update],
        ),
        (
            "Cargo.lock",
            "version = 4",
            "version = 4 ",
            VERIFICATION,
            ["digest mismatch for Cargo.lock", "expected", update],
        ),
        (
            "kernel-config/pin.toml",
            "sha256 = \"9141",
            "sha256 = \"8141",
            VERIFICATION,
            ["does not match the kernel pin", lock, "hint: `solana-talos update"],
        ),
    ] {
        let scene = Scene::new();
        scene.edit(file, from, to);
        scene.fails(class, &["toolchain", "path"], &words);
    }
}

#[test]
fn a_directory_that_is_not_a_project_is_reported() {
    let scene = Scene::new();
    fs::remove_file(scene.project().join("kernel-config/pin.toml")).unwrap();
    let words = ["not a solana-talos project", "file: ", "kernel-config/pin.toml is missing", "hint: "];
    scene.fails(BAD_INPUT, &["toolchain", "path"], &words);
}

fn layout(dest: &Path, files: &FileMap) {
    support::layout(dest, "example.org/some/image:1", files);
}

#[test]
fn a_base_that_is_not_talos_is_reported() {
    let scene = Scene::new();
    let mut files = FileMap::new();
    files.bytes("bin/hello", b"hello".to_vec(), 0o755).unwrap();
    layout(&scene.path("other.oci"), &files);
    fs::create_dir(scene.path("plain")).unwrap();
    fs::write(scene.path("text"), "some text").unwrap();
    fs::write(scene.path("empty"), "").unwrap();
    for (name, why) in [
        ("other.oci", "images for linux/amd64: example.org/some/image:1"),
        ("plain", "the file oci-layout is missing"),
        ("text", "why: "),
        ("empty", "why: "),
    ] {
        let words = [
            &format!("{name} does not contain Talos's imager and installer-base images"),
            why,
            "hint: give an OCI layout",
        ];
        scene.fails(BAD_INPUT, &["build", "--base", name], &words);
    }
}

/// The build says so before it gets to the toolchain.
#[test]
fn offline_without_the_modules_of_talos_the_base_is_the_testbed() {
    let scene = Scene::new();
    let said = "the base is `testbed`, not Talos: offline, and ";
    scene.fails(MISSING_TOOL, &["build", "--offline"], &[said, "cel.dev/expr"]);
    let ran = scene.fails(MISSING_TOOL, &["build", "--offline", "--base", "talos"], &["bwrap"]);
    assert!(!ran.stderr.contains(said), "{}", ran.stderr);
}

#[test]
fn a_base_of_another_release_is_reported() {
    let scene = Scene::new();
    let line = contract::Line::default_release().unwrap();
    let (mut imager, mut installer) = (FileMap::new(), FileMap::new());
    for path in [&line.imager.stub, &line.imager.boot_loader, &line.imager.initramfs] {
        imager.bytes(path, "x", 0o644).unwrap();
    }
    installer.bytes("bin/installer", "x", 0o755).unwrap();
    let mut writer = Writer::create(&scene.path("base.oci")).unwrap();
    for (name, files, entrypoint) in
        [("imager", imager, None), ("installer", installer, Some(vec!["/bin/installer".to_owned()]))]
    {
        let labels = [(line.installer.version_label.clone(), "v1.11.6".to_owned())];
        let config = RunConfig { entrypoint, labels: Some(labels.into()), ..RunConfig::default() };
        let names = [format!("localhost/{name}:1")];
        writer.image_of(&files, NewImage { names: &names, config, ..NewImage::default() }).unwrap();
    }
    writer.finish().unwrap();
    let words = ["the base is Talos v1.11.6, not v1.10.3", "alpha.talos.dev/version=v1.11.6", "hint: give the images"];
    scene.fails(BAD_INPUT, &["build", "--base", "base.oci"], &words);
}

#[test]
fn a_base_with_a_flipped_byte_is_reported() {
    let scene = Scene::new();
    layout(&scene.path("base.oci"), &FileMap::new());
    let blobs = support::files(&scene.path("base.oci/blobs"));
    let config = blobs.iter().find(|path| fs::read(path).unwrap().starts_with(b"{\"architecture\"")).unwrap();
    let text = fs::read_to_string(config).unwrap().replace("linux", "linus");
    fs::write(config, text).unwrap();
    let name = config.file_name().unwrap().to_str().unwrap();
    scene.fails(5, &["build", "--base", "base.oci"], &[name]);
}

const MANIFEST: &str = "version: v1alpha1
metadata:
  name: sample
  version: 1.0.0
  author: nobody
  description: a sample
  compatibility:
    talos:
      version: \">= v1.10.0\"
";

/// An extension with one file at `path`, below `rootfs`.
fn extension(root: &Path, path: &str) {
    let file = root.join("rootfs").join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, "x").unwrap();
    fs::write(root.join("manifest.yaml"), MANIFEST).unwrap();
}

#[test]
fn an_extension_with_a_forbidden_path_is_reported() {
    let scene = Scene::new();
    extension(&scene.path("bad"), "etc/passwd");
    let mut files = FileMap::new();
    files.tree("", &scene.path("bad")).unwrap();
    layout(&scene.path("bad.oci"), &files);
    let rule = "rootfs/etc/passwd: Talos does not allow files here; move it below one of";
    for (name, image) in [("bad", "bad: "), ("bad.oci", "example.org/some/image:1: ")] {
        scene.fails(BAD_INPUT, &["validate", name], &[image, "the extension breaks 1 rule", rule]);
    }
    scene.fails(BAD_INPUT, &["validate", "nothing"], &["cannot find the extension", "file: nothing", "hint: "]);
}

#[test]
fn a_valid_extension_is_accepted() {
    let scene = Scene::new();
    extension(&scene.path("good"), "usr/local/share/sample");
    let ran = scene.run(&["validate", "good"]);
    ran.succeeded();
    assert!(ran.stderr.contains("good: valid: sample 1.0.0"), "{}", ran.stderr);
    let words = ["requires Talos >= v1.10.0, the target is 1.9.0"];
    scene.fails(BAD_INPUT, &["validate", "good", "--talos", "v1.9.0"], &words);
}

/// A registry host or a CI runner has the program alone.
#[test]
fn validate_and_push_need_no_project() {
    let scene = Scene::new();
    let alone = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_solana-talos"));
        command.args(arguments).env_clear().current_dir(scene.path(""));
        Ran::of(&mut command)
    };
    let manifest = "version: v1alpha1\nmetadata: {name: a, version: b, author: c, description: d, compatibility: {talos: {version: \"\"}}}\n";
    fs::create_dir_all(scene.path("e/rootfs")).unwrap();
    fs::write(scene.path("e/manifest.yaml"), manifest).unwrap();
    let e = scene.path("e").display().to_string();
    alone(&["validate", "--kernel", "6.12.117-talos", &e]).succeeded();
    alone(&["validate", &e]).failed(BAD_INPUT, &["hint: run it in the project, or give --kernel RELEASE"]);
    alone(&["validate", "--kernel", "6.12.117-talos", "--talos", "v1.7.0", &e])
        .failed(BAD_INPUT, &["rules of Talos v1.7.0", "known lines: v1.8"]);
    support::motd(&scene.path("a.oci"), "127.0.0.1:1/our-org/a:v1", "x");
    let layout = scene.path("a.oci").display().to_string();
    alone(&["push", &layout, "--offline"]).failed(6, &["cannot access a registry with --offline"]);
    alone(&["push", "kernel"]).failed(BAD_INPUT, &["project"]);
}

/// Errors of clap show the options that were given as required; a variable is no option.
#[test]
fn a_usage_line_shows_no_cache() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_solana-talos"));
    let ran = support::Ran::of(command.arg("validate").env("SOLANA_TALOS_CACHE", "/somewhere"));
    ran.failed(BAD_INPUT, &["Usage: solana-talos validate <DIR>"]);
}
