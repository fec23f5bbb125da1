//! A broken rule: where, what, and what to do about it.

use std::fmt;

use common::{Class, Error};

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Path in the extension image.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

impl Violation {
    /// A violation at `path`.
    pub fn new(path: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into(), fix: fix.into() }
    }

    /// All of `violations` in one error.
    #[must_use]
    pub fn error(violations: &[Self]) -> Error {
        let lines: Vec<_> = violations.iter().map(Self::to_string).collect();
        Error::new(Class::BadInput, format!("the extension breaks {} rule(s)", lines.len())).why(lines.join("\n"))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path, self.problem, self.fix)
    }
}
