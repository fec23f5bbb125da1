//! Kernel-devel trees: what `make M=` needs to build modules for one compiled kernel, without its source and objects.
//!
//! The kernel's `scripts/package/install-extmod-build`, which `make bindeb-pkg` uses for linux-headers, selects the files. We add the
//! configuration, the crates' metadata for rustc (in 6.12 that script omits Rust), and a record of the compilers: only the same
//! rustc can read Rust metadata.

mod audit;
mod record;

use std::path::{Path, PathBuf};

use common::sandbox::Run;
use common::stage::Work;
use common::{Result, Sha256};

use crate::environment::{OBJ, SRC, Tools};

pub use audit::private_key;
pub use record::{RECORD, Record};

/// Path of the certificate in a tree: the public half of the key that the kernel trusts.
pub const CERTIFICATE: &str = "certs/module.crt.pem";

/// Fills the directory `$1`, without the programs that only a complete kernel build or source checks need.
const COLLECT: &str = r#"
cd /build/obj
srctree=/build/src SRCARCH=x86 CC=clang HOSTCC=clang MAKE=make sh /build/src/scripts/package/install-extmod-build "$1"
cp .config "$1"
mkdir -p "$1/rust/bindings" "$1/rust/uapi"
cp rust/*.rmeta "$1/rust/"
cp rust/bindings/*_generated.rs "$1/rust/bindings/"
cp rust/uapi/*_generated.rs "$1/rust/uapi/"
for macros in rust/*.so; do llvm-strip --strip-debug "$macros" -o "$1/$macros"; done
cd "$1/scripts"
rm -rf asn1_compiler* coccinelle dummy-tools gdb generate_rust_target* kallsyms* rust_is_available_test.py selinux sign-file* sorttable*
"#;

/// GNU make reads this file before `Makefile`; the exported variable reaches sub-makes.
const GNUMAKEFILE: &str = "# This kernel was compiled with LLVM, and so must its modules be.
export LLVM ?= 1
include Makefile
";

/// Fills `tree` in the directory of `work` from the kernel's source and objects; `record` is the kernel's [`Record`] as JSON.
///
/// # Errors
/// [`common::Class::BuildFailed`] when objects are incomplete; [`common::Class::Verification`] when a file contains a private key.
pub fn collect(
    work: &mut Work<'_>,
    tools: &Tools<'_>,
    (source, objects): (&Path, &Path),
    record: &str,
    certificate: &Path,
) -> Result<PathBuf> {
    let tree = work.dir().join("tree");
    let run =
        Run::script(COLLECT, &["/build/out/tree"]).read(source, SRC).read(objects, OBJ).write(work.dir(), "/build/out");
    work.run(tools.sandbox, &run)?;
    common::atomic::write(&tree.join(CERTIFICATE), fs_err::read(certificate)?)?;
    common::atomic::write(&tree.join("GNUmakefile"), GNUMAKEFILE)?;
    common::atomic::write(&tree.join(RECORD), record)?;
    audit::refuse_private_keys(&tree)?;
    Ok(tree)
}

/// An unpacked kernel-devel tree.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Its record.
    pub record: Record,
    /// Its directory.
    pub dir: PathBuf,
    /// Digest of its image, an input of all modules built with it.
    pub digest: Sha256,
}
