//! A violated rule: path, problem and fix.

use std::fmt;

use common::text::count;
use common::{Class, Error};

/// One violated rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Path in the extension image.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

impl Violation {
    /// Creates a violation at `path`.
    pub fn new(path: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into(), fix: fix.into() }
    }

    /// Combines `violations` into one error.
    #[must_use]
    pub fn error(class: Class, violations: &[Self]) -> Error {
        let lines: Vec<_> = violations.iter().map(Self::to_string).collect();
        Error::new(class, format!("the extension breaks {}", count(lines.len(), "rule"))).why(lines.join("\n"))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path, self.problem, self.fix)
    }
}
