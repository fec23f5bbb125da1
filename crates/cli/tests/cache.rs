//! `solana-talos cache`: what it shows, what it removes, and when it refuses to.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use support::{Ran, Scene};

const BAD_INPUT: i32 = 2;
const INFRASTRUCTURE: i32 = 6;

/// A cache with two stages that no lock needs, one of them not used for 50 days, and keys.
fn scene() -> Scene {
    let scene = Scene::new();
    for name in [OLD, NEW, "keys/development"] {
        let file = scene.cache().join(name).join("file");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, vec![1; 3 << 20]).unwrap();
    }
    let old = SystemTime::now() - Duration::from_secs(50 * 86_400);
    File::open(scene.cache().join(OLD)).unwrap().set_modified(old).unwrap();
    scene
}

const OLD: &str = "stages/kernel-00112233445566ff";
const NEW: &str = "stages/kernel-66778899aabbccff";

fn left(scene: &Scene) -> Vec<&'static str> {
    let there = |name: &&str| scene.cache().join(name).exists();
    [OLD, NEW, "keys/development/file"].into_iter().filter(there).collect()
}

/// In an empty directory, which is in no project.
fn outside(scene: &Scene, arguments: &[&str]) -> Ran {
    let empty: PathBuf = scene.path("empty");
    fs::create_dir_all(&empty).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_solana-talos"));
    command.args(arguments).arg("--cache").arg(scene.cache()).env_clear().current_dir(empty);
    Ran::of(&mut command)
}

#[test]
fn show_sums_up_by_kind_and_says_what_the_lock_needs() {
    let scene = scene();
    let shown = scene.run(&["cache", "show"]);
    shown.succeeded();
    let line = |shown: &Ran, kind: &str| {
        let line = shown.stdout.lines().find(|line| line.starts_with(kind)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line(&shown, "stages")[..6], ["stages", "2", "6.0", "MiB", "0.0", "MiB"], "{}", shown.stdout);
    assert_eq!(line(&shown, "keys")[..5], ["keys", "1", "3.0", "MiB", "-"], "{}", shown.stdout);
    let shown = outside(&scene, &["cache", "show"]);
    shown.succeeded();
    assert_eq!(line(&shown, "stages")[..5], ["stages", "2", "6.0", "MiB", "-"], "{}", shown.stdout);
}

#[test]
fn prune_removes_what_the_rules_choose_and_says_what_it_freed() {
    let scene = scene();
    let would = scene.run(&["cache", "prune", "--older-than", "30d", "--dry-run"]);
    would.succeeded();
    assert!(would.stdout.contains(&format!("would remove {OLD}, 3.0 MiB, last used ")), "{}", would.stdout);
    assert_eq!(left(&scene).len(), 3);
    let pruned = outside(&scene, &["cache", "prune", "--older-than", "30d"]);
    pruned.succeeded();
    assert!(
        pruned.stdout.contains(&format!("removed {OLD}")) && pruned.stdout.contains("freed 3.0 MiB in"),
        "{pruned:?}"
    );
    assert_eq!(left(&scene), [NEW, "keys/development/file"]);
    // Keys stay, however small the cache has to be.
    let pruned = scene.run(&["cache", "prune", "--max-size", "1M"]);
    pruned.succeeded();
    assert!(
        pruned.stderr.contains("warning: 3.") && pruned.stderr.contains("nothing else may be removed"),
        "{pruned:?}"
    );
    assert_eq!(left(&scene), ["keys/development/file"]);
}

#[test]
fn prune_needs_a_rule_and_a_project_for_what_is_unneeded() {
    let scene = scene();
    scene.run(&["cache", "prune"]).failed(BAD_INPUT, &["--older-than", "--max-size", "--unneeded"]);
    scene.run(&["cache", "prune", "--older-than", "30"]).failed(BAD_INPUT, &["`30` is not an age such as 30d"]);
    scene.run(&["cache", "prune", "--max-size", "20GB"]).failed(BAD_INPUT, &["is not a size such as"]);
    outside(&scene, &["cache", "prune", "--unneeded"])
        .failed(BAD_INPUT, &["not a solana-talos project", "--project DIR"]);
    assert_eq!(left(&scene).len(), 3);
    let pruned = scene.run(&["cache", "prune", "--unneeded"]);
    pruned.succeeded();
    assert_eq!(left(&scene), ["keys/development/file"]);
}

#[test]
fn prune_removes_nothing_while_the_cache_is_in_use() {
    let scene = scene();
    let held = cache::Hold::shared(&scene.cache(), || ()).unwrap();
    scene.run(&["cache", "prune", "--max-size", "0M"]).failed(INFRASTRUCTURE, &["the cache is in use", "--dry-run"]);
    scene.run(&["cache", "prune", "--max-size", "0M", "--dry-run"]).succeeded();
    scene.run(&["fetch", "--list"]).succeeded();
    assert_eq!(left(&scene).len(), 3);
    drop(held);
    scene.run(&["cache", "prune", "--max-size", "0M"]).succeeded();
    assert_eq!(left(&scene), ["keys/development/file"]);
}

#[test]
fn a_build_holds_the_cache() {
    let scene = scene();
    let exclusive = cache::Hold::exclusive(&scene.cache()).unwrap();
    let mut child = scene.command(&["toolchain", "path"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stderr.as_mut().unwrap()), &mut first).unwrap();
    assert!(first.contains("waiting until `cache prune` has ended"), "{first}");
    assert!(child.try_wait().unwrap().is_none());
    drop(exclusive);
    child.wait().unwrap();
}
