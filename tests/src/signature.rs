//! Forges modules: changes a signed one, or signs it with another key.

use crate::Result;
use anyhow::{Context as _, ensure};
use common::sandbox::{Run, Sandbox};
use formats::module_signature;
use fs_err as fs;
use std::path::Path;

/// Makes a key and signs with it as `scripts/sign-file` does, using openssl only.
const SIGN: &str = "\
cd /build/work
openssl req -new -x509 -newkey rsa:2048 -nodes -sha512 -days 30 -subj '/CN=unknown signer' -keyout key.pem -out cert.pem 2>/dev/null
openssl cms -sign -binary -noattr -nocerts -outform DER -md sha512 -signer cert.pem -inkey key.pem -in module.ko -out signature.p7s
";

/// Returns the module without its signature.
pub fn strip(module: &[u8]) -> Result<&[u8]> {
    let (body, _) = module_signature::split(module).context("the module is not signed or truncated")?;
    Ok(&module[body])
}

/// Returns the signed module with one bit of its code or data flipped.
pub fn flip_bit(module: &[u8]) -> Result<Vec<u8>> {
    let middle = strip(module)?.len() / 2;
    let mut changed = module.to_vec();
    changed[middle] ^= 1;
    Ok(changed)
}

/// Appends a PKCS#7 `signature` to the unsigned module `body`.
pub fn append(body: &[u8], signature: &[u8]) -> Result<Vec<u8>> {
    let mut module = body.to_vec();
    module_signature::append(&mut module, signature)?;
    Ok(module)
}

/// Returns `module` signed with a new key, made in `work`, that the kernel does not trust.
pub fn sign_with_unknown_key(sandbox: &Sandbox, module: &[u8], work: &Path) -> Result<Vec<u8>> {
    let body = strip(module)?;
    fs::create_dir_all(work)?;
    fs::write(work.join("module.ko"), body)?;
    sandbox.output(&Run::script(SIGN, &[]).write(work, "/build/work"))?;
    let signature = fs::read(work.join("signature.p7s"))?;
    ensure!(!signature.is_empty(), "openssl wrote an empty signature");
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
        let mut wrong_length = signed;
        let at = wrong_length.len() - MAGIC.len() - 4;
        wrong_length[at] = 0xff;
        assert!(strip(&wrong_length).is_err());
    }

    #[test]
    fn flip_bit_changes_the_body() {
        let signed = append(b"ELF and more", &[7; 30]).unwrap();
        let flipped = flip_bit(&signed).unwrap();
        let changed: Vec<usize> = (0..signed.len()).filter(|&n| signed[n] != flipped[n]).collect();
        assert_eq!(changed, [6]);
        assert_ne!(strip(&flipped).unwrap(), strip(&signed).unwrap());
    }
}
