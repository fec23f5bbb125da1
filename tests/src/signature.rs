//! Changing a signed module: the trailer that the kernel reads (`include/linux/module_signature.h`), and a signature by a foreign key.

use crate::Result;
use anyhow::{Context as _, ensure};
use common::sandbox::{Run, Sandbox};
use fs_err as fs;
use std::path::Path;

/// Ends every signed module.
pub const MAGIC: &[u8] = b"~Module signature appended~\n";
const TRAILER: usize = 12;

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
    let body = module.strip_suffix(MAGIC).context("the module is not signed")?;
    let at = body.len().checked_sub(TRAILER).context("the module's trailer is cut off")?;
    let length = body[at + 8..].iter().fold(0_usize, |length, &byte| length << 8 | usize::from(byte));
    let end = at.checked_sub(length).context("the signature is longer than the module")?;
    Ok(&body[..end])
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
#[must_use]
pub fn append(body: &[u8], signature: &[u8]) -> Vec<u8> {
    let mut module = [body, signature].concat();
    // algo, hash, id_type (PKEY_ID_PKCS7 = 2), signer_len, key_id_len, three bytes of padding, then the length in big endian.
    module.extend([0, 0, 2, 0, 0, 0, 0, 0]);
    module.extend(u32::try_from(signature.len()).unwrap_or(u32::MAX).to_be_bytes());
    module.extend(MAGIC);
    module
}

/// `module` signed anew with a key made in `work` that the kernel does not know.
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
    Ok(append(body, &signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strip_undoes_append() {
        let signed = append(b"ELF and more", &[7; 300]);
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
        let signed = append(b"ELF and more", &[7; 30]);
        let flipped = flip(&signed).unwrap();
        let changed: Vec<usize> = (0..signed.len()).filter(|&n| signed[n] != flipped[n]).collect();
        assert_eq!(changed, [6]);
        assert_ne!(strip(&flipped).unwrap(), strip(&signed).unwrap());
    }
}
