//! Builds an out-of-tree module against a compiled kernel.

use std::path::{Path, PathBuf};

use common::sandbox::Run;
use common::stage::{Finished, Leftover};
use common::{Class, Error, Result};

use crate::compile::Kernel;
use crate::devel::Tree;
use crate::forge::{Forge, OBJ, SRC};
use crate::source::Source;

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
pub fn build(forge: &Forge<'_>, source: &Source, kernel: &Kernel, module: &Path, name: &str) -> Result<Finished> {
    let make = forge.make(&["M=/build/module", "modules"]);
    let fingerprint = forge
        .fingerprint("module")
        .with("kernel", kernel.stage.key.to_string())
        .with("make", make.fingerprint())
        .with("collect", COLLECT)
        .with("name", name)
        .with_tree("module", module)?;
    forge.cache.run(&fingerprint, Leftover::Discard, |work, line| {
        let tree = copy(forge, module, work, line)?;
        let inside = |run: Run| {
            run.read(&source.tree, SRC)
                .read(&kernel.objects(), OBJ)
                .write(work, "/build/out")
                .write(&tree, "/build/module")
        };
        forge.sandbox.run(&inside(make), line)?;
        forge.sandbox.run(&inside(Run::script(COLLECT, &[name, &kernel.release])), line)
    })
}

/// A copy of the directory `module` in `work`, for make to write into.
fn copy(forge: &Forge<'_>, module: &Path, work: &Path, line: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let run = Run::new(["cp", "-R", "/build/in/.", "/build/out/tree"]);
    forge.sandbox.run(&run.read(module, "/build/in").write(work, "/build/out"), line)?;
    Ok(work.join("tree"))
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
pub fn build_with(forge: &Forge<'_>, devel: &Tree, module: &Path) -> Result<Finished> {
    check_directory(module)?;
    let make = |target| forge.make_at(&["-C", DEVEL], &[DEVEL], &["M=/build/module", target]);
    let fingerprint = forge
        .fingerprint("module-devel")
        .with("kernel-devel", devel.digest.to_string())
        .with("make", make("modules").fingerprint())
        .with("collect", COLLECT_ALL)
        .with_tree("module", module)?;
    forge.cache.run(&fingerprint, Leftover::Discard, |work, line| {
        let tree = copy(forge, module, work, line)?;
        let mut inside = |run: Run| {
            let run = run.read(&devel.dir, DEVEL).write(work, "/build/out").write(&tree, "/build/module");
            forge.sandbox.run(&run, line)
        };
        // What an earlier make left there came from another compiler.
        inside(make("clean")).and_then(|()| inside(make("modules"))).map_err(|e| match e.class() {
            Class::BuildFailed => Error::new(Class::BuildFailed, "the module does not compile").file(module).why(e),
            _ => e,
        })?;
        inside(Run::script(COLLECT_ALL, &[]))?;
        refuse_none(&work.join("modules"), module)
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
