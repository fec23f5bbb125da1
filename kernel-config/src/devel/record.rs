//! The record of a kernel-devel tree: which kernel it is for, and what compiled it.

use std::collections::BTreeMap;

use common::{Class, Error, Result, Sha256};
use serde::{Deserialize, Serialize};

/// File name of the record in a tree.
pub const RECORD: &str = "kernel-devel.json";

/// Version of the record's format.
const SCHEMA: u32 = 1;

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    schema: u32,
    /// Release string of the kernel, such as `6.12.117-talos`.
    pub release: String,
    /// Identity of the toolchain: the digest of all its packages' versions.
    pub toolchain: Sha256,
    /// Version of each package that compiles, links or writes metadata, for messages.
    pub compilers: BTreeMap<String, String>,
    /// SHA-256 of the kernel's configuration.
    pub config: Sha256,
    /// SHA-256 of the certificate (PEM) that the kernel trusts.
    pub certificate: Sha256,
}

impl Record {
    /// Creates a record in the current format.
    #[must_use]
    pub fn new(
        release: &str,
        (toolchain, compilers): (Sha256, BTreeMap<String, String>),
        config: Sha256,
        certificate: Sha256,
    ) -> Self {
        Self { schema: SCHEMA, release: release.to_owned(), toolchain, compilers, config, certificate }
    }

    /// Parses a record.
    ///
    /// # Errors
    /// [`Class::UntrustedData`] when it is malformed or has another schema.
    pub fn parse(text: &str) -> Result<Self> {
        let bad =
            |why: String| Error::new(Class::UntrustedData, "cannot parse the record of a kernel-devel image").why(why);
        let record: Self = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        if record.schema != SCHEMA {
            return Err(bad(format!("unsupported schema {}, expected {SCHEMA}", record.schema)));
        }
        Ok(record)
    }

    /// Returns the record as JSON; the same record always yields the same text.
    ///
    /// # Errors
    /// None in practice.
    pub fn json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        text.map(|text| text + "\n")
            .map_err(|e| Error::new(Class::BadInput, "cannot write the record of a kernel-devel image").why(e))
    }

    /// Checks that the record is for the kernel `release`.
    ///
    /// # Errors
    /// [`Class::BadInput`] naming both.
    pub fn check_release(&self, release: &str) -> Result<()> {
        if self.release == release {
            return Ok(());
        }
        Err(Error::new(Class::BadInput, "the kernel-devel image is for another kernel")
            .why(format!("the image is for {}, requested is {release}", self.release))
            .hint(format!("give the image for {release}, or pass --kernel {} to build for that kernel", self.release)))
    }

    /// Checks that `toolchain` is the one that compiled the kernel; `version` returns the installed version of a package.
    ///
    /// # Errors
    /// [`Class::Verification`] naming the compilers that differ.
    pub fn check_toolchain(&self, toolchain: &Sha256, version: impl Fn(&str) -> Option<String>) -> Result<()> {
        if self.toolchain == *toolchain {
            return Ok(());
        }
        let differs = |(name, theirs): (&String, &String)| {
            let ours = version(name).unwrap_or_else(|| "none".to_owned());
            (ours != *theirs).then(|| format!("{name}: kernel compiled with {theirs}, installed: {ours}"))
        };
        let mut why: Vec<_> = self.compilers.iter().filter_map(differs).collect();
        if why.is_empty() {
            why.push(format!(
                "the compilers are the same, other packages differ: kernel compiled with toolchain {}, installed: {toolchain}",
                self.toolchain
            ));
        }
        Err(Error::new(Class::Verification, "the toolchain is not the one that compiled the kernel")
            .why(why.join("\n"))
            .hint("use the project revision that the image was built with, or rebuild kernel and image"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let compilers = BTreeMap::from([("clang-19".to_owned(), "1".to_owned()), ("rustc".to_owned(), "2".to_owned())]);
        Record::new("6.12.117-talos", (Sha256::of("t"), compilers), Sha256::of("c"), Sha256::of("k"))
    }

    #[test]
    fn writing_and_parsing_round_trips() {
        let text = record().json().unwrap();
        assert_eq!(Record::parse(&text).unwrap(), record());
        for (from, to, word) in [
            ("\"schema\": 1", "\"schema\": 2", "schema 2"),
            ("\"schema\"", "\"sceme\"", "sceme"),
            ("\"release\"", "\"other\"", "other"),
            ("{", "", "expected"),
        ] {
            let error = Record::parse(&text.replacen(from, to, 1)).unwrap_err();
            assert!(error.class() == Class::UntrustedData && error.to_string().contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn the_error_names_both_kernels() {
        record().check_release("6.12.117-talos").unwrap();
        let error = record().check_release("6.18.1-talos").unwrap_err();
        assert_eq!(error.class(), Class::BadInput);
        assert!(error.to_string().contains("for 6.12.117-talos, requested is 6.18.1-talos"), "{error}");
    }

    #[test]
    fn the_error_names_compilers_that_differ() {
        let here = |name: &str| Some(if name == "rustc" { "3" } else { "1" }.to_owned());
        record().check_toolchain(&Sha256::of("t"), here).unwrap();
        let error = record().check_toolchain(&Sha256::of("u"), here).unwrap_err();
        assert_eq!(error.class(), Class::Verification);
        assert!(error.to_string().contains("why: rustc: kernel compiled with 2, installed: 3\n"), "{error}");
        let same = |name: &str| record().compilers.get(name).cloned();
        let error = record().check_toolchain(&Sha256::of("u"), same).unwrap_err();
        assert!(error.to_string().contains("other packages differ"), "{error}");
    }
}
