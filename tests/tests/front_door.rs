//! `./x` where cargo only records how it is called: which home it gets, and so which crates stay compiled.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::Sha256;

/// Records the home of a build, and makes a program. `cargo tree` fails unless the file `has-crates` exists.
const CARGO: &str = r#"case $1 in
    build) echo "home=${CARGO_HOME-} offline=${CARGO_NET_OFFLINE-}" >>"$SITE/built"; mkdir -p target/release
        printf %s "$SOLANA_TALOS_COMMIT" >"$SITE/commit"
        printf '#!/bin/sh\n' >target/release/solana-talos; chmod +x target/release/solana-talos ;;
    *) [ -e "$SITE/has-crates" ] ;;
esac"#;

/// Programs that `./x` looks for, and would install.
const PRESENT: [&str; 6] = ["apt-get", "bwrap", "cc", "mmdebstrap", "newuidmap", "sudo"];

/// A project of `x` and a lock with one crate.
struct Site {
    dir: tempfile::TempDir,
    crate_file: Vec<u8>,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        fs::copy(project.join("x"), dir.path().join("x")).unwrap();
        for name in PRESENT {
            program(&dir.path().join("bin").join(name), "");
        }
        program(&dir.path().join("bin/cargo"), CARGO);
        let crate_file = crate_file(dir.path());
        let digest = Sha256::of(&crate_file);
        let lock = format!("[[package]]\nname = \"demo\"\nversion = \"1.0.0\"\nchecksum = \"{digest}\"\n");
        fs::write(dir.path().join("Cargo.lock"), lock).unwrap();
        Self { dir, crate_file }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts the crate into the store.
    fn store(&self) {
        let store = self.path("cache/store/sha256");
        fs::create_dir_all(&store).unwrap();
        fs::write(store.join(Sha256::of(&self.crate_file).to_string()), &self.crate_file).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(self.path("x"));
        command.args(arguments).env_remove("CARGO_TARGET_DIR").env_remove("CARGO_HOME").env_remove("CARGO_NET_OFFLINE");
        command.env("PATH", path).env("SITE", self.dir.path()).env("SOLANA_TALOS_CACHE", self.path("cache"));
        command.output().unwrap()
    }

    /// Runs it and returns the environment that cargo compiled in.
    #[track_caller]
    fn built(&self, arguments: &[&str]) -> String {
        let _ = fs::remove_file(self.path("built"));
        let output = self.run(arguments);
        assert!(output.status.success(), "{output:?}");
        fs::read_to_string(self.path("built")).unwrap().trim().to_owned()
    }
}

fn program(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The archive of the crate `demo`.
fn crate_file(dir: &Path) -> Vec<u8> {
    fs::create_dir(dir.join("demo-1.0.0")).unwrap();
    fs::write(dir.join("demo-1.0.0/lib.rs"), "").unwrap();
    let output = Command::new("tar").arg("-C").arg(dir).args(["-czf", "-", "demo-1.0.0"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn with_and_without_offline_cargo_has_the_same_home_if_that_has_the_crates() {
    let site = Site::new();
    fs::write(site.path("has-crates"), "").unwrap();
    assert_eq!(site.built(&["verify"]), "home= offline=");
    assert_eq!(site.built(&["verify", "--offline"]), "home= offline=true");
    assert_eq!(site.built(&["--offline", "build"]), "home= offline=true");
    assert!(!site.path("cache/x-cargo").exists());
}

#[test]
fn without_crates_in_its_home_cargo_takes_those_of_the_store() {
    let site = Site::new();
    site.store();
    let home = site.path("cache/x-cargo");
    for _ in 0..2 {
        assert_eq!(site.built(&["verify", "--offline"]), format!("home={} offline=true", home.display()));
    }
    let config = fs::read_to_string(home.join("config.toml")).unwrap();
    assert!(config.contains(&format!("directory = \"{}\"", home.join("crates").display())), "{config}");
    let unpacked = home.join("crates/demo-1.0.0");
    assert!(unpacked.join("lib.rs").is_file());
    // A changed lock keeps the crates where they are.
    let lock = fs::read_to_string(site.path("Cargo.lock")).unwrap();
    fs::write(site.path("Cargo.lock"), lock + "\n").unwrap();
    fs::write(unpacked.join("lib.rs"), "kept").unwrap();
    assert!(site.built(&["verify", "--offline"]).starts_with(&format!("home={} ", home.display())));
    assert_eq!(fs::read_to_string(unpacked.join("lib.rs")).unwrap(), "kept");
}

#[test]
fn a_crate_that_is_nowhere_is_named() {
    let site = Site::new();
    let output = site.run(&["verify", "--offline"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(6), "{stderr}");
    assert!(stderr.contains("demo 1.0.0 is not in") && stderr.contains("bundle load"), "{stderr}");
    assert!(!site.path("built").exists(), "cargo compiled something");
}

/// Runs git in the project, with neither the user's settings nor a clock.
fn git(site: &Site, arguments: &[&str]) {
    let mut command = Command::new("git");
    command
        .arg("-C")
        .arg(site.dir.path())
        .args(["-c", "user.name=a", "-c", "user.email=a@example.com"])
        .args(arguments);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_COMMITTER_DATE", "2026-11-30T23:30:00Z");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_compiler_gets_the_commit_and_whether_the_tree_is_another() {
    let site = Site::new();
    fs::write(site.path("has-crates"), "").unwrap();
    let commit = || {
        site.built(&["verify"]);
        fs::read_to_string(site.path("commit")).unwrap()
    };
    assert_eq!(commit(), "", "there is no git here");
    fs::write(site.path(".gitignore"), "*\n").unwrap();
    git(&site, &["init", "--quiet"]);
    git(&site, &["add", "--force", "x", ".gitignore"]);
    assert_eq!(commit(), "", "there is no commit yet");
    git(&site, &["commit", "--quiet", "--message", "a"]);
    let clean = commit();
    let (hash, date) = clean.split_once(' ').unwrap();
    assert!(hash.len() == 12 && hash.bytes().all(|c| c.is_ascii_hexdigit()) && date == "2026-11-30", "{clean}");
    fs::write(site.path(".gitignore"), "*\n# changed\n").unwrap();
    assert_eq!(commit(), format!("{clean}, with local changes"));
}
