//! Changes a signed module, or signs it with another key.

use crate::Result;
use anyhow::{Context as _, ensure};
use common::sandbox::{Run, Sandbox};
use formats::module_signature;
use fs_err as fs;
use std::path::Path;

/// Makes a key and signs with it the way `scripts/sign-file` does, with openssl alone.
const SIGN: &str = "\
cd /build/work
openssl req -new -x509 -newkey rsa:2048 -nodes -sha512 -days 30 -subj '/CN=somebody else' -keyout key.pem -out cert.pem 2>/dev/null
openssl cms -sign -binary -noattr -nocerts -outform DER -md sha512 -signer cert.pem -inkey key.pem -in module.ko -out signature.p7s
";

/// The module without its signature.
///
/// # Errors
/// It was not signed.
pub fn strip(module: &[u8]) -> Result<&[u8]> {
    let (body, _) = module_signature::split(module).context("the module is not signed, or cut off")?;
    Ok(&module[body])
}

/// The module with one bit of its code or data changed.
///
/// # Errors
/// It was not signed.
pub fn flip(module: &[u8]) -> Result<Vec<u8>> {
    let middle = strip(module)?.len() / 2;
    let mut changed = module.to_vec();
    changed[middle] ^= 1;
    Ok(changed)
}

/// The unsigned module `body` with a `signature` in PKCS#7 form.
///
/// # Errors
/// A signature that is too long.
pub fn append(body: &[u8], signature: &[u8]) -> Result<Vec<u8>> {
    let mut module = body.to_vec();
    module_signature::append(&mut module, signature)?;
    Ok(module)
}

/// `module` signed with a key made in `work` that the kernel does not know.
///
/// # Errors
/// openssl failing.
pub fn foreign(sandbox: &Sandbox, module: &[u8], work: &Path) -> Result<Vec<u8>> {
    let body = strip(module)?;
    fs::create_dir_all(work)?;
    fs::write(work.join("module.ko"), body)?;
    sandbox.output(&Run::script(SIGN, &[]).write(work, "/build/work"))?;
    let signature = fs::read(work.join("signature.p7s"))?;
    ensure!(!signature.is_empty(), "openssl wrote no signature");
    append(body, &signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::module_signature::MAGIC;

    #[test]
    fn strip_undoes_append() {
        let signed = append(b"ELF and more", &[7; 300]).unwrap();
        assert_eq!(strip(&signed).unwrap(), b"ELF and more");
        assert!(strip(b"ELF and more").is_err());
        assert!(strip(MAGIC).is_err());
        let mut lying = signed;
        let length = lying.len();
        lying[length - MAGIC.len() - 4] = 0xff;
        assert!(strip(&lying).is_err());
    }

    #[test]
    fn flip_changes_one_bit_of_the_body() {
        let signed = append(b"ELF and more", &[7; 30]).unwrap();
        let flipped = flip(&signed).unwrap();
        let changed: Vec<usize> = (0..signed.len()).filter(|&n| signed[n] != flipped[n]).collect();
        assert_eq!(changed, [6]);
        assert_ne!(strip(&flipped).unwrap(), strip(&signed).unwrap());
    }
}
