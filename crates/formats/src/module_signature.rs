//! The signature at the end of a kernel module (kernel `include/linux/module_signature.h`, `kernel/module_signature.c`): after the module
//! come a PKCS#7 message, `struct module_signature`, and a line of text. The signature itself is not verified here.

use std::ops::Range;

use common::{Class, Error, Result};

/// The line that ends a signed module (`MODULE_SIG_STRING`).
pub const MAGIC: &[u8] = b"~Module signature appended~\n";
/// Length of `struct module_signature`.
pub const INFO: usize = 12;
/// `PKEY_ID_PKCS7`: algorithm, digest and signer are in the message.
const PKCS7: u8 = 2;

/// Whether `module` ends with the signature marker.
#[must_use]
pub fn is_signed(module: &[u8]) -> bool {
    module.ends_with(MAGIC)
}

/// Returns the ranges of module and message; `None` when the file is not signed or is truncated.
#[must_use]
pub fn split(bytes: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
    let (rest, info) = bytes.strip_suffix(MAGIC)?.split_last_chunk::<INFO>()?;
    let length = u32::from_be_bytes(*info.last_chunk()?);
    let start = rest.len().checked_sub(usize::try_from(length).ok()?)?;
    Some((0..start, start..rest.len()))
}

/// Returns the range of the message after the checks that the kernel makes before it parses it.
pub fn check(bytes: &[u8]) -> Result<Range<usize>, String> {
    let rest = bytes.strip_suffix(MAGIC).ok_or("the module is not signed")?;
    let (_, info) = rest.split_last_chunk::<INFO>().ok_or("the signature is truncated")?;
    let [algorithm, hash, kind, signer, key, ..] = info;
    if *kind != PKCS7 {
        return Err(format!("the signature has the unknown type {kind}"));
    }
    if [algorithm, hash, signer, key] != [&0; 4] {
        return Err("the signature sets fields that must be zero for PKCS#7".to_owned());
    }
    let (_, message) = split(bytes)
        .filter(|(_, message)| !message.is_empty())
        .ok_or("the signature is empty or longer than the file")?;
    // Every PKCS#7 message is a DER SEQUENCE.
    if bytes[message.start] != 0x30 {
        return Err("the signature is not a PKCS#7 message".to_owned());
    }
    Ok(message)
}

/// Appends `message`, a detached PKCS#7 signature, to `module`, byte for byte as the kernel's `scripts/sign-file` does.
pub fn append(module: &mut Vec<u8>, message: &[u8]) -> Result<()> {
    let length = u32::try_from(message.len())
        .map_err(|_| Error::new(Class::UntrustedData, "module signature is longer than 4 GiB"))?;
    module.extend_from_slice(message);
    // Algorithm, hash, kind, lengths of signer and key identifier, three bytes of padding; then the length, in big endian.
    module.extend_from_slice(&[0, 0, PKCS7, 0, 0, 0, 0, 0]);
    module.extend_from_slice(&length.to_be_bytes());
    module.extend_from_slice(MAGIC);
    Ok(())
}
