//! `run` says what is wrong before anything is started.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use support::Scene;

const BAD_INPUT: i32 = 2;
const INFRASTRUCTURE: i32 = 6;

/// A scene with an output directory `out` of a build, as far as `run` looks at it first.
fn scene() -> Scene {
    let scene = Scene::new();
    let out = scene.path("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("build.json"), r#"{"preset": "spec", "base": "testbed", "profile": "vm"}"#).unwrap();
    fs::write(out.join("cmdline"), "hugepagesz=2M hugepages=50000\n").unwrap();
    fs::write(out.join("vmlinuz.efi"), "MZ").unwrap();
    scene
}

#[test]
fn a_missing_build_is_reported() {
    let scene = Scene::new();
    let words = ["build output not found", "_out/build.json", "hint: run `./x build` first"];
    scene.fails(BAD_INPUT, &["run"], &words);
}

#[test]
fn memory_below_the_huge_pages_is_reported() {
    let words = ["8192 MiB of memory is not enough", "preset spec reserves 100000 MiB", "hint: give at least 101024M"];
    scene().fails(BAD_INPUT, &["run", "--out", "out", "--memory", "8G"], &words);
}

#[test]
fn malformed_options_are_reported() {
    let scene = scene();
    for (option, value, why) in [
        ("--disk", "8", "is not a size such as 512M, 8G or 1T"),
        ("--memory", "lots", "is not a size"),
        ("--forward", "22", "is not HOST:GUEST"),
        ("--nodes", "9", "9 is not in 1..=8"),
        ("--port", "0", "0 is not in 1..=65520"),
    ] {
        scene.fails(BAD_INPUT, &["run", "--out", "out", option, value], &[why, option]);
    }
}

#[test]
fn a_port_in_use_is_reported() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (taken, ss) = (format!("port {port} is in use"), format!("`ss -ltnp sport = :{port}`"));
    let arguments = ["run", "--out", "out", "--port", &port.to_string()];
    scene().fails(INFRASTRUCTURE, &arguments, &[&taken, &ss, "--port"]);
}
