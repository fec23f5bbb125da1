//! Builds and inspects unified kernel images: systemd's stub with kernel, initramfs and metadata as PE sections
//! (UAPI specification "Unified Kernel Image").

use common::{Class, Error, Result};

use formats::bzimage;
use formats::pe::Pe;
use formats::pe_append::{Appender, Kind};

/// `COMMAND_LINE_SIZE` of x86, including the final NUL; the kernel truncates longer ones.
const CMDLINE_MAX: usize = 2048;
/// Sections of every image we build, in this order, after those of the stub.
const SECTIONS: [&str; 6] = [".osrel", ".cmdline", ".uname", ".linux", ".initrd", ".profile"];

/// Contents of an image.
#[derive(Clone, Copy, Debug)]
pub struct UkiParts<'a> {
    /// Text of os-release.
    pub os_release: &'a str,
    /// Kernel command line, without a newline.
    pub cmdline: &'a str,
    /// The kernel, a bzImage with an EFI stub.
    pub linux: &'a [u8],
    /// The initramfs.
    pub initrd: &'a [u8],
    /// Description of the profile.
    pub profile: &'a str,
}

/// Appends `parts` to systemd's `stub`, whose `.sbat` section is kept. `.uname` is the release in the kernel image.
///
/// # Errors
/// [`Class::UntrustedData`] when the stub or the kernel is malformed, [`Class::BadInput`] when the command line is too long or not
/// printable.
pub fn build(stub: &[u8], parts: &UkiParts<'_>) -> Result<Vec<u8>> {
    check_cmdline(parts.cmdline)?;
    let release = bzimage::release(parts.linux)?;
    check_stub(stub)?;
    let mut image = Appender::new(stub).map_err(|e| e.file("systemd-stub.efi"))?;
    image.add(".osrel", Kind::Data, parts.os_release.as_bytes())?;
    image.add(".cmdline", Kind::Data, parts.cmdline.as_bytes())?;
    image.add(".uname", Kind::Data, release.as_bytes())?;
    image.add(".linux", Kind::Code, parts.linux)?;
    // The kernel would crash under firmware that enforces the flag.
    if !Pe::parse(parts.linux)?.is_nx()? {
        image.clear_nx()?;
    }
    image.add(".initrd", Kind::Data, parts.initrd)?;
    image.add(".profile", Kind::Data, parts.profile.as_bytes())?;
    image.finish()
}

fn check_cmdline(cmdline: &str) -> Result<()> {
    let bad = |why: String| Err(Error::new(Class::BadInput, "invalid kernel command line").why(why));
    if cmdline.len() >= CMDLINE_MAX {
        return bad(format!("{} bytes, the kernel reads at most {}", cmdline.len(), CMDLINE_MAX - 1));
    }
    if let Some(odd) = cmdline.chars().find(|c| !matches!(c, ' '..='~')) {
        return bad(format!("{odd:?} is not printable ASCII"));
    }
    Ok(())
}

/// Checks for `.sbat`, which shim and boot loaders require.
fn check_stub(stub: &[u8]) -> Result<()> {
    let pe = Pe::parse(stub).map_err(|e| e.file("systemd-stub.efi"))?;
    if pe.sections().iter().any(|section| section.name == ".sbat") {
        return Ok(());
    }
    Err(Error::new(Class::UntrustedData, "not a systemd stub").file("systemd-stub.efi").why("section .sbat is missing"))
}

/// Sections of an image.
#[derive(Clone, Copy, Debug)]
pub struct Inspected<'a> {
    /// Secure Boot Advanced Targeting data of the stub.
    pub sbat: &'a [u8],
    /// Text of os-release.
    pub os_release: &'a str,
    /// Kernel command line.
    pub cmdline: &'a str,
    /// Kernel release.
    pub uname: &'a str,
    /// The kernel.
    pub linux: &'a [u8],
    /// The initramfs.
    pub initrd: &'a [u8],
    /// Description of the profile.
    pub profile: &'a str,
}

/// Parses an image and checks that it has exactly our sections.
///
/// # Errors
/// [`Class::UntrustedData`] for a malformed PE image, missing, duplicate or reordered sections, and text that is not UTF-8;
/// [`Class::Verification`] when `.uname` differs from the release in the kernel image.
pub fn inspect(image: &[u8]) -> Result<Inspected<'_>> {
    let pe = Pe::parse(image)?;
    let bad =
        |why: String| Error::new(Class::UntrustedData, "not a unified kernel image built by solana-talos").why(why);
    let names: Vec<_> = pe.sections().iter().map(|s| s.name.as_str()).filter(|name| SECTIONS.contains(name)).collect();
    if names != SECTIONS {
        return Err(bad(format!("sections are {names:?}, expected {SECTIONS:?}")));
    }
    let find = |name: &str| {
        pe.sections()
            .iter()
            .find(|s| s.name == name)
            .map(|s| pe.content(s))
            .ok_or_else(|| bad(format!("section {name} is missing")))
    };
    let text = |name: &str| std::str::from_utf8(find(name)?).map_err(|_| bad(format!("section {name} is not UTF-8")));
    let found = Inspected {
        sbat: find(".sbat")?,
        os_release: text(".osrel")?,
        cmdline: text(".cmdline")?,
        uname: text(".uname")?,
        linux: find(".linux")?,
        initrd: find(".initrd")?,
        profile: text(".profile")?,
    };
    let release = bzimage::release(found.linux)?;
    if release != found.uname {
        let why = format!(".uname is {:?}, the kernel image is {release:?}", found.uname);
        return Err(Error::new(Class::Verification, ".uname does not match the kernel image").why(why));
    }
    Ok(found)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use formats::samples::{bzimage, stub};

    /// Returns a stub whose headers have room for more sections.
    pub(crate) fn roomy_stub() -> Vec<u8> {
        let small = stub(0x200);
        let mut bytes = [&small[..0x200], &[0; 0x400], &small[0x200..]].concat();
        bytes[0x58 + 60..0x58 + 64].copy_from_slice(&0x600u32.to_le_bytes());
        for (row, offset) in [(0, 0x600u32), (1, 0x800)] {
            let at = 0x58 + 240 + row * 40 + 20;
            bytes[at..at + 4].copy_from_slice(&offset.to_le_bytes());
        }
        bytes
    }

    fn parts(linux: &[u8]) -> UkiParts<'_> {
        UkiParts {
            os_release: "ID=talos\n",
            cmdline: "console=tty0 pti=on",
            linux,
            initrd: b"initrd",
            profile: "ID=main",
        }
    }

    #[test]
    fn round_trips() {
        let linux = bzimage("6.12.117-talos (x) #1");
        let image = build(&roomy_stub(), &parts(&linux)).unwrap();
        let found = inspect(&image).unwrap();
        assert_eq!(
            (found.os_release, found.cmdline, found.uname),
            ("ID=talos\n", "console=tty0 pti=on", "6.12.117-talos")
        );
        assert_eq!(
            (found.sbat, found.linux, found.initrd, found.profile),
            (&b"sbat!"[..], &linux[..], &b"initrd"[..], "ID=main")
        );
    }

    #[test]
    fn digest_is_reproducible() {
        let linux = bzimage("6.12.117-talos (x) #1");
        let digest = common::Sha256::of(build(&roomy_stub(), &parts(&linux)).unwrap()).to_string();
        assert_eq!(digest, "95d563c2a2c1cb12b5cea2c41bd048d11032930121970d79f6c642dc6a1b45d4");
    }

    #[test]
    fn invalid_parts_are_rejected() {
        let linux = bzimage("6.12.117-talos x");
        let build_with = |parts: UkiParts<'_>| build(&roomy_stub(), &parts).unwrap_err().to_string();
        assert!(build_with(UkiParts { cmdline: &"x".repeat(2048), ..parts(&linux) }).contains("2047"));
        assert!(build_with(UkiParts { cmdline: "a\nb", ..parts(&linux) }).contains("'\\n'"));
        assert!(build_with(parts(b"no kernel")).contains("bzImage"));
        assert!(build_with(UkiParts { initrd: b"", ..parts(&linux) }).contains(".initrd"));
        let mut other = roomy_stub();
        other[0x58 + 240 + 40] = b'x';
        assert!(build(&other, &parts(&linux)).unwrap_err().to_string().contains(".sbat"));
        let full = build(&roomy_stub(), &parts(&linux)).unwrap();
        assert!(build(&full, &parts(&linux)).unwrap_err().to_string().contains("already"), "an image is not a stub");
    }

    #[test]
    fn a_flipped_byte_of_the_release_is_detected() {
        let linux = bzimage("6.12.117-talos x");
        let mut image = build(&roomy_stub(), &parts(&linux)).unwrap();
        let at = image.windows(14).position(|w| w == b"6.12.117-talos").unwrap();
        image[at] = b'7';
        assert_eq!(inspect(&image).unwrap_err().class(), Class::Verification);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(flips in proptest::collection::vec((0usize..0x1800, 0u8..), 0..12)) {
            let mut image = build(&roomy_stub(), &parts(&bzimage("6.12 x"))).unwrap();
            for (at, value) in flips {
                let at = at % image.len();
                image[at] = value;
            }
            let _ = inspect(&image);
        }
    }
}
