//! Reads a bzImage: the release in its setup header, the compressed kernel, and the configuration in that kernel
//! (kernel `Documentation/arch/x86/boot.rst`, `kernel/configs.c`).

use std::ops::Range;

use common::{Class, Error, Result};

use crate::pe::{Pe, u16_at, u32_at};
use crate::{Budget, Compression, compression};

/// `setup_sects`: length of the real-mode code in sectors, not counting the first one.
pub(crate) const SETUP_SECTS: usize = 0x1f1;
/// `boot_flag`, the end of the first sector.
pub(crate) const BOOT_FLAG: usize = 0x1fe;
/// `header`, the setup header's magic number.
pub(crate) const MAGIC: usize = 0x202;
/// `kernel_version`, a pointer to the version string, itself relative to 0x200.
pub(crate) const KERNEL_VERSION: usize = 0x20e;
/// `payload_offset`, relative to the protected-mode code, and after it `payload_length`.
pub(crate) const PAYLOAD: usize = 0x248;
const SECTOR: usize = 512;
/// Longest version string.
const VERSION_MAX: usize = 512;
/// Marks the start of the configuration (`IKCFG_ST`); gzip follows.
const CONFIG_START: &[u8] = b"IKCFG_ST";
/// Largest decompressed configuration; usual ones have 100 to 300 kB.
const CONFIG_MAX: u64 = 16 << 20;

/// Whether `image` has a setup header; its first 1024 bytes are enough.
#[must_use]
pub fn detect(image: &[u8]) -> bool {
    image.get(BOOT_FLAG..BOOT_FLAG + 2) == Some(&[0x55, 0xaa]) && image.get(MAGIC..MAGIC + 4) == Some(b"HdrS")
}

/// Returns the release of the kernel in `image`, such as `6.12.117-talos`: the first word of its version string.
///
/// # Errors
/// [`Class::UntrustedData`] when `image` is not a bzImage, or has no version string or no EFI stub.
pub fn release(image: &[u8]) -> Result<String> {
    let bad = |why: &str| Error::new(Class::UntrustedData, "kernel image is malformed").why(why);
    if !detect(image) {
        return Err(bad("not a bzImage: the setup header is missing"));
    }
    Pe::parse(image).map_err(|_| bad("it has no EFI stub").hint("build the kernel with CONFIG_EFI_STUB=y"))?;
    let pointer = usize::from(u16_at(image, KERNEL_VERSION)?);
    if pointer == 0 {
        return Err(bad("the setup header has no version string"));
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

/// Returns the range of the compressed kernel in `image`; `None` when it is not a bzImage.
#[must_use]
pub fn payload(image: &[u8]) -> Option<Range<usize>> {
    if !detect(image) {
        return None;
    }
    // The boot protocol defines 0 as 4.
    let sectors = match *image.get(SETUP_SECTS)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = ((sectors + 1) * SECTOR).checked_add(u32_at(image, PAYLOAD).ok()? as usize)?;
    let end = start.checked_add(u32_at(image, PAYLOAD + 4).ok()? as usize)?;
    (start < end && end <= image.len()).then_some(start..end)
}

/// Decompresses the kernel in `image`: `vmlinux` without symbols.
pub fn vmlinux(image: &[u8], budget: &mut Budget) -> Result<Vec<u8>> {
    let bad = |why: &str| Error::new(Class::UntrustedData, "cannot decompress the kernel of a bzImage").why(why);
    let payload = &image[payload(image).ok_or_else(|| bad("the setup header has no valid payload range"))?];
    let unknown =
        || compression::unsupported(payload).map_or("unknown compression".to_owned(), compression::not_supported);
    let compression = Compression::detect(payload).ok_or_else(|| bad(&unknown()))?;
    Ok(budget.decompress(compression, payload)?.0)
}

/// Returns the configuration in a `vmlinux`; `None` when it was built without `CONFIG_IKCONFIG`.
pub fn config(vmlinux: &[u8], budget: &mut Budget) -> Result<Option<String>> {
    let bad = |why: String| Error::new(Class::UntrustedData, "kernel configuration in vmlinux is malformed").why(why);
    let starts =
        vmlinux.windows(CONFIG_START.len() + 2).position(|w| w.starts_with(CONFIG_START) && w.ends_with(&[0x1f, 0x8b]));
    let Some(start) = starts else { return Ok(None) };
    let packed = &vmlinux[start + CONFIG_START.len()..];
    let (text, _) = budget.decompress_at_most(Compression::Gzip, packed, CONFIG_MAX)?;
    String::from_utf8(text).map(Some).map_err(|e| bad(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{bzimage, bzimage_of, gzip, zstd};

    #[test]
    fn release_is_the_first_word() {
        assert_eq!(release(&bzimage("6.12.117-talos (talos@solana-talos) #1 SMP")).unwrap(), "6.12.117-talos");
    }

    #[test]
    fn rejects_what_is_not_a_bzimage() {
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

    fn with_config(config: &str) -> Vec<u8> {
        [b"vmlinux IKCFG_ST but not here ", CONFIG_START, &gzip(config.as_bytes()), b"IKCFG_ED"].concat()
    }

    #[test]
    fn finds_the_configuration() {
        let kernel = with_config("CONFIG_A=y\n");
        let image = bzimage_of("6.12 x", &zstd(&kernel));
        let budget = &mut Budget::default();
        assert_eq!(vmlinux(&image, budget).unwrap(), kernel);
        assert_eq!(config(&kernel, budget).unwrap().unwrap(), "CONFIG_A=y\n");
        assert_eq!(config(b"no IKCFG_ST", budget).unwrap(), None);
    }

    #[test]
    fn kernel_and_configuration_are_charged_to_the_budget() {
        let kernel = with_config("CONFIG_A=y\n");
        let image = bzimage_of("6.12 x", &zstd(&kernel));
        let mut budget = Budget { bytes: kernel.len() as u64 + 15, members: 1, ..Budget::default() };
        vmlinux(&image, &mut budget).unwrap();
        config(&kernel, &mut budget).unwrap();
        assert_eq!(budget.bytes, 4);
        assert!(config(&kernel, &mut budget).is_err() && vmlinux(&image, &mut budget).is_err());
    }

    #[test]
    fn rejects_ranges_outside_the_image() {
        let good = bzimage_of("6.12 x", b"payload");
        assert!(vmlinux(&good, &mut Budget::default()).unwrap_err().to_string().contains("unknown compression"));
        let packed = bzimage_of("6.12 x", b"BZh91AY");
        assert!(vmlinux(&packed, &mut Budget::default()).unwrap_err().to_string().contains("compressed with bzip2"));
        for (at, value) in [(PAYLOAD + 3, 0xff), (PAYLOAD + 6, 0xff), (0x202, b'x'), (SETUP_SECTS, 0xff)] {
            let mut broken = good.clone();
            broken[at] = value;
            assert_eq!(payload(&broken), None, "{at:#x}");
        }
    }
}
