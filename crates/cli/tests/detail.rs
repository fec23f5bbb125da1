//! How much is shown, and in which colours.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use support::{Ran, Scene};

const ESCAPE: char = '\u{1b}';

#[test]
fn quiet_shows_errors_and_the_result() {
    let scene = Scene::new();
    let update = scene.run(&["update", "--offline", "--quiet"]);
    update.succeeded();
    assert_eq!(update.stderr.lines().count(), 1, "{}", update.stderr);
    assert!(update.stderr.contains("solana-talos.lock"), "{}", update.stderr);
    scene.run(&["inspect", "absent.oci", "-q"]).failed(2, &["error: ", "absent.oci"]);
    scene.run(&["build", "--quiet", "--verbose"]).failed(2, &["cannot be used with"]);
}

/// No terminal is there: only what the environment forces.
#[test]
fn colours_follow_the_environment() {
    let scene = Scene::new();
    let failed = |set: &[(&str, &str)]| {
        let mut command = scene.command(&["inspect", "absent.oci"]);
        let ran = Ran::from(command.envs(set.iter().copied()).output().unwrap());
        assert_eq!(ran.code, Some(2));
        ran.stderr
    };
    assert!(!failed(&[]).contains(ESCAPE));
    let forced = failed(&[("CLICOLOR_FORCE", "1")]);
    assert!(forced.starts_with("\u{1b}[1m\u{1b}[31merror:\u{1b}[0m "), "{forced:?}");
    let off = failed(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]);
    assert!(off.starts_with("error: ") && !off.contains(ESCAPE), "{off:?}");
    assert!(failed(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "")]).contains(ESCAPE), "an empty variable is not set");
}
