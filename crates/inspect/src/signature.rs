//! The signature at the end of a kernel module (`include/linux/module_signature.h`): where it lies, and whose it says it is.

use std::ops::Range;

/// `MODULE_SIG_STRING`.
const MAGIC: &[u8] = b"~Module signature appended~\n";
/// Length of `struct module_signature`.
const INFO: usize = 12;

/// Where module and PKCS#7 message lie in the file; `None` for what is not signed, or cut off.
#[must_use]
pub fn split(bytes: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
    let rest = bytes.strip_suffix(MAGIC)?;
    let (rest, info) = rest.split_last_chunk::<INFO>()?;
    let length = u32::from_be_bytes(*info.last_chunk()?);
    let start = rest.len().checked_sub(usize::try_from(length).ok()?)?;
    Some((0..start, start..rest.len()))
}
