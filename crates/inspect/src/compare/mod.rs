//! Finds the first member that differs: output → image → layer → file → section.
//!
//! Content is compared before metadata, because a changed byte also changes sizes, digests and manifests further out; those are
//! reported only if all content is equal.

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

/// One step of the path to a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Kind of the member: `image`, `layer`, `file`, `section`, …
    pub kind: &'static str,
    /// Name of the member.
    pub name: String,
}

/// How two members differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum How {
    /// Only one side has the member.
    Only {
        /// Which side.
        r#in: Side,
    },
    /// Bytes differ from this offset on; lengths may differ, too.
    Bytes {
        /// Offset of the first difference.
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
    /// A value differs: of a JSON document, or metadata of an archive's member.
    Value {
        /// Value in the first.
        first: String,
        /// Value in the second.
        second: String,
    },
    /// The members are equal, but in a different order.
    Order,
}

/// One of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The first.
    First,
    /// The second.
    Second,
}

/// The first difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Path from the outermost to the innermost member.
    pub path: Vec<Step>,
    /// Kind of difference.
    #[serde(flatten)]
    pub how: How,
}

impl Difference {
    fn new(how: How) -> Self {
        Self { path: Vec::new(), how }
    }

    /// Prepends the member `name` to the path.
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
        // Quoted, with control characters escaped.
        let line = |line: &Option<String>| line.as_ref().map_or("nothing".to_owned(), |line| format!("{line:?}"));
        match self {
            Self::Only { r#in: Side::First } => f.write_str("only in the first"),
            Self::Only { r#in: Side::Second } => f.write_str("only in the second"),
            Self::Bytes { at, lengths: (a, b) } if a == b => write!(f, "byte {at} of {a}"),
            Self::Bytes { at, lengths: (a, b) } => write!(f, "byte {at}; {a} bytes and {b} bytes"),
            Self::Line { number, first, second } => write!(f, "line {number}: {} and {}", line(first), line(second)),
            Self::Value { first, second } => write!(f, "{} and {}", one_line(first), one_line(second)),
            Self::Order => f.write_str("the same members in a different order"),
        }
    }
}

/// Walks two lists of named members in parallel. `each` compares two members of the same name; the first difference ends the walk.
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

/// Whether the names of two lists are in a different order.
fn reordered<T>(first: &[T], second: &[T], name: impl Fn(&T) -> &str) -> bool {
    first.len() != second.len() || first.iter().zip(second).any(|(a, b)| name(a) != name(b))
}
