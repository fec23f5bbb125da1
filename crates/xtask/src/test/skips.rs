//! Which skipped tests are allowed to be skipped.

use std::collections::BTreeSet;

use anyhow::Result;
use serde::Deserialize;

/// `tests/allowed-skips.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    #[serde(default)]
    skip: Vec<Entry>,
}

/// A test that may be skipped.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// `PROGRAM::TEST`, or `PROGRAM` if it skips as a whole.
    test: String,
    /// Part of what it reports as missing: a skip for any other reason is not allowed.
    missing: String,
    /// Why that is acceptable.
    because: String,
    /// Whether root may skip it as well.
    #[serde(default = "yes")]
    root: bool,
}

fn yes() -> bool {
    true
}

impl Allowed {
    /// Reads the list.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    fn find(&self, line: &str, root: bool) -> Option<&Entry> {
        let (test, why) = line.split_once(": ")?;
        self.skip.iter().find(|entry| entry.test == test && why.contains(&entry.missing) && (entry.root || !root))
    }
}

/// The skips of one run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Those on the list, with the reason given there.
    pub allowed: Vec<String>,
    /// All others.
    pub unexpected: Vec<String>,
    /// How many tests returned early, which their programs count as passed.
    pub tests: usize,
}

/// Sorts the recorded lines by the list. `ignored` counts tests of programs that skip as a whole: each needs a recorded reason.
pub fn sort(record: &str, allowed: &Allowed, root: bool, ignored: usize) -> Found {
    let mut found = Found::default();
    let lines: BTreeSet<_> = record.lines().collect();
    for line in &lines {
        match allowed.find(line, root) {
            Some(entry) => found.allowed.push(format!("{line} (allowed because {})", entry.because)),
            None => found.unexpected.push((*line).to_owned()),
        }
    }
    let names: BTreeSet<_> = lines.iter().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    found.tests = names.iter().filter(|name| name.contains("::")).count();
    if ignored > 0 && found.tests == names.len() {
        found.unexpected.push(format!("{ignored} ignored tests, for no reported reason"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "[[skip]]\ntest = 'reference_tools::newer'\nmissing = 'COSIGN3'\nbecause = 'Debian has none'\n\
        [[skip]]\ntest = 'offline::bundle'\nmissing = 'unshare'\nbecause = 'it needs root'\nroot = false\n";

    fn sorted(record: &str, root: bool, ignored: usize) -> Found {
        sort(record, &Allowed::parse(LIST).unwrap(), root, ignored)
    }

    #[test]
    fn a_listed_skip_passes_for_the_listed_reason_alone() {
        let found = sorted("reference_tools::newer: COSIGN3 is not set\n", true, 0);
        assert_eq!(found.allowed, ["reference_tools::newer: COSIGN3 is not set (allowed because Debian has none)"]);
        assert!(found.unexpected.is_empty());
        assert_eq!(
            sorted("reference_tools::newer: no toolchain\n", true, 0).unexpected,
            ["reference_tools::newer: no toolchain"]
        );
        assert_eq!(sorted("other::newer: COSIGN3\n", true, 0).unexpected.len(), 1);
        assert_eq!(sorted("nonsense", true, 0).unexpected, ["nonsense"]);
        assert_eq!(sorted("", true, 0), Found::default());
    }

    #[test]
    fn root_is_allowed_less() {
        let record = "offline::bundle: no unshare\n";
        assert!(sorted(record, false, 0).unexpected.is_empty());
        assert_eq!(sorted(record, true, 0).unexpected, ["offline::bundle: no unshare"]);
    }

    #[test]
    fn a_test_counts_once_and_a_program_not_at_all() {
        let found = sorted("a::b: no x\na::b: no y\na::b: no y\nboot: no z\n", true, 9);
        assert_eq!((found.tests, found.unexpected.len()), (1, 3));
    }

    #[test]
    fn ignored_tests_need_a_reason() {
        let found = sorted("reference_tools::newer: COSIGN3 is not set\n", true, 2);
        assert_eq!(found.unexpected, ["2 ignored tests, for no reported reason"]);
    }

    #[test]
    fn our_list_reads_and_gives_reasons() {
        let list = Allowed::parse(include_str!("../../../../tests/allowed-skips.toml")).unwrap();
        assert!(!list.skip.is_empty());
        assert!(list.skip.iter().all(|e| !e.test.is_empty() && !e.missing.is_empty() && e.because.len() > 20));
    }
}
