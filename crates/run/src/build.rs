//! The output directory of a build, as far as booting it needs it.

use std::path::{Path, PathBuf};

use common::{Class, Error, Result};
use serde::Deserialize;

use crate::size::huge_pages_mib;

/// MiB that a node needs besides its huge pages: Talos with a control plane, and the installer image while it installs.
const DEFAULT_EXTRA_MIB: u32 = 4096;

/// MiB that a node needs at least, besides its huge pages.
const MIN_EXTRA_MIB: u32 = 1024;

/// A build that can be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// The unified kernel image.
    pub uki: PathBuf,
    /// The preset in it.
    pub preset: String,
    /// The base it was built on.
    pub base: String,
    /// The kernel profile.
    pub profile: String,
    /// MiB of huge pages that its command line reserves.
    pub huge_pages_mib: u32,
}

/// The fields of `build.json` that are read.
#[derive(Deserialize)]
struct Record {
    preset: String,
    base: String,
    profile: String,
}

impl Build {
    /// Reads the output directory `out`.
    ///
    /// # Errors
    /// [`Class::BadInput`] when the build output is missing, incomplete or malformed.
    pub fn open(out: &Path) -> Result<Self> {
        let read = |name: &str| std::fs::read_to_string(out.join(name)).map_err(|why| absent(&out.join(name), &why));
        let record: Record = serde_json::from_str(&read("build.json")?).map_err(|why| {
            Error::new(Class::BadInput, "build record is malformed").file(out.join("build.json")).why(why)
        })?;
        let huge_pages_mib = huge_pages_mib(&read("cmdline")?);
        let uki = out.join("vmlinuz.efi");
        std::fs::metadata(&uki).map_err(|why| absent(&uki, &why))?;
        let Record { preset, base, profile } = record;
        Ok(Self { uki, preset, base, profile, huge_pages_mib })
    }

    /// Whether it contains the testbed and not Talos.
    #[must_use]
    pub fn is_testbed(&self) -> bool {
        self.base == "testbed"
    }

    /// Returns the memory of a node in MiB: `given`, or enough for the huge pages and 4 GiB more. The host only provides what the guest touches.
    ///
    /// # Errors
    /// [`Class::BadInput`] when `given` does not fit the huge pages and 1 GiB more.
    pub fn memory_mib(&self, given: Option<u32>) -> Result<u32> {
        let least = self.huge_pages_mib.saturating_add(MIN_EXTRA_MIB);
        match given {
            None => Ok(self.huge_pages_mib.saturating_add(DEFAULT_EXTRA_MIB)),
            Some(given) if given >= least => Ok(given),
            Some(given) => {
                Err(Error::new(Class::BadInput, format!("{given} MiB of memory is not enough to boot this build"))
                    .why(format!("preset {} reserves {} MiB of huge pages at boot", self.preset, self.huge_pages_mib))
                    .hint(format!(
                        "give at least {least}M (the host only provides what the guest touches), or build with fewer: \
                     `./x build --extra-kernel-arg=-hugepages --extra-kernel-arg=hugepages=64`"
                    )))
            }
        }
    }
}

fn absent(file: &Path, why: &std::io::Error) -> Error {
    Error::new(Class::BadInput, "build output not found")
        .file(file)
        .why(why)
        .hint("run `./x build` first, or give its `--out`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(record: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("build.json", record), ("cmdline", "a hugepages=512\n"), ("vmlinuz.efi", "MZ")] {
            fs_err::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    const RECORD: &str = r#"{"preset": "agave", "base": "testbed", "profile": "vm", "more": 1}"#;

    #[test]
    fn a_build_says_what_memory_it_needs() {
        let dir = out(RECORD);
        let build = Build::open(dir.path()).unwrap();
        assert_eq!((build.preset.as_str(), build.is_testbed(), build.huge_pages_mib), ("agave", true, 1024));
        assert_eq!(build.memory_mib(None).unwrap(), 5120);
        assert_eq!(build.memory_mib(Some(2048)).unwrap(), 2048);
        let error = build.memory_mib(Some(2047)).unwrap_err();
        assert_eq!(error.class(), Class::BadInput);
        assert!(
            error.to_string().contains("preset agave reserves 1024 MiB") && error.to_string().contains("2048M"),
            "{error}"
        );
    }

    #[test]
    fn an_incomplete_or_malformed_build_is_refused() {
        for name in ["build.json", "cmdline", "vmlinuz.efi"] {
            let dir = out(RECORD);
            fs_err::remove_file(dir.path().join(name)).unwrap();
            let error = Build::open(dir.path()).unwrap_err().to_string();
            assert!(
                error.contains("build output not found") && error.contains(name) && error.contains("./x build"),
                "{error}"
            );
        }
        let error = Build::open(out(r#"{"preset": "agave"}"#).path()).unwrap_err().to_string();
        assert!(error.contains("missing field `base`"), "{error}");
    }
}
