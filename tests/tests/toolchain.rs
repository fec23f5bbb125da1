//! The toolchain contains the listed packages, and its sandbox is isolated from the host.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use common::event::Silent;
use common::sandbox::{Run, Sandbox};
use common::stage::{Cache, Input, Sources, Stage};
use common::{Class, Sha256};
use harness::modules::project;
use std::collections::BTreeMap;
use std::path::Path;

/// Returns the toolchain of `./x test`; `None` skips the test.
fn toolchain() -> Option<Sandbox> {
    skip::toolchain(&[]).map(Sandbox::new)
}

fn sh(sandbox: &Sandbox, script: &str) -> String {
    String::from_utf8(sandbox.output(&Run::script(script, &[])).unwrap()).unwrap()
}

fn list(name: &str) -> String {
    std::fs::read_to_string(project().join("crates/toolchain").join(name)).unwrap()
}

#[test]
fn installed_packages_match_the_lists_and_the_lock() {
    let Some(sandbox) = toolchain() else { return };
    let installed = sh(&sandbox, "dpkg-query -W -f '${Package} ${Version}\\n' | sort");
    let versions: BTreeMap<_, _> = installed.lines().filter_map(|line| line.split_once(' ')).collect();
    for line in ["packages.list", "base.list", "reference-tools.list"].map(list).join("\n").lines() {
        let name = line.split(['#', '/']).next().unwrap().trim();
        assert!(name.is_empty() || versions.contains_key(name), "{name} is not installed");
    }
    let recorded = std::fs::read_to_string(sandbox.rootfs().join("../versions")).unwrap();
    let recorded: BTreeMap<_, _> = recorded.lines().filter_map(|line| line.split_once(' ')).collect();
    assert_eq!(versions, recorded);
    let lock = lock::read(&project()).unwrap();
    let locked: BTreeMap<_, _> = lock.package.iter().map(|p| (p.name.as_str(), p.version.as_str())).collect();
    assert_eq!(versions, locked);
    for file in &lock.file {
        assert_eq!(Sha256::of_file(&sandbox.rootfs().join(&file.path)).unwrap(), file.sha256, "{}", file.path);
    }
    assert_eq!(sh(&sandbox, "dpkg --audit"), "");
}

#[test]
fn compiler_versions_match_the_kernel() {
    let Some(sandbox) = toolchain() else { return };
    for (command, begin) in [
        ("clang --version", "Debian clang version 19."),
        ("ld.lld --version", "Debian LLD 19."),
        ("rustc --version", "rustc 1.85."),
        ("bindgen --version", "bindgen 0.71."),
        ("pahole --version", "v1."),
    ] {
        let version = sh(&sandbox, command);
        assert!(version.starts_with(begin), "{command}: {version}");
    }
}

#[test]
fn the_sandbox_is_isolated_from_the_host() {
    let Some(sandbox) = toolchain() else { return };
    assert_eq!(
        sh(&sandbox, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"),
        "lo\n",
        "unexpected network interface"
    );
    let environment =
        "HOME=/tmp\nLC_ALL=C\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/build\nTZ=UTC\n";
    assert_eq!(sh(&sandbox, "env | grep -v '^_=' | sort"), environment);
    let init = sh(&sandbox, "tr '\\0' '\\n' < /proc/1/environ | cut -d= -f1");
    assert_eq!(init.trim(), "PATH", "bubblewrap's environment is visible");
    assert_eq!(sh(&sandbox, "ls -A /build /tmp"), "/build:\n\n/tmp:\n");
    assert_eq!(sh(&sandbox, "hostname"), "solana-talos\n");
    for path in ["/usr/bin", "/etc", "/"] {
        let error = sandbox.output(&Run::new(["touch", &format!("{path}/x")])).unwrap_err();
        assert!(error.to_string().contains("Read-only file system"), "{error}");
    }
}

#[test]
fn a_missing_program_is_a_missing_tool() {
    let Some(sandbox) = toolchain() else { return };
    let error = sandbox.output(&Run::new(["no-such-program"])).unwrap_err();
    assert_eq!(error.class(), Class::MissingTool, "{error}");
    let error = sandbox.output(&Run::new(["false"])).unwrap_err();
    assert_eq!(error.class(), Class::BuildFailed, "{error}");
}

/// A doc test of [`Cache::run`] checks that the function of a stage cannot name anything but its inputs.
#[test]
fn programs_of_a_stage_can_read_only_its_inputs() {
    let Some(sandbox) = toolchain() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (keyed, other) = (dir.path().join("keyed"), dir.path().join("other"));
    std::fs::write(&keyed, "keyed").unwrap();
    std::fs::write(&other, "other").unwrap();
    let (root, sources) = (dir.path().join("cache"), Sources::new(""));
    let cache = Cache::new(&root, &Silent, sources);
    let inputs = |path: &Path| {
        let sandbox = Input::known_by([("toolchain", "one")], sandbox.clone());
        (sandbox, Input::file("file", &keyed).unwrap(), Input::text("path", path.display().to_string()))
    };
    let read = |path: &Path| {
        cache.run(Stage::recipe("reads"), inputs(path), |work, (sandbox, file, path)| {
            let run = Run::new(["cp", path.as_str(), "/build/out/read"]);
            work.run(&sandbox, &run.read(&file, "/build/in").write(work.dir(), "/build/out"))
        })
    };
    let finished = read(Path::new("/build/in")).unwrap();
    assert_eq!(std::fs::read_to_string(finished.dir.join("read")).unwrap(), "keyed");
    for outside in [&other, &keyed] {
        let error = read(outside).unwrap_err();
        assert_eq!(error.class(), Class::BuildFailed);
        assert!(error.to_string().contains("No such file"), "{error}");
    }
    assert_eq!(std::fs::read_dir(root.join("stages")).unwrap().count(), 1);
}
