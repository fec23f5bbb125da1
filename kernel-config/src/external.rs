//! Builds out-of-tree modules against a compiled kernel or a kernel-devel tree.

use std::path::{Path, PathBuf};

use common::sandbox::{Failed, Run};
use common::stage::{Finished, Input, Stage, Work};
use common::{Class, Error, Result};

use crate::compile::Kernel;
use crate::devel::Tree;
use crate::environment::{Environment, OBJ, Tools};
use crate::source::Source;

/// Stage that compiles our module.
pub const STAGE: Stage = Stage::recipe("module");
/// Stage that compiles a third-party module with a kernel-devel tree.
pub const DEVEL_STAGE: Stage = Stage::recipe("module-devel");

/// Installs the stripped module below `root/`, where an extension needs it, and removes the build tree.
const COLLECT: &str = r#"
extras="/build/out/root/usr/lib/modules/$2/extras"
mkdir -p "$extras"
llvm-strip --strip-debug "/build/module/$1.ko" -o "$extras/$1.ko"
rm -rf /build/out/tree
"#;

/// Copy of the module's directory in the sandbox, which make writes into.
const MODULE: &str = "/build/module";
/// Kernel-devel tree in the sandbox.
const DEVEL: &str = "/build/linux-headers";

/// Builds the module `name` in the directory `module`, stripped and unsigned, as
/// `root/usr/lib/modules/<release>/extras/<name>.ko` in the stage's directory.
///
/// # Errors
/// [`Class::BuildFailed`] with the compiler's last lines.
pub fn build(env: &Environment<'_>, source: &Source, kernel: &Kernel, module: &Path, name: &str) -> Result<Finished> {
    let inputs = (
        env.tools(),
        Input::known_by([("kernel", kernel.stage.key.to_string())], (source.clone(), kernel.clone())),
        Input::run("make", env.make().run(&["M=/build/module", "modules"])),
        Input::text("collect", COLLECT),
        Input::text("name", name),
        Input::tree("module", module)?,
    );
    env.cache.run(STAGE, inputs, |work, (tools, kernel, make, collect, name, module)| {
        let (source, kernel) = &*kernel;
        let tree = copy(work, &tools, &module)?;
        let out = work.dir();
        let inside = |run: Run| {
            let run = source.mount(run).read(&kernel.objects(), OBJ).write(out, "/build/out");
            run.write(&tree, MODULE).origin(&module, MODULE)
        };
        work.run(tools.sandbox, &inside(make.clone()))?;
        work.run(tools.sandbox, &inside(Run::script(&collect, &[&name, &kernel.release])))
    })
}

/// Copies the directory `module` into the stage's directory, because make writes into it.
fn copy(work: &mut Work<'_>, tools: &Tools<'_>, module: &Path) -> Result<PathBuf> {
    let run = Run::new(["cp", "-R", "/build/in/.", "/build/out/tree"]);
    work.run(tools.sandbox, &run.read(module, "/build/in").write(work.dir(), "/build/out"))?;
    Ok(work.dir().join("tree"))
}

/// Installs the stripped modules that this build made, as its `modules.order` lists them.
const COLLECT_ALL: &str = r#"
mkdir /build/out/modules
sed 's/\.o$/.ko/' /build/module/modules.order | while read -r module; do
    llvm-strip --strip-debug "$module" -o "/build/out/modules/${module##*/}"
done
rm -rf /build/out/tree
"#;

/// Builds every module in the directory `module` against a kernel-devel tree, stripped and unsigned, as `modules/<name>.ko` in the
/// stage's directory. The sandbox contains only that tree and the toolchain.
///
/// # Errors
/// [`Class::BadInput`] when `module` has no Kbuild or builds no module, [`Class::BuildFailed`] with the compiler's last lines.
pub fn build_with(env: &Environment<'_>, devel: &Tree, module: &Path) -> Result<Finished> {
    check_directory(module)?;
    let inputs = (
        env.tools(),
        Input::digested("kernel-devel", &devel.digest, &devel.dir),
        env.make_at(&["-C", DEVEL], &[DEVEL]).input(&["M=/build/module", "modules"]),
        Input::text("collect", COLLECT_ALL),
        Input::tree("module", module)?,
    );
    env.cache.run(DEVEL_STAGE, inputs, |work, (tools, devel, make, collect, module)| {
        let tree = copy(work, &tools, &module)?;
        let out = work.dir();
        let mut inside = |run: Run| {
            let run = run.read(&devel, DEVEL).write(out, "/build/out").write(&tree, MODULE).origin(&module, MODULE);
            work.try_run(tools.sandbox, &run)
        };
        let failed =
            |failed: Failed| Error::new(Class::BuildFailed, "cannot compile the module").file(&*module).why(failed.0);
        // `clean` because files of an earlier make may come from another compiler.
        for target in ["clean", "modules"] {
            inside(make.run(&["M=/build/module", target]))?.map_err(failed)?;
        }
        inside(Run::script(&collect, &[]))??;
        refuse_none(&out.join("modules"), &module)
    })
}

/// Checks that `module` is a directory with a Kbuild or Makefile.
///
/// # Errors
/// [`Class::BadInput`] when it is not.
pub fn check_directory(module: &Path) -> Result<()> {
    if !module.is_dir() {
        return Err(
            no_module(module, "not a directory").hint("give the directory with the module's Kbuild or Makefile")
        );
    }
    if ["Kbuild", "Makefile"].iter().any(|name| module.join(name).is_file()) {
        return Ok(());
    }
    Err(no_module(module, "it contains neither Kbuild nor Makefile").hint("write a Kbuild with `obj-m := NAME.o`"))
}

fn refuse_none(built: &Path, module: &Path) -> Result<()> {
    if fs_err::read_dir(built)?.next().is_some() {
        return Ok(());
    }
    Err(no_module(module, "its Kbuild or Makefile builds no module").hint("add `obj-m := NAME.o` to it"))
}

fn no_module(dir: &Path, why: &str) -> Error {
    Error::new(Class::BadInput, "cannot find a module to build").file(dir).why(why)
}
