//! An interrupted or killed build leaves nothing half-written, and the next run continues. Also the events of `--format json`.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Ran, Scene, find};

/// Names of all events, as listed in docs/build.md.
const EVENTS: [&str; 5] = ["stage-started", "output", "stage-finished", "warning", "note"];

/// Writes half of the root filesystem, signals that, and hangs.
const SLOW: &str = "for tar; do :; done\nhead -c 1000 /dev/zero >\"$tar\"\necho $$ >\"$SCENE/half\"\nexec sleep 60";

/// A running `toolchain path`.
struct Running<'a> {
    scene: &'a Scene,
    child: Child,
}

impl<'a> Running<'a> {
    fn start(scene: &'a Scene) -> Self {
        scene.script("mmdebstrap", SLOW);
        let mut command = scene.command(&["toolchain", "path"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !fs::read_to_string(scene.path("half")).is_ok_and(|pid| pid.ends_with('\n')) {
            assert!(Instant::now() < deadline, "mmdebstrap was not started");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { scene, child }
    }

    /// Sends `signal`; returns how the tool ended, with the negative signal number as code if it was killed.
    fn end(self, signal: &str) -> Ran {
        kill(signal, &self.child.id().to_string());
        // Ctrl-C in a terminal also ends the programs that the tool started, just after the tool or before it has reacted.
        kill("-KILL", fs::read_to_string(self.scene.path("half")).unwrap().trim());
        fs::remove_file(self.scene.path("half")).unwrap();
        let output = self.child.wait_with_output().unwrap();
        let died = output.status.signal().map(|signal| -signal);
        let ran = Ran::from(output);
        Ran { code: ran.code.or(died), ..ran }
    }
}

fn kill(signal: &str, pid: &str) {
    assert!(Command::new(find("kill").unwrap()).args([signal, pid]).status().unwrap().success());
}

#[test]
fn an_interrupt_explains_how_to_continue() {
    let scene = Scene::new();
    scene.script("bwrap", "exit 0");
    scene.lock_nothing();
    let ran = Running::start(&scene).end("-INT");
    assert_eq!(ran.code, Some(130), "{ran:#?}");
    assert!(ran.stderr.contains("interrupted; run the same command again"), "{ran:#?}");
    scene.holds_nothing_final();
}

#[test]
fn a_killed_stage_is_done_by_the_next_run() {
    let scene = Scene::new();
    if !scene.host_programs(&["bwrap"]) {
        return;
    }
    scene.lock_nothing();
    for (signal, code) in [("-KILL", -9), ("-INT", 130)] {
        assert_eq!(Running::start(&scene).end(signal).code, Some(code));
        scene.holds_nothing_final();
        assert!(
            !support::files(&scene.cache().join("unfinished")).is_empty(),
            "the incomplete root filesystem is in unfinished"
        );
    }
    fs::remove_file(scene.path("bin/bwrap")).unwrap();
    assert!(scene.fake_toolchain());
    let first = scene.run(&["toolchain", "path"]);
    first.succeeded();
    let rootfs = std::path::PathBuf::from(first.stdout.trim());
    assert!(rootfs.starts_with(scene.cache().join("stages")) && rootfs.join("bin/dpkg-query").exists(), "{first:#?}");
    let left = support::files(&scene.cache().join("unfinished"));
    assert!(left.iter().all(|file| file.extension().is_some_and(|end| end == "lock")), "{left:?}");

    scene.script("mmdebstrap", "echo 'it ran again' >&2; exit 1");
    let again = scene.run(&["toolchain", "path"]);
    again.succeeded();
    assert_eq!(again.stdout, first.stdout);
    assert!(again.stderr.contains("toolchain: unchanged"), "{again:#?}");
}

#[test]
fn json_is_one_object_per_line() {
    let scene = Scene::new();
    if !scene.fake_toolchain() {
        return;
    }
    let ran = scene.run(&["toolchain", "path", "--format", "json"]);
    ran.succeeded();
    assert_eq!(ran.stderr, "");
    let parse = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let events: Vec<_> = ran.stdout.lines().map(parse).collect();
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert!(names.iter().all(|name| EVENTS.contains(name)), "{names:?}");
    assert_eq!(names, ["stage-started", "output", "output", "stage-finished", "note"], "{events:#?}");
    assert_eq!(events[0]["stage"], "toolchain");
    assert_eq!(events[1]["line"], "I: fake");
    assert_eq!(events[2]["line"], "unpacking the root filesystem");
    assert_eq!(events[3]["cached"], false);
    assert!(events[3]["took"].is_f64(), "{events:#?}");
    assert!(events[4]["message"].as_str().unwrap().ends_with("/rootfs"), "{events:#?}");
}
