//! Kernel-devel trees: what `make M=` needs to build further modules for one compiled kernel, without its source and its objects.
//!
//! What goes in is decided by the kernel's own `scripts/package/install-extmod-build`, which `make bindeb-pkg` packs linux-headers with. To that
//! come the configuration, the crates' metadata that rustc reads (that script leaves Rust out in 6.12), and a record of the compilers: Rust metadata can be
//! read by the very rustc that wrote it only.

mod audit;
mod record;

use std::path::{Path, PathBuf};

use common::sandbox::Run;
use common::stage::Work;
use common::{Error, Result, Sha256};

use crate::environment::{OBJ, SRC, Tools};

pub use audit::private_key;
pub use record::{RECORD, Record};

/// Name of the certificate in a tree: the public half of the key that the kernel trusts.
pub const CERTIFICATE: &str = "certs/module.crt.pem";

/// `$1` is the directory to fill. Programs that only a whole kernel is built with go, and so does whatever checks sources.
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

/// Read by GNU make before `Makefile`, in sub-makes too, since it exports.
const GNUMAKEFILE: &str = "# This kernel was compiled with LLVM, and so must its modules be.
export LLVM ?= 1
include Makefile
";

/// Fills `tree` in the directory of `work` from the kernel's source and objects; `record` is that of the kernel, as JSON.
///
/// # Errors
/// [`common::Class::BuildFailed`] when something is missing in the objects; [`common::Class::Verification`] when a file holds a private key.
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
    let pem =
        std::fs::read(certificate).map_err(|e| Error::io("cannot read the module certificate", certificate, &e))?;
    common::atomic::write(&tree.join(CERTIFICATE), pem)?;
    common::atomic::write(&tree.join("GNUmakefile"), GNUMAKEFILE)?;
    common::atomic::write(&tree.join(RECORD), record)?;
    audit::refuse_private_keys(&tree)?;
    Ok(tree)
}

/// A tree that stands on this machine.
#[derive(Clone, Debug)]
pub struct Tree {
    /// What it says of itself.
    pub record: Record,
    /// Its directory.
    pub dir: PathBuf,
    /// Digest of the image that it came in, an input of whatever is built with it.
    pub digest: Sha256,
}
