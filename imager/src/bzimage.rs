//! The kernel's release string, read from the bzImage's setup header (kernel `Documentation/arch/x86/boot.rst`).

use common::{Class, Error, Result};

use crate::pe::{Pe, slice, u16_at};

/// Offset of the header's magic number.
const MAGIC: usize = 0x202;
/// Offset of the pointer to the version string, itself relative to 0x200.
const KERNEL_VERSION: usize = 0x20e;
/// The longest version string that is looked for.
const VERSION_MAX: usize = 512;

/// Release of the kernel in `image`, such as `6.12.117-talos`: the first word of its version string.
///
/// # Errors
/// [`Class::BadInput`] when `image` is no bzImage, has no version string or no EFI stub.
pub fn release(image: &[u8]) -> Result<String> {
    let bad = |why: &str| Error::new(Class::BadInput, "not a usable kernel image").why(why);
    if slice(image, 0x1fe, 2).ok() != Some(&[0x55, 0xaa]) || slice(image, MAGIC, 4).ok() != Some(b"HdrS") {
        return Err(bad("it is no bzImage: the setup header is missing"));
    }
    Pe::parse(image).map_err(|_| bad("it has no EFI stub").hint("build the kernel with CONFIG_EFI_STUB=y"))?;
    let pointer = usize::from(u16_at(image, KERNEL_VERSION)?);
    if pointer == 0 {
        return Err(bad("the setup header names no version"));
    }
    let text = image.get(pointer + 0x200..).unwrap_or_default();
    let text = text.get(..VERSION_MAX).unwrap_or(text);
    let release = text.split(|&byte| byte == b' ' || byte == 0).next().unwrap_or_default();
    let plain = |&byte: &u8| byte.is_ascii_alphanumeric() || b".-_+~".contains(&byte);
    if release.is_empty() || release.len() > 64 || !release.iter().all(plain) {
        return Err(bad("the version string is malformed"));
    }
    Ok(release.iter().copied().map(char::from).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The smallest image that has a setup header and an EFI stub.
    pub(crate) fn bzimage(version: &str) -> Vec<u8> {
        let mut image = crate::pe::tests::stub(0x1a0);
        image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[KERNEL_VERSION..KERNEL_VERSION + 2].copy_from_slice(&0x80u16.to_le_bytes());
        image[0x280..0x280 + version.len()].copy_from_slice(version.as_bytes());
        image
    }

    #[test]
    fn takes_the_first_word() {
        assert_eq!(release(&bzimage("6.12.117-talos (talos@solana-talos) #1 SMP")).unwrap(), "6.12.117-talos");
    }

    #[test]
    fn refuses_what_is_no_bzimage() {
        let good = bzimage("6.12.117-talos x");
        for (at, value, why) in
            [(0x1fe, 0, "setup header"), (MAGIC, 0, "setup header"), (0, 0, "EFI stub"), (0x280, b'\n', "malformed")]
        {
            let mut broken = good.clone();
            broken[at] = value;
            assert!(release(&broken).unwrap_err().to_string().contains(why), "{at:#x}");
        }
        let mut broken = good.clone();
        broken[KERNEL_VERSION..KERNEL_VERSION + 2].copy_from_slice(&[0xff, 0xff]);
        assert!(release(&broken).is_err(), "a pointer past the end");
        assert!(release(b"\x7fELF").is_err());
        assert!(release(&good[..0x208]).is_err());
    }
}
