//! Runs `solana-talos module build` with the kernel-devel image and a cache that contains only the toolchain.

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

/// Builds modules in a separate cache.
#[derive(Clone, Debug)]
pub struct Builder<'a> {
    settings: &'a Settings,
    program: &'a Path,
    /// Cache of the builder.
    pub cache: PathBuf,
    work: PathBuf,
    /// Key set of the build under test, whose certificate is in the kernel.
    pub keys: PathBuf,
}

/// Returns the root directory of the project.
#[must_use]
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the directory of the sample module `name`.
#[must_use]
pub fn sample(name: &str) -> PathBuf {
    project().join("tests/samples").join(name)
}

/// Makes a new cache that contains only the finished stage `toolchain`.
fn cache(work: &Path, toolchain: &Path) -> Result<PathBuf> {
    let cache = work.join("modules-cache");
    if cache.exists() {
        fs::remove_dir_all(&cache)?;
    }
    let stages = cache.join("stages");
    fs::create_dir_all(&stages)?;
    fs::os::unix::fs::symlink(
        toolchain,
        stages.join(toolchain.file_name().context("the toolchain stage has no name")?),
    )?;
    Ok(cache)
}

impl<'a> Builder<'a> {
    /// Makes a builder with outputs in `<work>/<name>`. All builders of a process share one cache, without kernel source and objects.
    pub fn new(settings: &'a Settings, name: &str) -> Result<Self> {
        let program = settings.program()?;
        let work = settings.work.join(name);
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        let stage = settings.sandbox.rootfs().parent().context("the toolchain is not in a stage directory")?;
        static CACHE: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
        let cache = CACHE.get_or_init(|| cache(&settings.work, stage).map_err(|e| format!("{e:#}")));
        let cache = cache.clone().map_err(|e| anyhow!(e))?;
        let keys = stage.join("../../keys/development");
        ensure!(keys.is_dir(), "key set {} is missing", keys.display());
        Ok(Self { settings, program, cache, work, keys })
    }

    /// Runs `module build` on the directory `module` with further arguments.
    pub fn run(&self, module: &Path, arguments: &[&OsStr]) -> Result<Output> {
        self.command(module, &self.cache, arguments).output().context("cannot start solana-talos")
    }

    /// Returns the directory of a finished `stage` in the cache.
    pub fn stage(&self, stage: Stage) -> Result<PathBuf> {
        let mut stages = fs::read_dir(self.cache.join("stages"))?.flatten().map(|stage| stage.path());
        let named = |path: &PathBuf| path.file_name().is_some_and(|name| stage.owns(&name.to_string_lossy()));
        Ok(stages.find(named).with_context(|| format!("stage {} is not in the cache", stage.name()))?.canonicalize()?)
    }

    /// Returns the command `module build` for the directory `module` with the given cache.
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

    /// Builds the directory `module` and signs with the key set `keys`. Returns the bytes of module `name` and the output of the program.
    pub fn build(&self, module: &Path, name: &str, keys: &Path) -> Result<(Vec<u8>, String)> {
        let output = self.run(module, &["--keys".as_ref(), keys.as_os_str()])?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(output.status.success(), "cannot build {}:\n{}", module.display(), text(&output.stderr));
        Ok((fs::read(self.out().join(name))?, text(&output.stdout) + &text(&output.stderr)))
    }

    /// Makes a key set that the kernel does not trust.
    pub fn other_keys(&self) -> Result<PathBuf> {
        let dir = self.work.join("other-keys");
        let mut command = Command::new(self.program);
        command.args(["keys", "init", "--name", "unknown signer", "--dir"]).arg(&dir).arg("--project").arg(project());
        let output = command.output()?;
        ensure!(output.status.success(), "cannot make keys: {}", String::from_utf8_lossy(&output.stderr));
        Ok(dir)
    }

    /// Returns a `modinfo` field of the built module `name`.
    pub fn modinfo(&self, name: &str, field: &str) -> Result<String> {
        let run =
            Run::new(["modinfo", "-F", field, "/build/module.ko"]).read(&self.out().join(name), "/build/module.ko");
        Ok(String::from_utf8_lossy(&self.settings.sandbox.output(&run)?).trim().to_owned())
    }

    /// Returns the output directory.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.work.join("out")
    }
}
