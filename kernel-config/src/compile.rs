//! Compiles the kernel and its modules.

use std::path::{Path, PathBuf};
use std::time::Instant;

use common::Result;
use common::sandbox::{Failed, Run, Sandbox};
use common::stage::{Finished, Input, Stage, Work};

use crate::environment::{CERTIFICATE, Environment, OBJ, SRC};
use crate::incremental::{self, Kept};
use crate::objects::Objects;
use crate::source::Source;

/// Stage that compiles the kernel; make continues an interrupted run.
pub const STAGE: Stage = Stage::recipe("kernel").resuming();

/// Names the directory of kept objects in the cache; its key groups them by all inputs except the source.
const OBJECTS: Stage = Stage::recipe("objects");

/// Copies what later stages need from the object tree, and shrinks that tree to what building modules needs.
const COLLECT: &str = r#"
out=/build/out
cp "$out/obj/arch/x86/boot/bzImage" "$out/vmlinuz"
cp "$out/obj/.config" "$out/config"
cp "$out/obj/System.map" "$out/System.map"
cp "$out/obj/include/config/kernel.release" "$out/release"
rm -f "$out"/modules/lib/modules/*/build "$out"/modules/lib/modules/*/source
find "$out/obj" -path "$out/obj/tools" -prune -o -type f \( -name '*.o' -o -name '*.a' -o -name '.*.cmd' -o -name 'vmlinux*' \
    -o -name 'bzImage' -o -name '*.ko' -o -name '*.mod.c' \) -print0 | xargs -0 rm -f
"#;

/// File with the seconds that make alone took; `./x bench` derives the overhead of the stage from it.
const MAKE_SECONDS: &str = "make-seconds";

/// A compiled kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The stage.
    pub stage: Finished,
    /// Release string, such as `6.12.117-talos`.
    pub release: String,
}

impl Kernel {
    /// Returns the path of the bzImage.
    #[must_use]
    pub fn vmlinuz(&self) -> PathBuf {
        self.stage.dir.join("vmlinuz")
    }

    /// Returns the path of its resolved configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.stage.dir.join("config")
    }

    /// Returns the directory of stripped, unsigned modules, below `lib/modules/<release>`.
    #[must_use]
    pub fn modules(&self) -> PathBuf {
        self.stage.dir.join("modules")
    }

    /// Returns the object tree, which is enough for `make M=`.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.stage.dir.join("obj")
    }
}

/// Compiles the tree `source` with the resolved `config`, with `certificate` as a trusted key. Continues an interrupted compile; when only
/// a few source files have changed since an earlier one, compiles only what depends on them.
///
/// # Errors
/// [`common::Class::BuildFailed`] with the compiler's last lines.
pub fn compile(env: &Environment<'_>, source: &Source, config: &Path, certificate: &Path) -> Result<Kernel> {
    let settings =
        (env.tools(), Input::file("config", config)?, Input::file("certificate", certificate)?, env.make().input(&[]));
    let group = env.cache.key(OBJECTS, &settings)?;
    let objects = Objects::new(&env.cache.root().join(OBJECTS.name()), &group, env.jobs);
    let kept = Kept { objects, source: source.digest, sink: env.cache.sink() };
    let why = "objects are compared with their digests, and make compiles again what depends on a changed file";
    let inputs = (settings, source.input(), Input::unkeyed(why, kept), Input::text("collect", COLLECT));
    let stage = env.cache.run(STAGE, inputs, |work, ((tools, config, certificate, make), source, kept, collect)| {
        let dir = work.dir();
        let inside = |run: Run| {
            source.mount(run).write(&dir.join("obj"), OBJ).read(&certificate, CERTIFICATE).write(dir, "/build/out")
        };
        incremental::run(&kept, &source.tree, dir, &mut |changed| {
            let obj = dir.join("obj");
            let whole = changed.is_none() && !obj.exists();
            install_config(&config, &obj)?;
            let changed = changed.unwrap_or_default();
            let replace = |run: Run, (file, name): &(PathBuf, String)| run.read(file, &format!("{SRC}/{name}"));
            let run = |targets: &[&str]| changed.iter().fold(inside(make.run(targets)), replace);
            make_all(work, tools.sandbox, &run, whole)
        })?;
        work.run(tools.sandbox, &inside(Run::script(&collect, &[])))
    })?;
    let release = fs_err::read_to_string(stage.dir.join("release"))?.trim().to_owned();
    Ok(Kernel { stage, release })
}

/// Makes the kernel and its modules, and installs the modules in `modules/`. Records the time of a `whole` compile.
fn make_all(
    work: &mut Work<'_>,
    sandbox: &Sandbox,
    make: &dyn Fn(&[&str]) -> Run,
    whole: bool,
) -> Result<Result<(), Failed>> {
    let start = Instant::now();
    if let Err(failed) = work.try_run(sandbox, &make(&["bzImage", "modules"]))? {
        return Ok(Err(failed));
    }
    if whole {
        let seconds = format!("{:.3}\n", start.elapsed().as_secs_f64());
        common::atomic::write(&work.dir().join(MAKE_SECONDS), seconds)?;
    }
    common::atomic::remove_dir(&work.dir().join("modules"))?;
    let install = ["modules_install", "INSTALL_MOD_PATH=/build/out/modules", "INSTALL_MOD_STRIP=1", "DEPMOD=true"];
    work.try_run(sandbox, &make(&install))
}

/// Writes `.config` unless it is equal: make rebuilds everything that depends on a newer one.
fn install_config(config: &Path, obj: &Path) -> Result<()> {
    let target = obj.join(".config");
    let bytes = fs_err::read(config)?;
    match fs_err::read(&target) {
        Ok(current) if current == bytes => Ok(()),
        _ => common::atomic::write(&target, bytes),
    }
}
