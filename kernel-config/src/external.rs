//! Builds an out-of-tree module against a compiled kernel.

use std::path::Path;

use common::Result;
use common::sandbox::Run;
use common::stage::{Finished, Leftover};

use crate::compile::Kernel;
use crate::forge::{Forge, OBJ, SRC};
use crate::source::Source;

/// Leaves nothing but the stripped module, below `root/`, where an extension wants it.
const COLLECT: &str = r#"
extras="/build/out/root/usr/lib/modules/$2/extras"
mkdir -p "$extras"
llvm-strip --strip-debug "/build/module/$1.ko" -o "$extras/$1.ko"
rm -rf /build/out/tree
"#;

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
        let tree = work.join("tree");
        let copy = Run::new(["cp", "-R", "/build/in/.", "/build/out/tree"])
            .read(module, "/build/in")
            .write(work, "/build/out");
        forge.sandbox.run(&copy, line)?;
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
