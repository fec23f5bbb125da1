//! A certificate for a key that was made elsewhere, such as in a token.

use std::path::{Path, PathBuf};

use common::{Class, Error, Result, atomic};

use crate::certificate::self_signed;
use crate::config::{self, Holder};
use crate::file::FileSigner;
use crate::init::{Options, check_name, subject};
use crate::pkcs11::TokenSigner;
use crate::public::PublicKey;
use crate::role::Role;
use crate::signer::Signer;

/// Makes the certificate of `role` in the set `dir`, signed by the private key that the set names; `public` is its public key. Gives the
/// file. `pin` is for a token whose URI names no file with a PIN.
///
/// # Errors
/// [`Class::BadInput`] when there is a certificate, the role has none, the private key is not here or not that of `public`; what a token
/// reports.
pub fn certify(dir: &Path, role: Role, public: &PublicKey, pin: Option<&str>, options: &Options) -> Result<PathBuf> {
    check_name(&options.name)?;
    if !role.has_certificate() {
        return Err(Error::new(Class::BadInput, format!("the key {role} has no certificate"))
            .why(format!("its public half is the bare public key, {}", role.public_file())));
    }
    let place = config::place(dir, role)?;
    if place.public.exists() {
        return Err(Error::new(Class::BadInput, format!("the key {role} has a certificate"))
            .file(&place.public)
            .why("nothing is ever overwritten")
            .hint("move it away first; the kernel or the machines that trust it have to be given the new one"));
    }
    if !public.fits(role.algorithm()) {
        return Err(Error::new(Class::BadInput, format!("the key {role} is of the wrong kind")).why(format!(
            "it is {}; {role} signs with {}",
            public.kind(),
            role.algorithm()
        )));
    }
    let signer: Box<dyn Signer> = match &place.private {
        Holder::File(path) => Box::new(FileSigner::read(path, role.algorithm())?),
        Holder::Token(uri) => Box::new(TokenSigner::open(uri, pin, role, public, None)?),
        Holder::Elsewhere => {
            return Err(Error::new(Class::BadInput, format!("the private key {role} is not here"))
                .file(dir.join(config::FILE))
                .hint(format!("name it: `private = \"pkcs11:…\"` under [{role}]")));
        }
    };
    if signer.public_key() != public.der() {
        return Err(Error::new(Class::BadInput, "the private and the public key do not belong together")
            .why(format!("the public key given is {}", public.fingerprint())));
    }
    let name = format!("{} {}", options.name, subject(role));
    let certificate = self_signed(signer.as_ref(), &name, options.from, options.days)?;
    atomic::write(&place.public, certificate.to_pem()?)?;
    Ok(place.public)
}
