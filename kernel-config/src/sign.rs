//! Module-signing keys, and modules signed with the kernel's own sign-file.
//!
//! RSA with PKCS#1 v1.5 padding (RFC 8017) because its signatures are deterministic: the same key gives the same module.

use std::path::{Path, PathBuf};

use common::sandbox::{Run, Sandbox};
use common::stage::{Finished, Leftover};
use common::{Error, Result, Sha256, atomic};

use crate::compile::Kernel;
use crate::forge::{Forge, OBJ};

/// A private key and its certificate, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleKey {
    /// PEM, PKCS#8, mode 0600.
    pub private: PathBuf,
    /// PEM, X.509. Its bytes are part of the kernel.
    pub certificate: PathBuf,
}

impl ModuleKey {
    /// The key pair in `dir`, by the names that [`ModuleKey::develop`] gives its files.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self { private: dir.join("module.key.pem"), certificate: dir.join("module.crt.pem") }
    }

    /// The key pair in `dir`; made once if nothing is there. The private key never leaves that directory.
    ///
    /// # Errors
    /// [`common::Class::BuildFailed`] when openssl fails, [`common::Class::Infrastructure`] on I/O errors.
    pub fn develop(dir: &Path, sandbox: &Sandbox) -> Result<Self> {
        let key = Self::in_dir(dir);
        if key.private.is_file() && key.certificate.is_file() {
            return Ok(key);
        }
        let fresh = atomic::beside(dir, "new");
        atomic::empty_dir(&fresh)?;
        restrict(&fresh, 0o700)?;
        sandbox.run(&generate().write(&fresh, "/build/out"), &mut |_| ())?;
        restrict(&fresh.join("module.key.pem"), 0o600)?;
        atomic::replace_dir(&fresh, dir)?;
        Ok(key)
    }
}

/// A hundred years: the kernel does not look at the validity of a module signer (certs/system_keyring.c).
fn generate() -> Run {
    let subject = "/CN=solana-talos development module signing key";
    let usage = "keyUsage=critical,digitalSignature";
    let words = "openssl req -new -x509 -newkey rsa:4096 -noenc -sha512 -days 36500 -batch -addext basicConstraints=critical,CA:FALSE";
    let argv = words.split(' ').chain(["-addext", usage, "-subj", subject]);
    Run::new(argv.chain(["-keyout", "/build/out/module.key.pem", "-out", "/build/out/module.crt.pem"]))
}

fn restrict(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|e| Error::io("cannot protect a private key", path, &e))
}

/// Copies the tree /build/in, signs every module of the copy in the order of names, and tells depmod about a kernel's own.
const SIGN: &str = r#"
mkdir /build/out/signed
cp -R /build/in/. /build/out/signed/
find /build/out/signed -name '*.ko' | sort | while read -r module; do
    /build/obj/scripts/sign-file sha512 /build/keys/module.key.pem /build/keys/module.crt.pem "$module"
done
if [ -d /build/out/signed/lib ]; then
    depmod --all --basedir /build/out/signed "$1"
    mkdir /build/out/signed/usr
    mv /build/out/signed/lib /build/out/signed/usr/lib
fi
"#;

/// A copy of the tree `modules`, as `signed/` in the stage's directory, in which every `*.ko` is signed with `key`. Modules end up below
/// `usr/lib/modules/<release>`, where Talos has them since 1.10; a kernel's own get their `modules.dep`.
///
/// # Errors
/// [`common::Class::BuildFailed`] when sign-file fails.
pub fn sign_tree(
    forge: &Forge<'_>,
    stage: &'static str,
    kernel: &Kernel,
    unsigned: &Sha256,
    modules: &Path,
    key: &ModuleKey,
) -> Result<Finished> {
    let fingerprint = forge
        .fingerprint(stage)
        .with("modules", unsigned.to_string())
        .with("certificate", Sha256::of_file(&key.certificate)?.to_string())
        .with("recipe", SIGN);
    forge.cache.run(&fingerprint, Leftover::Discard, |work, line| {
        let run = Run::script(SIGN, &[&kernel.release])
            .read(modules, "/build/in")
            .read(&kernel.objects(), OBJ)
            .read(&key.private, "/build/keys/module.key.pem")
            .read(&key.certificate, "/build/keys/module.crt.pem")
            .write(work, "/build/out");
        forge.sandbox.run(&run, line)
    })
}
