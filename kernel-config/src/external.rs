//! Builds an out-of-tree module against a compiled kernel.

use std::path::{Path, PathBuf};

use common::sandbox::Run;
use common::stage::{Finished, Input, Stage, Work};
use common::{Class, Error, Result};

use crate::compile::Kernel;
use crate::devel::Tree;
use crate::environment::{Environment, OBJ, SRC, Tools};
use crate::source::Source;

/// Compiles our module.
pub const STAGE: Stage = Stage::recipe("module");
/// Compiles somebody's module with a kernel-devel tree.
pub const DEVEL_STAGE: Stage = Stage::recipe("module-devel");

/// Leaves nothing but the stripped module, below `root/`, where an extension wants it.
const COLLECT: &str = r#"
extras="/build/out/root/usr/lib/modules/$2/extras"
mkdir -p "$extras"
llvm-strip --strip-debug "/build/module/$1.ko" -o "$extras/$1.ko"
rm -rf /build/out/tree
"#;

/// Where a kernel-devel tree is seen inside the sandbox.
const DEVEL: &str = "/build/linux-headers";

/// The module `name` of the directory `module`, stripped and unsigned, as `root/usr/lib/modules/<release>/extras/<name>.ko` in the
/// stage's directory.
///
/// # Errors
/// [`common::Class::BuildFailed`] with the compiler's last lines.
pub fn build(env: &Environment<'_>, source: &Source, kernel: &Kernel, module: &Path, name: &str) -> Result<Finished> {
    let inputs = (
        env.tools(),
        Input::known_by([("kernel", kernel.stage.key.to_string())], (source.tree.clone(), kernel.clone())),
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
            run.read(source, SRC).read(&kernel.objects(), OBJ).write(out, "/build/out").write(&tree, "/build/module")
        };
        work.run(tools.sandbox, &inside(make.clone()))?;
        work.run(tools.sandbox, &inside(Run::script(&collect, &[&name, &kernel.release])))
    })
}

/// A copy of the directory `module` in the stage's, for make to write into.
fn copy(work: &mut Work<'_>, tools: &Tools<'_>, module: &Path) -> Result<PathBuf> {
    let run = Run::new(["cp", "-R", "/build/in/.", "/build/out/tree"]);
    work.run(tools.sandbox, &run.read(module, "/build/in").write(work.dir(), "/build/out"))?;
    Ok(work.dir().join("tree"))
}

/// Builds what the module's own Kbuild says, nothing that somebody else compiled before, and strips it like ours.
const COLLECT_ALL: &str = r#"
mkdir /build/out/modules
sed 's/\.o$/.ko/' /build/module/modules.order | while read -r module; do
    llvm-strip --strip-debug "$module" -o "/build/out/modules/${module##*/}"
done
rm -rf /build/out/tree
"#;

/// Every module of the directory `module`, built against a kernel-devel tree, stripped and unsigned, as `modules/<name>.ko` in the stage's
/// directory. Only that tree and the toolchain are seen.
///
/// # Errors
/// [`Class::BadInput`] when `module` is no module's directory or builds none, [`Class::BuildFailed`] with the compiler's last lines.
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
            let run = run.read(&devel, DEVEL).write(out, "/build/out").write(&tree, "/build/module");
            work.run(tools.sandbox, &run)
        };
        let make = |target| make.run(&["M=/build/module", target]);
        // What an earlier make left there came from another compiler.
        inside(make("clean")).and_then(|()| inside(make("modules"))).map_err(|e| match e.class() {
            Class::BuildFailed => Error::new(Class::BuildFailed, "the module does not compile").file(&*module).why(e),
            _ => e,
        })?;
        inside(Run::script(&collect, &[]))?;
        refuse_none(&out.join("modules"), &module)
    })
}

/// Refuses what is no module's directory.
///
/// # Errors
/// [`Class::BadInput`] without a Kbuild or Makefile.
pub fn check_directory(module: &Path) -> Result<()> {
    let bad = |why: &str| Error::new(Class::BadInput, "there is no module to build").file(module).why(why.to_owned());
    if !module.is_dir() {
        return Err(bad("it is no directory").hint("give the directory that holds the module's Kbuild or Makefile"));
    }
    if ["Kbuild", "Makefile"].iter().any(|name| module.join(name).is_file()) {
        return Ok(());
    }
    Err(bad("it holds neither Kbuild nor Makefile").hint("write a Kbuild that says `obj-m := NAME.o`"))
}

fn refuse_none(built: &Path, module: &Path) -> Result<()> {
    if fs_err::read_dir(built)?.next().is_some() {
        return Ok(());
    }
    Err(Error::new(Class::BadInput, "there is no module to build")
        .file(module)
        .why("its Kbuild or Makefile names none")
        .hint("say `obj-m := NAME.o` there"))
}
