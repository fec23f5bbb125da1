//! Warnings in the kernel's log that `tests/kernel-warnings.toml` does not list.

use crate::Result;
use anyhow::Context as _;
use serde::Deserialize;

/// Severities that count, in Talos's words (syslog's, RFC 5424, table 2).
const SEVERE: [&str; 5] = ["warning:", "err:", "crit:", "alert:", "emerg:"];

/// `tests/kernel-warnings.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    #[serde(rename = "warning")]
    warnings: Vec<Warning>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Warning {
    /// A part of the line.
    text: String,
    /// Why it is no fault.
    because: String,
    /// Where it is found.
    #[serde(default)]
    on: On,
}

/// On which kernels a listed warning is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum On {
    /// On stock Talos as well.
    #[default]
    Stock,
    /// On ours only.
    Ours,
    /// On both, but not at each boot.
    Sometimes,
}

impl Expected {
    /// Parses the file.
    ///
    /// # Errors
    /// For malformed TOML, unknown keys, or an entry without text or reason.
    pub fn parse(text: &str) -> Result<Self> {
        let expected: Self = toml::from_str(text).context("kernel-warnings.toml is malformed")?;
        anyhow::ensure!(
            expected.warnings.iter().all(|one| !one.text.is_empty() && !one.because.is_empty()),
            "an entry of kernel-warnings.toml has an empty text or reason"
        );
        Ok(expected)
    }

    /// The list of this repository.
    ///
    /// # Errors
    /// As [`Expected::parse`].
    pub fn committed() -> Result<Self> {
        Self::parse(include_str!("../kernel-warnings.toml"))
    }

    /// Returns the texts of warnings and errors in `log` that are not listed. `log` is what `talosctl dmesg` prints:
    /// `NODE: kern: SEVERITY: [TIME]: TEXT`; lines of other facilities are of Talos's services.
    #[must_use]
    pub fn others<'a>(&self, log: &'a str) -> Vec<&'a str> {
        let listed = |text: &str| self.warnings.iter().any(|one| text.contains(&one.text));
        log.lines().filter_map(severe).filter(|text| !listed(text)).collect()
    }

    /// Returns the listed warnings in our log `ours` that the list says stock Talos has too, but its log `stock` does not have.
    #[must_use]
    pub fn new_on_ours(&self, ours: &str, stock: &str) -> Vec<&str> {
        let has = |log: &str, text: &str| log.lines().filter_map(severe).any(|line| line.contains(text));
        let on_both = self.warnings.iter().filter(|one| one.on == On::Stock).map(|one| one.text.as_str());
        on_both.filter(|text| has(ours, text) && !has(stock, text)).collect()
    }
}

/// The text of a line of the kernel with the severity of a warning or above.
fn severe(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let (_node, facility, severity) = (words.next()?, words.next()?, words.next()?);
    if facility != "kern:" || !SEVERE.contains(&severity) {
        return None;
    }
    Some(line.split_once("]: ")?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
127.0.0.1: kern:    info: [2026-11-30T21:09:57.3Z]: tsc: Detected 2442.307 MHz processor
127.0.0.1: kern: warning: [2026-11-30T21:09:57.3Z]: tsc: Unable to calibrate against PIT
127.0.0.1: kern: warning: [2026-11-30T21:10:40.3Z]: BUG: something
127.0.0.1: kern:     err: [2026-11-30T21:10:41.3Z]: ata1: failed [0]: again
127.0.0.1: user: warning: [2026-11-30T21:10:42.3Z]: [talos] volume status
";

    #[test]
    fn warnings_that_are_not_listed_are_found() {
        let list = "[[warning]]\ntext = \"calibrate against PIT\"\nbecause = \"emulated\"\n";
        assert_eq!(Expected::parse(list).unwrap().others(LOG), ["BUG: something", "ata1: failed [0]: again"]);
    }

    #[test]
    fn a_warning_that_stock_talos_does_not_have_is_found() {
        let list = |on: &str| format!("[[warning]]\ntext = \"calibrate against PIT\"\nbecause = \"emulated\"\n{on}");
        let new = |on: &str, stock: &str| Expected::parse(&list(on)).unwrap().new_on_ours(LOG, stock).len();
        assert_eq!((new("", LOG), new("", ""), new("on = \"stock\"", "")), (0, 1, 1));
        assert_eq!((new("on = \"ours\"", ""), new("on = \"sometimes\"", "")), (0, 0));
        assert!(Expected::parse(&list("on = \"both\"")).is_err());
    }

    #[test]
    fn the_committed_list_is_well_formed() {
        Expected::committed().unwrap();
        assert!(Expected::parse("[[warning]]\ntext = \"a\"\n").is_err(), "no reason");
        assert!(Expected::parse("[[warning]]\ntext = \"\"\nbecause = \"b\"\n").is_err(), "no text");
    }
}
