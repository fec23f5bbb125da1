//! Parses KTAP, the test results that KUnit prints to the kernel log (Documentation/dev-tools/ktap.rst).

use crate::console::message;

/// Counts over all test cases; suites are not counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Cases that passed.
    pub passed: usize,
    /// Cases that were skipped.
    pub skipped: usize,
    /// Names of cases and suites that failed.
    pub failed: Vec<String>,
    /// Suites that passed.
    pub suites: Vec<String>,
}

/// Counts the results in a kernel log. Unindented results are suites, those indented by four blanks or more are cases.
#[must_use]
pub fn summarize(log: &str) -> Summary {
    let mut summary = Summary::default();
    for line in log.lines() {
        let text = strip_timestamp(line);
        let depth = text.len() - text.trim_start().len();
        let Some((passed, rest)) = result(text.trim()) else { continue };
        let (name, directive) = rest.split_once(" # ").unwrap_or((rest, ""));
        let name = name.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ' || c == '-').to_owned();
        if !passed {
            summary.failed.push(name);
        } else if depth == 0 {
            summary.suites.push(name);
        } else if directive.starts_with("SKIP") {
            summary.skipped += 1;
        } else {
            summary.passed += 1;
        }
    }
    summary
}

fn result(text: &str) -> Option<(bool, &str)> {
    text.strip_prefix("ok ").map(|rest| (true, rest)).or_else(|| text.strip_prefix("not ok ").map(|rest| (false, rest)))
}

/// Strips the timestamp but keeps the indentation, which is KTAP's nesting.
fn strip_timestamp(line: &str) -> &str {
    if line.starts_with('[') {
        let bare = message(line);
        let start = line.len() - bare.len();
        let blanks = line[..start].len() - line[..start].trim_end().len();
        // One blank belongs to the timestamp; the rest is indentation.
        return &line[start - blanks.saturating_sub(1)..];
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "KTAP version 1\n1..2\n    KTAP version 1\n    # Subtest: rust_doctests_kernel\n    1..3\n    \
                       # rust_doctest_kernel_sync_rs_0.location: rust/kernel/sync.rs:1\n    ok 1 rust_doctest_kernel_sync_rs_0\n    \
                       ok 2 b # SKIP no such thing\n    not ok 3 c\n# rust_doctests_kernel: pass:1 fail:1 skip:1 total:3\n\
                       not ok 1 rust_doctests_kernel\n[    0.5]     ok 1 d\n[    0.5] ok 2 policy\n";

    #[test]
    fn cases_and_suites_are_counted_separately() {
        let summary = summarize(LOG);
        assert_eq!((summary.passed, summary.skipped), (2, 1));
        assert_eq!(summary.failed, ["c", "rust_doctests_kernel"]);
        assert_eq!(summary.suites, ["policy"]);
    }

    #[test]
    fn a_log_without_results_is_empty() {
        assert_eq!(summarize("booting\nnothing ok here\n"), Summary::default());
    }
}
