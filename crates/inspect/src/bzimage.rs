//! What a bzImage carries beside its release: the compressed kernel, and in it the configuration
//! (kernel `Documentation/arch/x86/boot.rst`, `kernel/configs.c`).

use std::ops::Range;

use common::{Class, Error, Result};

use crate::budget::Budget;
use crate::unfold::Compression;

/// `setup_sects`, the length of the real-mode code in sectors without the first one.
const SETUP_SECTS: usize = 0x1f1;
/// `payload_offset`, relative to the protected-mode code, and after it `payload_length`.
const PAYLOAD: usize = 0x248;
const SECTOR: usize = 512;
/// Stands before the configuration (`IKCFG_ST`), gzip behind it.
const CONFIG_START: &[u8] = b"IKCFG_ST";
/// A configuration has some 100 to 300 kB.
const CONFIG_MAX: u64 = 16 << 20;

/// Where the compressed kernel lies in `image`; `None` for what is no bzImage.
#[must_use]
pub fn payload(image: &[u8]) -> Option<Range<usize>> {
    let u32_at = |at: usize| Some(u32::from_le_bytes(image.get(at..)?.first_chunk().copied()?) as usize);
    if image.get(0x1fe..0x200)? != [0x55, 0xaa] || image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    // 0 means 4, for the oldest of loaders.
    let sectors = match *image.get(SETUP_SECTS)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = ((sectors + 1) * SECTOR).checked_add(u32_at(PAYLOAD)?)?;
    let end = start.checked_add(u32_at(PAYLOAD + 4)?)?;
    (start < end && end <= image.len()).then_some(start..end)
}

/// The kernel itself, `vmlinux` without symbols, unfolded.
///
/// # Errors
/// [`Class::BadInput`] when `image` is no bzImage, is compressed in a way we do not know, or is damaged.
pub fn vmlinux(image: &[u8]) -> Result<Vec<u8>> {
    vmlinux_within(image, &mut Budget::default())
}

/// As [`vmlinux`], drawn on `budget`.
pub(crate) fn vmlinux_within(image: &[u8], budget: &mut Budget) -> Result<Vec<u8>> {
    let bad = |why: &str| Error::new(Class::BadInput, "cannot read the kernel in a bzImage").why(why);
    let payload = &image[payload(image).ok_or_else(|| bad("the setup header names no payload"))?];
    let compression = Compression::detect(payload).ok_or_else(|| bad("neither gzip nor xz nor zstd"))?;
    Ok(budget.unfold(compression, payload)?.0)
}

/// The configuration inside a `vmlinux`; `None` when it was built without `CONFIG_IKCONFIG`.
///
/// # Errors
/// [`Class::BadInput`] when it is there and damaged.
pub fn config(vmlinux: &[u8]) -> Result<Option<String>> {
    config_within(vmlinux, &mut Budget::default())
}

/// As [`config`], drawn on `budget`.
pub(crate) fn config_within(vmlinux: &[u8], budget: &mut Budget) -> Result<Option<String>> {
    let bad = |why: String| Error::new(Class::BadInput, "cannot read the configuration in a kernel").why(why);
    let starts =
        vmlinux.windows(CONFIG_START.len() + 2).position(|w| w.starts_with(CONFIG_START) && w.ends_with(&[0x1f, 0x8b]));
    let Some(start) = starts else { return Ok(None) };
    let packed = &vmlinux[start + CONFIG_START.len()..];
    let (text, _) = budget.unfold_at_most(Compression::Gzip, packed, CONFIG_MAX)?;
    String::from_utf8(text).map(Some).map_err(|e| bad(e.to_string()))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use super::*;

    /// A bzImage of one setup sector whose payload is `payload`; no EFI stub.
    pub(crate) fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * SECTOR];
        image[SETUP_SECTS] = 1;
        image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[PAYLOAD..PAYLOAD + 4].copy_from_slice(&16u32.to_le_bytes());
        image[PAYLOAD + 4..PAYLOAD + 8].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend([0; 16]);
        image.extend(payload);
        image.extend(b"after");
        image
    }

    pub(crate) fn with_config(config: &str) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(config.as_bytes()).unwrap();
        [b"vmlinux IKCFG_ST but not here ", CONFIG_START, &gzip.finish().unwrap(), b"IKCFG_ED"].concat()
    }

    #[test]
    fn finds_the_configuration() {
        let kernel = with_config("CONFIG_A=y\n");
        let image = bzimage(&zstd::encode_all(&kernel[..], 1).unwrap());
        assert_eq!(vmlinux(&image).unwrap(), kernel);
        assert_eq!(config(&kernel).unwrap().unwrap(), "CONFIG_A=y\n");
        assert_eq!(config(b"no IKCFG_ST").unwrap(), None);
    }

    #[test]
    fn kernel_and_configuration_draw_on_the_budget() {
        let kernel = with_config("CONFIG_A=y\n");
        let image = bzimage(&zstd::encode_all(&kernel[..], 1).unwrap());
        let mut budget = Budget { bytes: kernel.len() as u64 + 15, members: 1 };
        vmlinux_within(&image, &mut budget).unwrap();
        config_within(&kernel, &mut budget).unwrap();
        assert_eq!(budget.bytes, 4);
        assert!(config_within(&kernel, &mut budget).is_err() && vmlinux_within(&image, &mut budget).is_err());
    }

    #[test]
    fn refuses_what_lies_outside() {
        let good = bzimage(b"payload");
        assert!(vmlinux(&good).unwrap_err().to_string().contains("neither gzip"));
        for (at, value) in [(PAYLOAD + 3, 0xff), (PAYLOAD + 6, 0xff), (0x202, b'x'), (SETUP_SECTS, 0xff)] {
            let mut broken = good.clone();
            broken[at] = value;
            assert_eq!(payload(&broken), None, "{at:#x}");
        }
    }
}
