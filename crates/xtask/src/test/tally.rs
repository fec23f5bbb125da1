//! Adds up the results that test programs print.

use std::fmt;

/// Tests by their results, over any number of test programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: usize,
    /// Failed; a program that ended without a result counts as one.
    pub failed: usize,
    /// Did not run, as the program reported.
    pub ignored: usize,
    /// Passed only because they returned early.
    skipped: usize,
}

impl Tally {
    /// Takes a line of a program's output.
    pub fn line(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for count in counts.split("; ") {
            match count.split_once(' ').map(|(number, what)| (number.parse::<usize>(), what)) {
                Some((Ok(number), "passed")) => self.passed += number,
                Some((Ok(number), "failed")) => self.failed += number,
                Some((Ok(number), "ignored")) => self.ignored += number,
                _ => {}
            }
        }
    }

    /// Takes the end of a run of cargo: one that failed without a failed test did not compile, or a program crashed.
    pub fn ended(&mut self, success: bool) {
        if !success && self.failed == 0 {
            self.failed = 1;
        }
    }

    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.skipped += other.skipped;
    }

    /// Counts `tests` of those that passed as skipped.
    pub fn returned_early(&mut self, tests: usize) {
        self.passed = self.passed.saturating_sub(tests);
        self.skipped += tests;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, ignored, skipped } = self;
        write!(f, "tests: {passed} passed, {failed} failed, {} skipped", ignored + skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_results_of_both_harnesses() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.45s",
            "test result: FAILED. 1 passed; 2 failed; 4 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "test a::result: ok. 7 passed ... ok",
        ] {
            tally.line(line);
        }
        tally.ended(false);
        tally.returned_early(3);
        assert_eq!(tally.to_string(), "tests: 10 passed, 2 failed, 7 skipped");
        let mut all = tally;
        all.add(&tally);
        assert_eq!(all.to_string(), "tests: 20 passed, 4 failed, 14 skipped");
    }

    #[test]
    fn a_program_that_crashed_counts_as_failed() {
        let mut tally = Tally::default();
        tally.line("test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.45s");
        tally.ended(true);
        assert_eq!(tally.failed, 0);
        tally.ended(false);
        assert_eq!(tally.failed, 1);
    }
}
