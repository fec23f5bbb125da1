//! Gives the program `installer` in an installer image a version tag of its own.
//!
//! Talos before 1.11.6 (and every 1.10) stores the unified kernel image (UKI) on the boot partition as `Talos-<tag>.efi`, where the tag is
//! the one compiled into the installer program (`sdboot.go`, `install`). If two images have the same tag, an upgrade from one to the other
//! overwrites the running UKI: there is nothing to roll back to, and a power cut during the copy leaves nothing to boot. So every image
//! gets a program whose tag contains the digest of its UKI. Nothing else of Talos reads this tag.
//!
//! The program is compiled once with a placeholder of the same length; only these bytes are replaced.

use common::{Class, Error, Result, Sha256};

/// Hexadecimal digits of the UKI's digest at the end of the tag.
const DIGITS: usize = 10;

/// The placeholder for Talos `release`, such as `v1.10.3`.
#[must_use]
pub fn placeholder(release: &str) -> String {
    tag_with(release, &"0".repeat(DIGITS))
}

/// The tag for a UKI.
#[must_use]
pub fn tag(release: &str, uki: &Sha256) -> String {
    tag_with(release, &uki.to_string()[..DIGITS])
}

fn tag_with(release: &str, digits: &str) -> String {
    format!("{release}-solana.build-{digits}")
}

/// Replaces the placeholder in `program` by the tag for `uki`.
///
/// # Errors
/// [`Class::UntrustedData`] unless the program contains the placeholder exactly once.
pub fn stamp(mut program: Vec<u8>, release: &str, uki: &Sha256) -> Result<Vec<u8>> {
    let placeholder = placeholder(release);
    let found: Vec<usize> = memchr::memmem::find_iter(&program, &placeholder).collect();
    let [at] = found[..] else {
        return Err(Error::new(Class::UntrustedData, "the installer program cannot be given a tag of its own")
            .why(format!("it contains the placeholder {placeholder} {} times instead of once", found.len())));
    };
    program[at..at + placeholder.len()].copy_from_slice(tag(release, uki).as_bytes());
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The program is built with the tag in this file.
    #[test]
    fn the_program_is_built_with_the_placeholder() {
        let programs = include_str!("../base/go/programs.toml");
        assert_eq!(programs.matches(&format!("= \"{}\"", placeholder("v1.10.3"))).count(), 1);
    }

    #[test]
    fn only_the_placeholder_changes() {
        let uki = Sha256::of("uki");
        let program = format!("\0v1.10.3\0{}\0more", placeholder("v1.10.3"));
        let stamped = String::from_utf8(stamp(program.clone().into(), "v1.10.3", &uki).unwrap()).unwrap();
        let tag = format!("v1.10.3-solana.build-{}", &uki.to_string()[..10]);
        assert_eq!(stamped, format!("\0v1.10.3\0{tag}\0more"));
        assert_eq!(stamped.len(), program.len());
    }

    #[test]
    fn different_images_have_different_tags() {
        assert_ne!(tag("v1.10.3", &Sha256::of("a")), tag("v1.10.3", &Sha256::of("b")));
    }

    /// Talos parses it as a semantic version; a numeric identifier must not start with a zero.
    #[test]
    fn the_tag_is_a_semantic_version() {
        let identifier = placeholder("v1.10.3").rsplit('.').next().unwrap().to_owned();
        assert!(identifier.starts_with("build-") && identifier.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-'));
    }

    #[test]
    fn a_program_without_the_placeholder_or_with_two_is_refused() {
        let one = placeholder("v1.10.3");
        for program in [String::new(), "v1.10.3".to_owned(), format!("{one} {one}"), placeholder("v1.10.4")] {
            let error = stamp(program.clone().into(), "v1.10.3", &Sha256::of("x")).unwrap_err();
            assert_eq!(error.class(), Class::UntrustedData, "{program}");
            assert!(error.to_string().contains("instead of once"), "{error}");
        }
    }
}
