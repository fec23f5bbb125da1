//! Modules built by the program `solana-talos module build`, which gets the kernel-devel image and the toolchain, and no cache beyond that.

use crate::Result;
use crate::settings::Settings;
use anyhow::{Context as _, anyhow, ensure};
use common::sandbox::Run;
use common::stage::Stage;
use fs_err as fs;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Builds modules with a cache of its own.
#[derive(Clone, Debug)]
pub struct Builder<'a> {
    settings: &'a Settings,
    program: &'a Path,
    /// The builder's cache.
    pub cache: PathBuf,
    work: PathBuf,
    /// The key set of the machine's cache, whose certificate is in the kernel.
    pub keys: PathBuf,
}

/// The project's root directory.
#[must_use]
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The sample module `name`.
#[must_use]
pub fn sample(name: &str) -> PathBuf {
    project().join("tests/samples").join(name)
}

/// A fresh cache that holds the finished stage `toolchain` and nothing else.
fn cache(work: &Path, toolchain: &Path) -> Result<PathBuf> {
    let cache = work.join("modules-cache");
    if cache.exists() {
        fs::remove_dir_all(&cache)?;
    }
    let stages = cache.join("stages");
    fs::create_dir_all(&stages)?;
    fs::os::unix::fs::symlink(toolchain, stages.join(toolchain.file_name().context("the stage has no name")?))?;
    Ok(cache)
}

impl<'a> Builder<'a> {
    /// A builder whose outputs are in `<work>/<name>`. Its cache, one for the whole process, holds the toolchain: no source, no objects.
    ///
    /// # Errors
    /// No program, no toolchain stage, no key set beside it.
    pub fn new(settings: &'a Settings, name: &str) -> Result<Self> {
        let program = settings.program.as_deref().context("no program")?;
        let work = settings.work.join(name);
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        let stage = settings.sandbox.rootfs().parent().context("the toolchain has no stage")?;
        static CACHE: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
        let cache = CACHE.get_or_init(|| cache(&settings.work, stage).map_err(|e| format!("{e:#}")));
        let cache = cache.clone().map_err(|e| anyhow!(e))?;
        let keys = stage.join("../../keys/development");
        ensure!(keys.is_dir(), "{} is no key set", keys.display());
        Ok(Self { settings, program, cache, work, keys })
    }

    /// Runs `module build` on the directory `module`, with further arguments, to its end.
    ///
    /// # Errors
    /// It could not be started.
    pub fn run(&self, module: &Path, arguments: &[&OsStr]) -> Result<Output> {
        self.command(module, &self.cache, arguments).output().context("cannot start the program")
    }

    /// A finished `stage` in the cache.
    ///
    /// # Errors
    /// There is none.
    pub fn stage(&self, stage: Stage) -> Result<PathBuf> {
        let mut stages = fs::read_dir(self.cache.join("stages"))?.flatten().map(|stage| stage.path());
        let named = |path: &PathBuf| path.file_name().is_some_and(|name| stage.owns(&name.to_string_lossy()));
        Ok(stages.find(named).with_context(|| format!("no stage {}", stage.name()))?.canonicalize()?)
    }

    /// `module build` of the directory `module` with another cache.
    #[must_use]
    pub fn command(&self, module: &Path, cache: &Path, arguments: &[&OsStr]) -> Command {
        let mut command = Command::new(self.program);
        command.args(["module", "build"]).arg(module).arg("--project").arg(project());
        command.arg("--cache").arg(cache).arg("--out").arg(self.out());
        command.arg("--kernel-devel").arg(self.settings.out.join("kernel-devel.oci")).args(arguments);
        if !arguments.contains(&OsStr::new("--keys")) {
            command.arg("--keys").arg(&self.keys);
        }
        command
    }

    /// The module that is built of the directory `module` and signed with the key set `keys`: its bytes and what the program printed.
    ///
    /// # Errors
    /// It does not build.
    pub fn build(&self, module: &Path, name: &str, keys: &Path) -> Result<(Vec<u8>, String)> {
        let output = self.run(module, &["--keys".as_ref(), keys.as_os_str()])?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(output.status.success(), "it does not build:\n{}", text(&output.stderr));
        Ok((fs::read(self.out().join(name))?, text(&output.stdout) + &text(&output.stderr)))
    }

    /// Another key set than the kernel's.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn other_keys(&self) -> Result<PathBuf> {
        let dir = self.work.join("other-keys");
        let mut command = Command::new(self.program);
        command.args(["keys", "init", "--name", "somebody else", "--dir"]).arg(&dir).arg("--project").arg(project());
        let output = command.output()?;
        ensure!(output.status.success(), "no keys: {}", String::from_utf8_lossy(&output.stderr));
        Ok(dir)
    }

    /// What `modinfo` reads in a field of the built module `name`.
    ///
    /// # Errors
    /// modinfo failing.
    pub fn modinfo(&self, name: &str, field: &str) -> Result<String> {
        let run =
            Run::new(["modinfo", "-F", field, "/build/module.ko"]).read(&self.out().join(name), "/build/module.ko");
        Ok(String::from_utf8_lossy(&self.settings.sandbox.output(&run)?).trim().to_owned())
    }

    /// Where built modules are.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.work.join("out")
    }
}
