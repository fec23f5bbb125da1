//! `solana-talos.toml`.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::fs;

use support::Scene;

const BAD_INPUT: i32 = 2;
const MISSING_TOOL: i32 = 3;

const TEST: &str = "profile = \"vm\"\npreset = \"spec\"\nbase = \"talos\"\nkeys = \"development\"\n";

/// A scene with this text in a file.
fn scene(file: &str, text: &str) -> Scene {
    let scene = Scene::new();
    let path = scene.path(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    scene
}

#[test]
fn a_build_says_which_file_and_which_keys_it_uses() {
    let scene = scene("acme/solana-talos.toml", &TEST.replace("\"development\"", "\"set\""));
    let build = ["build", "--config", "acme/solana-talos.toml"];
    scene.fails(BAD_INPUT, &build, &["not a key set", "file: acme/set"]);
    scene.run(&["keys", "init", "--dir", "acme/set"]).succeeded();
    let said = ["the build file is acme/solana-talos.toml", "signing with the key set acme/set (solana-talos.toml)"];
    scene.fails(MISSING_TOOL, &build, &said);
}

#[test]
fn a_file_that_leaves_out_what_tells_a_test_build_is_refused() {
    let scene = scene("solana-talos.toml", &TEST.replace("keys = \"development\"\n", ""));
    for verb in [&["build"][..], &["build", "--development-keys"]] {
        scene.fails(
            BAD_INPUT,
            verb,
            &["the build file is malformed", "file: solana-talos.toml", "it has no `keys`", "hint: add"],
        );
    }
    fs::write(scene.path("solana-talos.toml"), format!("{TEST}presets = \"agave\"\n")).unwrap();
    scene.fails(BAD_INPUT, &["build"], &["line 5, column 1: unknown key `presets`", "hint: did you mean `preset`?"]);
    fs::write(scene.path("solana-talos.toml"), TEST.replace("vm", "nope")).unwrap();
    scene.fails(BAD_INPUT, &["build"], &["unknown kernel profile `nope`"]);
    scene.fails(
        BAD_INPUT,
        &["build", "--config", "nowhere.toml"],
        &["cannot read the build file", "file: nowhere.toml"],
    );
    // Only builds read it.
    fs::write(scene.path("solana-talos.toml"), "[").unwrap();
    scene.fails(BAD_INPUT, &["build"], &["the build file is malformed", "line 1"]);
    scene.run(&["keys", "init", "--dir", "other"]).succeeded();
}
