//! Reads the kernel release and the signature of a kernel module file.

use std::ops::Range;

use formats::module_signature;

/// A signed module built for the expected kernel release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The whole `vermagic` string.
    pub vermagic: String,
    /// Position of the PKCS#7 message (DER) in the file.
    pub signature: Range<usize>,
}

impl Module {
    /// Checks the module `bytes` against the kernel `release`.
    ///
    /// # Errors
    /// The reason, to be shown as a violation.
    pub fn parse(bytes: &[u8], release: &str) -> Result<Self, String> {
        if !bytes.starts_with(b"\x7fELF") {
            return Err("not an ELF file".to_owned());
        }
        let signature = module_signature::check(bytes)?;
        let vermagic = vermagic(&bytes[..signature.start])?;
        let built_for = vermagic.split(' ').next().unwrap_or_default();
        if built_for != release {
            return Err(format!("built for kernel {built_for}, not {release}"));
        }
        Ok(Self { vermagic, signature })
    }
}

/// Returns the value of `vermagic=`. `.modinfo` holds NUL-separated strings; section headers are not parsed, so every match in the file
/// must have the same value.
fn vermagic(bytes: &[u8]) -> Result<String, &'static str> {
    const KEY: &[u8] = b"\0vermagic=";
    let value = |at: usize| bytes[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let mut found = bytes.windows(KEY.len()).enumerate().filter(|(_, window)| *window == KEY).map(|(at, _)| value(at));
    let first = found.next().ok_or("vermagic is missing")?;
    if found.any(|other| other != first) {
        return Err("vermagic is ambiguous: several different values");
    }
    std::str::from_utf8(first).map(str::to_owned).map_err(|_| "vermagic is not UTF-8")
}

#[cfg(test)]
pub(crate) mod tests {
    use formats::module_signature::{INFO, MAGIC};

    use super::*;

    pub(crate) const RELEASE: &str = "6.12.117-talos";

    /// Returns bytes that look like a signed module for `release`.
    pub(crate) fn module(release: &str) -> Vec<u8> {
        let mut bytes =
            format!("\x7fELF....\0license=GPL\0vermagic={release} SMP preempt mod_unload \0name=x\0").into_bytes();
        bytes.extend(trailer(b"\x30\x03abc", 2));
        bytes
    }

    fn trailer(signature: &[u8], kind: u8) -> Vec<u8> {
        let length = u32::try_from(signature.len()).unwrap().to_be_bytes();
        [signature, &[0, 0, kind, 0, 0, 0, 0, 0], &length, MAGIC].concat()
    }

    #[test]
    fn reads_release_and_signature() {
        let bytes = module(RELEASE);
        let read = Module::parse(&bytes, RELEASE).unwrap();
        assert_eq!(read.vermagic, "6.12.117-talos SMP preempt mod_unload ");
        assert_eq!(&bytes[read.signature], b"\x30\x03abc");
    }

    #[test]
    fn other_kernels_and_bad_signatures_are_rejected() {
        let good = module(RELEASE);
        let elf = &good[..good.len() - MAGIC.len() - INFO - 5];
        let with = |tail: &[u8]| [elf, tail].concat();
        let mut odd = good.clone();
        odd[good.len() - MAGIC.len() - INFO] = 1;
        let mut long = good.clone();
        long[good.len() - MAGIC.len() - 4] = 1;
        for (bytes, word) in [
            (module("6.12.117-talos2"), "6.12.117-talos2"),
            (module("6.12.117"), "not 6.12.117-talos"),
            (elf.to_vec(), "not signed"),
            (good[..good.len() - 1].to_vec(), "not signed"),
            (with(&trailer(b"", 2)), "empty"),
            (with(&trailer(b"abc", 2)), "PKCS#7"),
            (with(&trailer(b"\x30", 1)), "type 1"),
            (odd, "must be zero"),
            (long, "longer than the file"),
            ([b"\x7fELF" as &[u8], MAGIC].concat(), "truncated"),
            ([b"\x7fELF" as &[u8], &trailer(b"\x30", 2)].concat(), "vermagic is missing"),
            ([&elf[..6], b"\0vermagic=6.12.117-talos SMP\0", &module("6.1.0")[4..]].concat(), "ambiguous"),
            (good[1..].to_vec(), "ELF"),
            (Vec::new(), "ELF"),
        ] {
            let error = Module::parse(&bytes, RELEASE).unwrap_err();
            assert!(error.contains(word), "{word}: {error}");
        }
    }
}
