//! One rule for every verb: a path that does not exist, or an empty directory, is bad input, and the error names it with a hint.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use support::{Ran, Scene};

const BAD_INPUT: i32 = 2;

/// Each argument with a path that is read, and a command in which `P` is that path.
const READ: [(&str, &str); 39] = [
    ("--mirror", "build --mirror P"),
    ("--project", "build --project P"),
    ("attach <dir>", "attach P"),
    ("base build --keys", "base build --keys P"),
    ("build --base", "build --base P"),
    ("build --ca-file", "build --ca-file P"),
    ("build --config", "build --config P"),
    ("build --keys", "build --keys P"),
    ("bundle load <path>", "bundle load P"),
    ("fetch --ca-file", "fetch --ca-file P"),
    ("inspect --ca-file", "inspect a.oci --ca-file P"),
    ("inspect --diff", "inspect a.oci --diff P"),
    ("inspect --diff", "inspect a.oci --diff P --bytes"),
    ("inspect --key", "inspect a.oci --key P"),
    ("inspect <image>", "inspect P"),
    ("kernel --keys", "kernel --keys P build"),
    ("kernel minimize <original>", "kernel minimize talos-1.10.3 P"),
    ("keys --dir", "keys show --dir P"),
    ("keys certify --public-key", "keys certify db --dir keys --public-key P"),
    ("module --keys", "module --keys P"),
    ("module build --ca-file", "module build m --ca-file P"),
    ("module build --extension", "module build m --extension P"),
    ("module build --kernel-devel", "module build m --kernel-devel P"),
    ("module build --kernel-devel-key", "module build m --kernel-devel a.oci --kernel-devel-key P"),
    ("module build --keys", "module build m --kernel-devel a.oci --keys P"),
    ("module build <path>", "module build P"),
    ("pull --ca-file", "pull 127.0.0.1:1/a/b:c --out b.oci --ca-file P"),
    ("push --ca-file", "push a.oci --ca-file P"),
    ("push --key", "push ./a.oci --key P"),
    ("push --out", "push --out P"),
    ("push <images>", "push P"),
    ("run --out", "run --out P"),
    ("sign --keys", "sign a.oci --keys P"),
    ("sign --old-key", "sign a.oci --keys keys --old-key P"),
    ("sign <path>", "sign P --keys keys"),
    ("update --ca-file", "update --ca-file P"),
    ("validate <path>", "validate P"),
    ("verify --key", "verify a.oci --key P"),
    ("verify <path>", "verify P --key keys/image.pub.pem"),
];

/// Arguments with a path that is written, or with something else that is no path of this machine.
const WRITTEN: [&str; 15] = [
    "--cache",
    "base build --out",
    "base build --sign-later",
    "build --out",
    "build --sign-later",
    "bundle create <path>",
    "kernel --sign-later",
    "kernel harden --report",
    "module --sign-later",
    "module build --out",
    "module build --sign-later",
    "pull --out",
    "sign --sign-later",
    "update --base",
    "verify --talos-config",
];

/// A scene with a key set, an image, a module and an empty directory.
fn scene() -> Scene {
    let scene = Scene::new();
    scene.run(&["keys", "init", "--dir", "keys"]).succeeded();
    support::motd(&scene.path("a.oci"), "ghcr.io/our-org/a:v1", "x");
    fs::create_dir(scene.path("empty")).unwrap();
    fs::create_dir(scene.path("m")).unwrap();
    fs::write(scene.path("m/Kbuild"), "obj-m := m.o\n").unwrap();
    scene
}

/// Runs `line` with `path` for `P`, without any program of the host.
fn run(scene: &Scene, line: &str, path: &str) -> Ran {
    let words: Vec<&str> = line.split(' ').map(|word| if word == "P" { path } else { word }).collect();
    if !words.contains(&"--project") {
        return scene.run(&words);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_solana-talos"));
    Ran::of(command.args(words).arg("--cache").arg(scene.cache()).env_clear().current_dir(scene.path("")))
}

#[test]
fn a_missing_path_is_bad_input_for_every_verb() {
    let scene = scene();
    for (_, line) in READ {
        let ran = run(&scene, line, "nowhere");
        ran.failed(BAD_INPUT, &["nowhere", "why: ", "hint: "]);
    }
}

#[test]
fn an_empty_directory_is_bad_input_for_every_verb() {
    let scene = scene();
    // A mirror may be empty.
    for (_, line) in READ.iter().filter(|(name, _)| *name != "--mirror") {
        let ran = run(&scene, line, "empty");
        ran.failed(BAD_INPUT, &["empty", "hint: "]);
    }
}

#[test]
fn a_layout_without_an_index_is_bad_input() {
    let scene = scene();
    fs::remove_file(scene.path("a.oci/index.json")).unwrap();
    for line in ["inspect P", "sign P --keys keys", "validate P", "verify P --key keys/image.pub.pem", "push P"] {
        let ran = run(&scene, line, "./a.oci");
        ran.failed(BAD_INPUT, &["a.oci", "why: the file index.json is missing", "hint: "]);
    }
}

/// Returns the arguments of `command` and its subcommands that have a path, each after the words of its command.
fn arguments(command: &clap::Command, words: &str) -> BTreeSet<String> {
    const PATHS: [&str; 8] = ["BASE", "DIR", "FILE", "IMAGE", "LAYOUT|DIR", "MANIFEST", "ORIGINAL", "PATH"];
    let path = |argument: &&clap::Arg| {
        let names = argument.get_value_names().unwrap_or_default();
        argument.get_action().takes_values() && names.iter().any(|name| PATHS.contains(&name.as_str()))
    };
    let name = |argument: &clap::Arg| match argument.get_long() {
        Some(long) => format!("{words}--{long}"),
        None => format!("{words}<{}>", argument.get_id()),
    };
    let own = command.get_arguments().filter(|argument| !argument.is_hide_set()).filter(path).map(name);
    let inner = command.get_subcommands().flat_map(|inner| arguments(inner, &format!("{words}{} ", inner.get_name())));
    own.chain(inner).collect()
}

#[test]
fn no_argument_is_left_out() {
    let here = READ.iter().map(|(name, _)| *name).chain(WRITTEN).map(str::to_owned).collect();
    let there = arguments(&cli::command(), "");
    assert_eq!(there, here);
}
