//! What a kernel-devel tree says of itself.

use std::collections::BTreeMap;

use common::{Class, Error, Result, Sha256};
use serde::{Deserialize, Serialize};

/// Name of the record in a tree.
pub const RECORD: &str = "kernel-devel.json";

/// The shape of the record that we write and read.
const SCHEMA: u32 = 1;

/// Which kernel, and what compiled it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    schema: u32,
    /// Release string of the kernel, such as `6.12.117-talos`.
    pub release: String,
    /// Identity of the toolchain: the digest of all its packages' versions.
    pub toolchain: Sha256,
    /// Version of each package that compiles, links or writes metadata, for people.
    pub compilers: BTreeMap<String, String>,
    /// SHA-256 of the kernel's configuration.
    pub config: Sha256,
    /// SHA-256 of the certificate (PEM) that the kernel trusts.
    pub certificate: Sha256,
}

impl Record {
    /// A record of today's shape.
    #[must_use]
    pub fn new(
        release: &str,
        (toolchain, compilers): (Sha256, BTreeMap<String, String>),
        config: Sha256,
        certificate: Sha256,
    ) -> Self {
        Self { schema: SCHEMA, release: release.to_owned(), toolchain, compilers, config, certificate }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Class::BadInput`] when it is malformed or of another shape.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: String| Error::new(Class::BadInput, "cannot use the record of a kernel-devel image").why(why);
        let record: Self = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        if record.schema != SCHEMA {
            return Err(bad(format!("its schema is {}, {SCHEMA} is known", record.schema)));
        }
        Ok(record)
    }

    /// The record as text, the same for the same record.
    ///
    /// # Errors
    /// None in practice.
    pub fn json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        text.map(|text| text + "\n").map_err(|e| Error::new(Class::BadInput, "cannot write a record").why(e))
    }

    /// Refuses unless the kernel is `release`.
    ///
    /// # Errors
    /// [`Class::BadInput`] naming both.
    pub fn check_release(&self, release: &str) -> Result<()> {
        if self.release == release {
            return Ok(());
        }
        Err(Error::new(Class::BadInput, "the kernel-devel image is for another kernel")
            .why(format!("the image is for {}, wanted is {release}", self.release))
            .hint(format!("give the image of {release}, or say --kernel {} if that kernel is meant", self.release)))
    }

    /// Refuses unless `toolchain` is the one that compiled the kernel; `version` gives the version of a package here.
    ///
    /// # Errors
    /// [`Class::Verification`] naming the compilers that differ.
    pub fn check_toolchain(&self, toolchain: &Sha256, version: impl Fn(&str) -> Option<String>) -> Result<()> {
        if self.toolchain == *toolchain {
            return Ok(());
        }
        let differs = |(name, theirs): (&String, &String)| {
            let ours = version(name).unwrap_or_else(|| "absent".to_owned());
            (ours != *theirs).then(|| format!("{name}: {theirs} compiled the kernel, {ours} is here"))
        };
        let mut why: Vec<_> = self.compilers.iter().filter_map(differs).collect();
        if why.is_empty() {
            why.push(format!(
                "the compilers are the same, other packages differ: {} there, {toolchain} here",
                self.toolchain
            ));
        }
        Err(Error::new(Class::Verification, "this toolchain is not the one that compiled the kernel")
            .why(why.join("\n"))
            .hint("use the project's revision that the image was built with, or build kernel and image anew"))
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
    fn is_read_as_it_was_written() {
        let text = record().json().unwrap();
        assert_eq!(Record::parse(&text).unwrap(), record());
        for (from, to, word) in [
            ("\"schema\": 1", "\"schema\": 2", "schema is 2"),
            ("\"schema\"", "\"sceme\"", "sceme"),
            ("\"release\"", "\"other\"", "other"),
            ("{", "", "expected"),
        ] {
            let error = Record::parse(&text.replacen(from, to, 1)).unwrap_err();
            assert!(error.class() == Class::BadInput && error.to_string().contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn another_kernel_is_named() {
        record().check_release("6.12.117-talos").unwrap();
        let error = record().check_release("6.18.1-talos").unwrap_err();
        assert_eq!(error.class(), Class::BadInput);
        assert!(error.to_string().contains("for 6.12.117-talos, wanted is 6.18.1-talos"), "{error}");
    }

    #[test]
    fn another_compiler_is_named() {
        let here = |name: &str| Some(if name == "rustc" { "3" } else { "1" }.to_owned());
        record().check_toolchain(&Sha256::of("t"), here).unwrap();
        let error = record().check_toolchain(&Sha256::of("u"), here).unwrap_err();
        assert_eq!(error.class(), Class::Verification);
        assert!(error.to_string().contains("why: rustc: 2 compiled the kernel, 3 is here\n"), "{error}");
        let same = |name: &str| record().compilers.get(name).cloned();
        let error = record().check_toolchain(&Sha256::of("u"), same).unwrap_err();
        assert!(error.to_string().contains("other packages differ"), "{error}");
    }
}
