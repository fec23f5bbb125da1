//! Creates a certificate for a key generated elsewhere, such as in a PKCS#11 token.

use std::path::{Path, PathBuf};

use common::{Class, Error, Result, atomic};

use crate::certificate::self_signed;
use crate::config::{self, Holder};
use crate::file::FileSigner;
use crate::init::{Options, check_name, subject};
use crate::pkcs11::TokenSigner;
use crate::public::PublicKey;
use crate::role::Role;
use crate::set::check_kind;
use crate::signer::{Identity, Signer};

/// Creates the certificate of `role` in the set `dir`, signed with the private key that the set names and that must match `public`.
/// Returns the path of the certificate. `pin` is for a token whose URI has no `pin-source`.
pub fn certify(dir: &Path, role: Role, public: &PublicKey, pin: Option<&str>, options: &Options) -> Result<PathBuf> {
    check_name(&options.name)?;
    if !role.has_certificate() {
        return Err(Error::new(Class::BadInput, format!("the key {role} has no certificate"))
            .why(format!("its public half is a bare public key, {}", role.public_file())));
    }
    let location = config::location(dir, role)?;
    if location.public.exists() {
        return Err(Error::new(Class::BadInput, format!("the key {role} already has a certificate"))
            .file(&location.public)
            .why("existing files are never overwritten")
            .hint("move the file away first; the kernel or machines that trust the old certificate need the new one"));
    }
    check_kind(public, role)?;
    let identity = Identity { algorithm: role.algorithm(), public: public.clone(), certificate: None };
    let signer: Box<dyn Signer> = match &location.private {
        Holder::File(path) => Box::new(FileSigner::read(path, role.algorithm())?),
        Holder::Token(uri) => Box::new(TokenSigner::open(uri, pin, identity)?),
        Holder::External => {
            return Err(Error::new(Class::BadInput, format!("no private key for role {role}"))
                .file(dir.join(config::FILE))
                .hint(format!("add `private = \"pkcs11:…\"` under [{role}]")));
        }
    };
    if signer.identity().public != *public {
        return Err(Error::new(Class::BadInput, "the private key does not match the given public key")
            .why(format!("the given public key is {}", public.fingerprint())));
    }
    let name = format!("{} {}", options.name, subject(role));
    let certificate = self_signed(signer.as_ref(), &name, options.from, options.days)?;
    atomic::write(&location.public, certificate.to_pem()?)?;
    Ok(location.public)
}
