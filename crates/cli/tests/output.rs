//! Standard output that nobody reads, or that is full.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use support::{Ran, Scene};

/// Verbs that print, and need no toolchain.
const PRINTING: [&[&str]; 6] = [
    &["fetch", "--list"],
    &["fetch", "--list", "--format", "json"],
    &["inspect", "a.oci"],
    &["inspect", "a.oci", "--format", "json"],
    &["keys", "show", "--dir", "keys"],
    &["build", "--help"],
];

fn scene() -> Scene {
    let scene = Scene::new();
    support::motd(&scene.path("a.oci"), "example.org/a:v1", "x");
    scene.run(&["keys", "init", "--dir", "keys"]).succeeded();
    scene
}

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// Runs `command` with a standard output whose reader has gone.
fn closed(command: &mut Command) -> Ran {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(writer).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    Ran::from(child.wait_with_output().unwrap())
}

#[test]
fn a_closed_pipe_ends_the_command_quietly() {
    let scene = scene();
    for words in PRINTING {
        scene.run(words).succeeded();
        let ran = closed(&mut scene.command(words));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(141), ""), "{words:?}");
    }
}

#[test]
fn full_standard_output_is_an_error() {
    let scene = scene();
    for words in PRINTING {
        let child = scene.command(words).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
        let ran = Ran::from(child.wait_with_output().unwrap());
        ran.failed(6, &["error: cannot write to standard output", "No space left on device", "hint: "]);
    }
}

/// Events cannot stop a command, which may be a build of an hour.
#[test]
fn lost_events_are_reported_at_the_end() {
    let scene = Scene::new();
    let update = || scene.command(&["update", "--offline", "--format", "json"]);
    let full = update().stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
    Ran::from(full.wait_with_output().unwrap()).failed(6, &["cannot write to standard output"]);
    let ran = closed(&mut update());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn full_standard_error_changes_nothing() {
    let scene = scene();
    let code = |words: &[&str]| scene.command(words).stdout(Stdio::null()).stderr(full()).status().unwrap().code();
    assert_eq!(code(&["keys", "show", "--dir", "keys"]), Some(0));
    assert_eq!(code(&["update", "--offline"]), Some(0));
    assert_eq!(code(&["verify", "a.oci", "--key", "keys/image.pub.pem"]), Some(5));
    assert_eq!(code(&["build", "--no-such-option"]), Some(2));
}
