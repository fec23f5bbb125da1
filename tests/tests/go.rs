//! Go modules are fetched by digest with the toolchain's client, and a program built from them has the same bytes in every directory.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use build::stages::go as stages;
use build::{Context, Project, Settings};
use common::event::Silent;
use common::sandbox::{Run, Sandbox};
use common::{Class, Sha256};
use harness::modules::project;
use harness::settings::TALOS_OUT;
use lock::ModuleFile;
use toolchain::go::User;

/// A context with an empty cache below `dir` that has only the toolchain of `rootfs`, and the store beside that as a mirror.
fn context(dir: &Path, rootfs: &Path, offline: bool, go_user: User) -> Context {
    let (cache, stage) = (dir.join("cache"), rootfs.parent().unwrap());
    std::fs::create_dir_all(cache.join("stages")).unwrap();
    symlink(stage, cache.join("stages").join(stage.file_name().unwrap())).unwrap();
    let mirrors = vec![stage.join("../../store/sha256")];
    let (jobs, cargo_home, sink) = (2, None, Box::new(Silent));
    Context::new(Settings { project: project(), cache, mirrors, offline, jobs, cargo_home, go_user, sink })
}

/// Makes a proxy with the module example.org/y v1.0.0 in `dir`, and returns its files.
fn proxy(dir: &Path, sandbox: &Sandbox) -> Vec<ModuleFile> {
    let script = r#"
        mkdir -p example.org/y/@v && cd example.org/y/@v
        echo '{"Version":"v1.0.0"}' >v1.0.0.info
        echo 'module example.org/y' >v1.0.0.mod
        python3 -c 'import zipfile; zipfile.ZipFile("v1.0.0.zip", "w").writestr("example.org/y@v1.0.0/go.mod", "module example.org/y\n")'"#;
    sandbox.output(&Run::script(script, &[]).write(dir, "/build/out").directory("/build/out")).unwrap();
    let file = |end: &str| {
        let path = format!("example.org/y/@v/v1.0.0.{end}");
        ModuleFile { sha256: Sha256::of_file(&dir.join(&path)).unwrap(), path }
    };
    vec![file("mod"), file("zip")]
}

#[test]
fn the_client_fetches_only_pinned_files() {
    let Some(rootfs) = skip::toolchain(&["go"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let served = dir.path().join("proxy");
    std::fs::create_dir(&served).unwrap();
    let files = proxy(&served, &Sandbox::new(rootfs.clone()));
    let environment = BTreeMap::from([("GOPROXY".to_owned(), format!("file://{}", served.display()))]);
    let context = context(dir.path(), &rootfs, false, User { cache: None, environment });
    let project = Project::open(&context).unwrap();
    let toolchain = project.toolchain().unwrap();

    let absent = ModuleFile { path: "example.org/z/@v/v1.0.0.zip".to_owned(), sha256: Sha256::of("z") };
    let error = stages::fetch(&context, &toolchain, &[absent]).unwrap_err();
    assert_eq!(error.class(), Class::Infrastructure);
    assert!(error.to_string().contains("example.org/z@v1.0.0"), "{error}");

    let mut other = files.clone();
    other[1].sha256 = Sha256::of("other");
    let error = stages::fetch(&context, &toolchain, &other).unwrap_err();
    assert_eq!(error.class(), Class::Verification);
    assert!(error.to_string().contains(&files[1].sha256.to_string()), "{error}");
    assert!(!context.store.path(&files[1].sha256).exists(), "an unpinned file is in the store");

    // The go.mod is there from the run before.
    assert_eq!(stages::fetch(&context, &toolchain, &files).unwrap(), 1);
    assert_eq!(stages::fetch(&context, &toolchain, &files).unwrap(), 0);
    let zip = context.store.path(&files[1].sha256);
    assert_eq!(Sha256::of_file(&zip).unwrap(), files[1].sha256);
}

/// Builds /init of Talos in a new cache below `dir`, offline.
fn init(dir: &Path, rootfs: &Path) -> PathBuf {
    let context = context(dir, rootfs, true, User::default());
    let toolchain = Project::open(&context).unwrap().toolchain().unwrap();
    let programs = stages::BASE.read(&context).unwrap();
    let mut talos = programs.modules.iter().find(|module| module.name == "talos").unwrap().clone();
    talos.programs.retain(|program| program.name == "init");
    let go = stages::go_toolchain(&context, &toolchain, &programs).unwrap();
    stages::module(&context, &toolchain, &go, stages::BASE, &talos).unwrap().dir
}

#[test]
fn a_program_is_bit_identical_in_another_directory() {
    let Some(rootfs) = skip::toolchain(&[]) else { return };
    let Some(built) = skip::path(TALOS_OUT) else { return };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let first = init(&dir.path().join("deeper/and/deeper"), &rootfs);
    let bytes = std::fs::read(first.join("bin/init")).unwrap();
    // The build's is at the start of its initramfs.
    let initramfs = std::fs::read(built.join("initramfs.xz")).unwrap();
    let other = formats::initramfs::content(&initramfs, "init").unwrap().unwrap();
    assert_eq!(Sha256::of(&bytes), Sha256::of(other));
    let sections = formats::elf::sections(&bytes).unwrap();
    assert!(!sections.iter().any(|section| section.name == ".interp"), "init needs a loader");
    let host = dir.path().display().to_string();
    for path in [host.as_bytes(), b"/build/"] {
        assert!(!bytes.windows(path.len()).any(|window| window == path), "{} is in it", String::from_utf8_lossy(path));
    }
    let modules = std::fs::read_to_string(first.join("modules/init.txt")).unwrap();
    assert!(modules.contains("\tmod\tgithub.com/siderolabs/talos\tv1.10.3\t"), "{modules}");
    assert!(first.join("licenses/github.com/siderolabs/talos@v1.10.3/LICENSE").is_file());
    assert!(!first.join("modcache").exists() && !first.join("scratch").exists(), "the stage holds Go's caches");
}
