//! Runs the built program with a scratch cache, on a copy of the project's data files, with scripts in `PATH`.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use oci::{FileMap, NewImage, Writer};

/// Project files that a build reads, without the module and the guest.
const DATA: [&str; 9] = [
    "Cargo.lock",
    "extension/solana-optimizer.yaml",
    "imager/base/go",
    "kernel-config",
    "module/kernel",
    "rust-toolchain.toml",
    "solana-talos.lock",
    "tests/guest/Cargo.lock",
    "crates/toolchain",
];

/// A scratch cache, a copy of the project and a directory of programs; removed at the end of the test.
pub struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    /// Programs of the host are not in `PATH`; add them with [`Scene::host_programs`].
    pub fn new() -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap() };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        for name in DATA {
            copy(&root.join(name), &scene.project().join(name));
        }
        fs::create_dir_all(scene.bin()).unwrap();
        // These tests must also pass while the lock does not yet record a change of Cargo.lock.
        let mut lock = lock::read(&scene.project()).unwrap();
        lock.cargo = lock::cargo_locks(&scene.project()).unwrap().0;
        lock::write(&scene.project(), &lock).unwrap();
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn project(&self) -> PathBuf {
        self.path("project")
    }

    pub fn cache(&self) -> PathBuf {
        self.path("cache")
    }

    fn bin(&self) -> PathBuf {
        self.path("bin")
    }

    /// Replaces `from`, which must be there, in a file of the project.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.project().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} does not contain {from:?}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// Adds a shell script to `PATH`. The script itself can run programs of the host.
    pub fn script(&self, name: &str, text: &str) {
        let path = self.bin().join(name);
        fs::write(&path, format!("#!/bin/sh -eu\nPATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Adds programs of the host to `PATH`; returns `false`, to skip the test, when one is missing.
    pub fn host_programs(&self, names: &[&str]) -> bool {
        names.iter().all(|name| match find(name) {
            Some(path) => std::os::unix::fs::symlink(path, self.bin().join(name)).is_ok(),
            None => {
                skip::skipped(format!("this machine has no {name}"));
                false
            }
        })
    }

    /// The command `solana-talos ARGUMENTS`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.wrapped(&[], arguments)
    }

    /// The same, started by `wrapper`.
    pub fn wrapped(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let tool = [env!("CARGO_BIN_EXE_solana-talos")];
        let mut words = wrapper.iter().chain(&tool);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg("--cache").arg(self.cache()).arg("--project").arg(self.project()).args(arguments);
        command.env_clear().env("PATH", self.bin()).env("SCENE", self.dir.path()).current_dir(self.dir.path());
        command
    }

    /// Runs `solana-talos ARGUMENTS` to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// Runs it and checks the exit code, that each of `words` is in the message, and that there are no finished results.
    #[track_caller]
    pub fn fails(&self, code: i32, arguments: &[&str], words: &[&str]) -> Ran {
        let ran = self.run(arguments);
        ran.failed(code, words);
        self.holds_nothing_final();
        ran
    }

    /// Checks that there is no output, no finished stage and nothing in the store.
    #[track_caller]
    pub fn holds_nothing_final(&self) {
        assert!(!self.project().join("_out").exists(), "_out exists");
        for name in ["stages", "store", "bases"] {
            let found = files(&self.cache().join(name));
            assert!(found.is_empty(), "{name} holds {found:?}");
        }
    }

    /// Locks the project's files with an empty toolchain, which needs no downloads.
    pub fn lock_nothing(&self) {
        for list in ["packages.list", "base.list", "reference-tools.list"] {
            fs::write(self.project().join("crates/toolchain").join(list), "").unwrap();
        }
        let mut lock = lock::read(&self.project()).unwrap();
        (lock.package, lock.file) = (Vec::new(), Vec::new());
        for list in lock::GO_SUMS {
            fs::write(self.project().join(list), "").unwrap();
        }
        lock::write(&self.project(), &lock).unwrap();
        self.lock_again();
    }

    /// Records what a test changed in the project.
    pub fn lock_again(&self) {
        self.run(&["update", "--offline"]).succeeded();
    }

    /// Adds an `mmdebstrap` that creates a root filesystem with a shell and a `dpkg-query`; returns `false`, to skip the test, without
    /// bubblewrap.
    pub fn fake_toolchain(&self) -> bool {
        if !self.host_programs(&["bwrap", "tar"]) {
            return false;
        }
        self.lock_nothing();
        let tree = self.path("tree");
        for name in ["bin", "dev", "proc", "tmp", "etc"] {
            fs::create_dir_all(tree.join(name)).unwrap();
        }
        let libraries = Ran::of(Command::new("ldd").arg("/bin/sh")).stdout;
        for file in libraries.split_whitespace().filter(|word| word.starts_with('/')).chain(["/bin/sh"]) {
            let target = tree.join(file.trim_start_matches('/'));
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(file, target).unwrap();
        }
        let query = tree.join("bin/dpkg-query");
        fs::write(&query, "#!/bin/sh\n").unwrap();
        fs::set_permissions(query, fs::Permissions::from_mode(0o755)).unwrap();
        let packed = Command::new("tar").arg("-cf").arg(self.path("rootfs.tar")).arg("-C").arg(&tree).arg(".").status();
        assert!(packed.unwrap().success());
        self.script("mmdebstrap", "for tar; do :; done\necho 'I: fake'\ncp \"$SCENE/rootfs.tar\" \"$tar\"");
        true
    }
}

/// How a program ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(command: &mut Command) -> Self {
        Self::from(command.output().unwrap())
    }

    #[track_caller]
    pub fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {}", self.stderr);
        }
        assert_eq!(self.stderr.matches("error: ").count(), 1, "one error, not {}", self.stderr);
    }

    #[track_caller]
    pub fn succeeded(&self) {
        assert_eq!(self.code, Some(0), "{self:#?}");
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Writes the layout `dest` with one image of `files`.
pub fn layout(dest: &Path, name: &str, files: &FileMap) {
    Writer::one_image(dest, files, NewImage { names: &[name.to_owned()], ..NewImage::default() }).unwrap();
}

/// The same with one file, `etc/motd`.
pub fn motd(dest: &Path, name: &str, text: &str) {
    let mut files = FileMap::new();
    files.bytes("etc/motd", text, 0o644).unwrap();
    layout(dest, name, &files);
}

/// The directory of the stage `toolchain`; `None` skips the test.
pub fn toolchain_stage() -> Option<PathBuf> {
    skip::toolchain(&[])?.parent().map(Path::to_owned)
}

/// A full path of a program of the host.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).chain(["/usr/sbin".into()]).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Returns every file below `dir`; none when it is missing.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() { files(&path) } else { vec![path] }
        })
        .collect()
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
        return;
    }
    for entry in fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        copy(&from.join(&name), &to.join(&name));
    }
}
