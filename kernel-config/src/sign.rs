//! Signed modules, in the bytes of the kernel's `scripts/sign-file`.

use std::path::{Path, PathBuf};

use common::sandbox::Run;
use common::stage::{Finished, Input, Stage};
use common::{Class, Error, Result, Sha256};
use formats::module_signature;
use keys::{Signer, cms};

use crate::environment::Environment;

/// Signs the kernel's own modules.
pub const KERNEL_STAGE: Stage = Stage::ours("kernel-modules", env!("CARGO_PKG_NAME"));
/// Signs our module, in the root filesystem of its extension.
pub const EXTENSION_STAGE: Stage = Stage::ours("extension-root", env!("CARGO_PKG_NAME"));

/// Copies the tree /build/in and tells depmod about a kernel's own modules, which move to where Talos has them.
const TREE: &str = r#"
mkdir /build/out/signed
cp -R /build/in/. /build/out/signed/
if [ -d /build/out/signed/lib ]; then
    depmod --all --basedir /build/out/signed "$1"
    mkdir /build/out/signed/usr
    mv /build/out/signed/lib /build/out/signed/usr/lib
fi
"#;

/// A copy of the tree `modules` for the kernel `release`, as `signed/` in the stage's directory, in which every `*.ko` is signed. Modules end up below
/// `usr/lib/modules/<release>`, where Talos has them since 1.10; a kernel's own get their `modules.dep`.
///
/// # Errors
/// [`Class::BuildFailed`] when depmod fails, and what the signer reports; the stage is not finished then.
pub fn sign_tree(
    env: &Environment<'_>,
    stage: Stage,
    release: &str,
    modules: Input<PathBuf>,
    signer: &dyn Signer,
) -> Result<Finished> {
    let certificate = Sha256::of(signer.certificate().unwrap_or_default()).to_string();
    let signer = Input::known_by([("certificate", certificate)], signer);
    let inputs = (env.tools(), Input::text("release", release), modules, signer);
    env.cache.run(stage, inputs, |work, (tools, release, modules, signer)| {
        let run = Run::script(TREE, &[&release]).read(&modules, "/build/in").write(work.dir(), "/build/out");
        work.run(tools.sandbox, &run)?;
        sign_modules(&work.dir().join("signed"), *signer)
    })
}

/// Signs every `*.ko` below `tree` in place, in the order of paths.
///
/// # Errors
/// What the signer reports. Where somebody else has to sign, every module is asked for before this gives up.
pub fn sign_modules(tree: &Path, signer: &dyn Signer) -> Result<()> {
    let mut paths = Vec::new();
    collect(tree, &mut paths)?;
    paths.sort();
    let mut awaited = None;
    for path in paths {
        match sign_file(&path, signer) {
            Err(e) if e.class() == Class::AwaitsSignatures => awaited = Some(e),
            done => done?,
        }
    }
    awaited.map_or(Ok(()), Err)
}

fn sign_file(path: &Path, signer: &dyn Signer) -> Result<()> {
    let module = std::fs::read(path).map_err(|e| Error::io("cannot read a module", path, &e))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let signed = sign(module, signer, &format!("the module {name}"))?;
    // In place: the tree is a stage's work, and no other name of these bytes exists.
    std::fs::write(path, signed).map_err(|e| Error::io("cannot write a signed module", path, &e))
}

/// The bytes of `module` with a signature after them; `what` names it for a person.
///
/// # Errors
/// [`Class::BadInput`] when it is signed already: the kernel would look at the last signature only. What the signer reports.
pub fn sign(mut module: Vec<u8>, signer: &dyn Signer, what: &str) -> Result<Vec<u8>> {
    if module_signature::is_signed(&module) {
        return Err(Error::new(Class::BadInput, format!("{what} is signed already"))
            .hint("strip it before it is signed: `llvm-strip --strip-debug`"));
    }
    let message = cms::detached(signer, &signer.algorithm().digest(&module), what)?;
    module_signature::append(&mut module, &message)?;
    Ok(module)
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let io = |e: &std::io::Error| Error::io("cannot look for modules", dir, e);
    for entry in std::fs::read_dir(dir).map_err(|e| io(&e))? {
        let entry = entry.map_err(|e| io(&e))?;
        let kind = entry.file_type().map_err(|e| io(&e))?;
        let path = entry.path();
        if kind.is_dir() {
            collect(&path, found)?;
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "ko") {
            found.push(path);
        }
    }
    Ok(())
}
