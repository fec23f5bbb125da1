//! Names the first member in which two things differ: output → image → layer → file → section.
//!
//! Content comes before what describes it, for a changed byte also changes sizes, digests and manifests further out; those are
//! named only where all content is equal.

mod bytes;
mod layout;
mod outputs;
mod text;

use std::fmt;

use serde::Serialize;

use common::text::one_line;

pub use bytes::bytes;
pub use layout::layers;
pub use outputs::{Row, files, layouts, outputs};

/// One step on the way to a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is: `image`, `layer`, `file`, `section`, …
    pub kind: &'static str,
    /// Which one.
    pub name: String,
}

/// How two members differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum How {
    /// One of the two lacks it.
    Only {
        /// Where it is.
        r#in: Side,
    },
    /// Bytes differ, from this one on; lengths may, too.
    Bytes {
        /// Offset of the first.
        at: u64,
        /// Length of both members, in bytes.
        lengths: (u64, u64),
    },
    /// A line of text differs.
    Line {
        /// Its number, from 1.
        number: usize,
        /// The line in the first.
        first: Option<String>,
        /// The line in the second.
        second: Option<String>,
    },
    /// A value differs: of a JSON document, or what an archive says of a member.
    Value {
        /// It in the first.
        first: String,
        /// It in the second.
        second: String,
    },
    /// The members are the same and stand in another order.
    Order,
}

/// One of the two that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The first.
    First,
    /// The second.
    Second,
}

/// Where two things first differ, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// From the outermost to the innermost.
    pub path: Vec<Step>,
    /// How.
    #[serde(flatten)]
    pub how: How,
}

impl Difference {
    fn new(how: How) -> Self {
        Self { path: Vec::new(), how }
    }

    /// The same, found inside the member `name`.
    #[must_use]
    pub(crate) fn inside(mut self, kind: &'static str, name: impl Into<String>) -> Self {
        self.path.insert(0, Step { kind, name: name.into() });
        self
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.path.iter().enumerate() {
            let arrow = if at == 0 { "" } else { " > " };
            write!(f, "{arrow}{} {}", step.kind, one_line(&step.name))?;
        }
        let colon = if self.path.is_empty() { "" } else { ": " };
        write!(f, "{colon}{}", self.how)
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Quoted, and with escapes for all that is no plain text.
        let line = |line: &Option<String>| line.as_ref().map_or("nothing".to_owned(), |line| format!("{line:?}"));
        match self {
            Self::Only { r#in: Side::First } => f.write_str("only in the first"),
            Self::Only { r#in: Side::Second } => f.write_str("only in the second"),
            Self::Bytes { at, lengths: (a, b) } if a == b => write!(f, "byte {at} of {a}"),
            Self::Bytes { at, lengths: (a, b) } => write!(f, "byte {at}; {a} bytes and {b} bytes"),
            Self::Line { number, first, second } => write!(f, "line {number}: {} and {}", line(first), line(second)),
            Self::Value { first, second } => write!(f, "{} and {}", one_line(first), one_line(second)),
            Self::Order => f.write_str("the same members in another order"),
        }
    }
}

/// Walks two lists of named members side by side. `each` compares two members of one name; the first difference ends the walk.
///
/// # Errors
/// What `each` reports.
fn pairs<'a, T, E>(
    first: &'a [T],
    second: &'a [T],
    name: impl Fn(&'a T) -> &'a str,
    mut each: impl FnMut(&'a T, &'a T) -> Result<Option<Difference>, E>,
) -> Result<Option<(&'a str, Difference)>, E> {
    let index =
        |list: &'a [T]| list.iter().map(|item| (name(item), item)).collect::<std::collections::BTreeMap<_, _>>();
    let (in_first, in_second) = (index(first), index(second));
    for at in 0..first.len().max(second.len()) {
        if let Some(item) = second.get(at).map(&name).filter(|name| !in_first.contains_key(name)) {
            return Ok(Some((item, Difference::new(How::Only { r#in: Side::Second }))));
        }
        let Some(item) = first.get(at) else { continue };
        let Some(other) = in_second.get(name(item)) else {
            return Ok(Some((name(item), Difference::new(How::Only { r#in: Side::First }))));
        };
        if let Some(difference) = each(item, other)? {
            return Ok(Some((name(item), difference)));
        }
    }
    Ok(None)
}

/// Whether the names of two lists stand in another order.
fn reordered<T>(first: &[T], second: &[T], name: impl Fn(&T) -> &str) -> bool {
    first.len() != second.len() || first.iter().zip(second).any(|(a, b)| name(a) != name(b))
}
