//! Signs modules, byte for byte like the kernel's `scripts/sign-file`.

use std::path::{Path, PathBuf};

use common::sandbox::Run;
use common::stage::{Finished, Input, Stage};
use common::{Class, Error, Result, Sha256};
use formats::module_signature;
use keys::{OrPending, Pending, Signer, cms};

use crate::environment::Environment;

/// Stage that signs the kernel's own modules.
pub const KERNEL_STAGE: Stage = Stage::ours("kernel-modules", env!("CARGO_PKG_NAME"));
/// Stage that signs our module, in the root filesystem of its extension.
pub const EXTENSION_STAGE: Stage = Stage::ours("extension-root", env!("CARGO_PKG_NAME"));

/// Copies the tree /build/in; runs depmod on a kernel's own modules and moves them to the path of Talos.
const TREE: &str = r#"
mkdir /build/out/signed
cp -R /build/in/. /build/out/signed/
if [ -d /build/out/signed/lib ]; then
    depmod --all --basedir /build/out/signed "$1"
    mkdir /build/out/signed/usr
    mv /build/out/signed/lib /build/out/signed/usr/lib
fi
"#;

/// Copies the tree `modules` of the kernel `release` to `signed/` in the stage's directory and signs every `*.ko`. Modules are below
/// `usr/lib/modules/<release>`, where Talos has them since 1.10; a kernel's own get a `modules.dep`.
///
/// # Errors
/// [`Class::BuildFailed`] when depmod fails, and errors of the signer.
pub fn sign_tree(
    env: &Environment<'_>,
    stage: Stage,
    release: &str,
    modules: Input<PathBuf>,
    signer: &dyn Signer,
) -> Result<OrPending<Finished>> {
    let certificate = Sha256::of(signer.identity().certificate.as_deref().unwrap_or_default()).to_string();
    let signer = Input::known_by([("certificate", certificate)], signer);
    let inputs = (env.tools(), Input::text("release", release), modules, signer);
    env.cache.try_run(stage, inputs, |work, (tools, release, modules, signer)| {
        let run = Run::script(TREE, &[&release]).read(&modules, "/build/in").write(work.dir(), "/build/out");
        work.run(tools.sandbox, &run)?;
        sign_modules(&work.dir().join("signed"), *signer)
    })
}

/// Signs every `*.ko` below `tree` in place, in the order of paths.
///
/// # Errors
/// Errors of the signer. All signatures are requested, also where one is pending.
pub fn sign_modules(tree: &Path, signer: &dyn Signer) -> Result<OrPending<()>> {
    let mut paths = Vec::new();
    collect(tree, &mut paths)?;
    paths.sort();
    let mut all = Ok(());
    for path in paths {
        all = sign_file(&path, signer)?.and(all);
    }
    Ok(all)
}

fn sign_file(path: &Path, signer: &dyn Signer) -> Result<OrPending<()>> {
    let module = fs_err::read(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Ok(signed) = sign(module, signer, &format!("the module {name}"))? else { return Ok(Err(Pending)) };
    // In place: the tree is an unfinished stage, and its files have no other links.
    fs_err::write(path, signed)?;
    Ok(Ok(()))
}

/// Appends a signature to `module`; `what` names it in messages.
///
/// # Errors
/// [`Class::BadInput`] when it is already signed: the kernel checks only the last signature. Errors of the signer.
pub fn sign(mut module: Vec<u8>, signer: &dyn Signer, what: &str) -> Result<OrPending<Vec<u8>>> {
    if module_signature::is_signed(&module) {
        return Err(Error::new(Class::BadInput, format!("{what} is already signed"))
            .hint("strip it first: `llvm-strip --strip-debug`"));
    }
    let Ok(message) = cms::detached(signer, &signer.identity().algorithm.digest(&module), what)? else {
        return Ok(Err(Pending));
    };
    module_signature::append(&mut module, &message)?;
    Ok(Ok(module))
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            collect(&path, found)?;
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "ko") {
            found.push(path);
        }
    }
    Ok(())
}
