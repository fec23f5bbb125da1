//! `solana-talos.toml` and `build --plan`, on the files in `examples/`.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::fs;
use std::path::Path;

use common::Sha256;
use serde_json::Value;
use support::{Ran, Scene, files};

const BAD_INPUT: i32 = 2;
const MISSING_TOOL: i32 = 3;

/// What `examples/*-metal` start from.
const BASE: [&str; 2] = ["ghcr.io/siderolabs/imager:v1.10.3", "ghcr.io/siderolabs/installer-base:v1.10.3"];

const TEST: &str = "profile = \"vm\"\npreset = \"spec\"\nbase = \"talos\"\nkeys = \"development\"\n";

fn example(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    fs::read_to_string(root.join("examples").join(name).join("solana-talos.toml")).unwrap()
}

/// A scene with this text in a file.
fn scene(file: &str, text: &str) -> Scene {
    let scene = Scene::new();
    let path = scene.path(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    scene
}

/// Locks the images of [`BASE`].
fn lock_base(scene: &Scene) {
    let mut lock = lock::read(&scene.project()).unwrap();
    let image = |reference: &&str| {
        let blob = vec![lock::Blob { sha256: Sha256::of(format!("layer of {reference}")), size: 1 }];
        lock::BaseImage { reference: (*reference).to_owned(), sha256: Sha256::of(*reference), size: 1, blob }
    };
    lock.base = BASE.iter().map(image).collect();
    lock::write(&scene.project(), &lock).unwrap();
}

/// Runs it with a place for the default key set.
fn run(scene: &Scene, arguments: &[&str]) -> Ran {
    Ran::of(scene.command(arguments).env("SOLANA_TALOS_KEYS", scene.path("keys")))
}

/// The result of `build --plan`, which must write nothing.
fn plan(scene: &Scene, arguments: &[&str]) -> Value {
    let ran = run(scene, &[&["build", "--plan", "--format", "json"], arguments].concat());
    ran.succeeded();
    assert!(!scene.cache().exists() && !scene.project().join("_out").exists(), "{:?}", files(&scene.cache()));
    serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap()
}

fn stage<'a>(plan: &'a Value, name: &str) -> &'a Value {
    plan["stages"].as_array().unwrap().iter().find(|stage| stage["stage"] == name).unwrap()
}

#[test]
fn the_examples_resolve_to_what_they_say() {
    let test = plan(&scene("solana-talos.toml", &example("test")), &[]);
    assert_eq!((&test["profile"], &test["preset"]), (&"vm".into(), &"spec".into()));
    assert_eq!((&test["base"]["name"], &test["keys"]["development"]), (&"talos".into(), &true.into()));
    for (name, preset, tag, pages) in [
        ("agave-metal", "agave", "v1.10.3-agave.1", " hugepagesz=2M hugepages=512 "),
        (
            "firedancer-metal",
            "firedancer",
            "v1.10.3-firedancer.1",
            " hugepagesz=2M hugepages=128 hugepagesz=1G hugepages=192",
        ),
    ] {
        let scene = scene("solana-talos.toml", &example(name));
        run(&scene, &["build", "--plan"])
            .failed(BAD_INPUT, &["is not locked", "hint: run `solana-talos update --base"]);
        lock_base(&scene);
        run(&scene, &["build", "--plan"])
            .failed(BAD_INPUT, &["not a key set", "hint: create one with `solana-talos keys init"]);
        run(&scene, &["keys", "init"]).succeeded();
        let plan = plan(&scene, &[]);
        assert_eq!((&plan["config"], &plan["profile"]), (&"solana-talos.toml".into(), &"metal".into()));
        assert_eq!((&plan["preset"], &plan["tag"]), (&preset.into(), &tag.into()));
        assert_eq!((&plan["keys"]["origin"], &plan["keys"]["development"]), (&"default".into(), &false.into()));
        assert_eq!(plan["base"]["images"][0]["name"], BASE[0]);
        assert_eq!(plan["base"]["images"][0]["digest"], Sha256::of(BASE[0]).oci());
        assert_eq!(stage(&plan, "base-layout")["fetch"], 4);
        let line = format!("{} ", plan["command_line"].as_str().unwrap());
        assert!(
            line.contains(pages) && line.matches("hugepages=").count() == pages.matches("hugepages=").count(),
            "{line}"
        );
        assert!(plan["images"].as_array().unwrap().contains(&format!("ghcr.io/acme/installer:{tag}").into()), "{plan}");
    }
}

#[test]
fn options_go_over_the_file() {
    let scene =
        scene("acme/solana-talos.toml", &format!("{TEST}registry = \"ghcr.io/acme\"\nextra-kernel-args = [\"a=1\"]\n"));
    let file = ["--config", "acme/solana-talos.toml"];
    let plan = |more: &[&str]| plan(&scene, &[&file, more].concat());
    let said = plan(&[]);
    assert_eq!((&said["config"], &said["registry"]), (&file[1].into(), &"ghcr.io/acme".into()));
    let options =
        ["--profile", "metal", "--preset", "agave", "--base", "testbed", "--registry", "example.org/b", "--tag", "t"];
    let over = plan(&[&options[..], &["--extra-kernel-arg", "b=2"]].concat());
    assert_eq!((&over["profile"], &over["preset"]), (&"metal".into(), &"agave".into()));
    assert_eq!(
        (&over["registry"], &over["tag"], &over["base"]["testbed"]),
        (&"example.org/b".into(), &"t".into(), &true.into())
    );
    assert!(over["command_line"].as_str().unwrap().ends_with(" a=1 b=2"), "{over}");
}

#[test]
fn the_keys_of_the_file_are_relative_to_it_and_have_no_substitute() {
    let scene = scene("acme/solana-talos.toml", &TEST.replace("\"development\"", "\"set\""));
    let build = ["build", "--plan", "--config", "acme/solana-talos.toml"];
    run(&scene, &build).failed(BAD_INPUT, &["not a key set", "file: acme/set"]);
    run(&scene, &["keys", "init", "--dir", "acme/set"]).succeeded();
    let plan = |more: &[&str]| plan(&scene, &[&build[2..], more].concat());
    let keys = plan(&[])["keys"].take();
    assert_eq!((&keys["directory"], &keys["origin"]), (&"acme/set".into(), &"file".into()));
    assert_eq!(plan(&["--development-keys"])["keys"]["origin"], "development");
    // A build says it too.
    let said = ["the build file is acme/solana-talos.toml", "signing with the key set acme/set (solana-talos.toml)"];
    run(&scene, &[&["build"], &build[2..]].concat()).failed(MISSING_TOOL, &said);
}

#[test]
fn a_file_that_leaves_out_what_tells_a_test_build_is_refused() {
    let scene = scene("solana-talos.toml", &TEST.replace("keys = \"development\"\n", ""));
    for verb in [&["build"][..], &["build", "--plan"], &["build", "--development-keys"]] {
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

#[test]
fn a_plan_says_what_would_run_and_what_is_not_known() {
    let scene = Scene::new();
    let plan = plan(&scene, &["--base", "testbed"]);
    assert_eq!((&plan["config"], &plan["profile"]), (&Value::Null, &"vm".into()));
    let packages = lock::read(&scene.project()).unwrap().package.len();
    assert_eq!(
        *stage(&plan, "toolchain"),
        serde_json::json!({"stage": "toolchain", "state": "run", "fetch": packages, "last": null, "expected": 200})
    );
    let source = stage(&plan, "kernel-source");
    assert_eq!((&source["state"], &source["after"]), (&"unknown".into(), &serde_json::json!(["toolchain"])));
    assert!(plan["fetch"].as_u64().unwrap() > packages as u64, "{plan}");
    assert!(plan["seconds"].as_u64().unwrap() > 1000, "{plan}");

    fs::create_dir_all(scene.cache().join("progress")).unwrap();
    fs::write(scene.cache().join("progress/kernel-vm"), "100 3600\n").unwrap();
    let ran = run(&scene, &["build", "--plan", "--base", "testbed"]);
    ran.succeeded();
    for line in [
        "build file   none",
        "base         testbed (a test userland, not Talos)",
        "toolchain            no record; usual 3 min     fetches ",
        "kernel               60 min                     known after kernel-config",
        "about 63 min, without ",
    ] {
        assert!(ran.stdout.contains(line), "no {line:?} in {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("cached"), "{}", ran.stdout);
}

/// Pending signing requests are those of a build.
#[test]
fn a_plan_leaves_signing_requests_alone() {
    let scene = scene("later/requests.json", "{\"requests\": []}");
    run(&scene, &["keys", "init", "--dir", "set"]).succeeded();
    for role in ["module", "image"] {
        fs::remove_file(scene.path("set").join(format!("{role}.key.pem"))).unwrap();
    }
    let keys = ["--keys", "set", "--sign-later", "later"];
    assert_eq!(plan(&scene, &keys)["keys"]["origin"], "option");
    assert!(scene.path("later/requests.json").exists());
    run(&scene, &[&["build"], &keys[..]].concat()).failed(MISSING_TOOL, &["bwrap"]);
    assert!(!scene.path("later/requests.json").exists());
}
