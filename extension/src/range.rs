//! Version ranges as Talos reads them: blang/semver v4's `ParseRange`, not Cargo's.
//!
//! Conditions beside each other must all hold, `||` between such groups offers a choice, a version without an operator means equality,
//! and `x` stands for any number at the end (`1.10.x`). A `v` before a digit is dropped, as Talos does before it parses.

use std::cmp::Ordering;

use common::{Class, Error, Result};
use semver::Version;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// A parsed range: groups of which one must hold, each of conditions that must all hold. No group at all: everything holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range(Vec<Vec<(Op, Version)>>);

impl Range {
    /// Parses `text`; an empty one holds for every version.
    ///
    /// # Errors
    /// [`Class::BadInput`] when Talos could not parse it, or could never satisfy it.
    pub fn parse(text: &str) -> Result<Self> {
        Self::check(text).map_err(|why| Error::new(Class::BadInput, why).hint("write it like \">= v1.10.0\""))
    }

    /// As [`Range::parse`], with the reason alone.
    pub(crate) fn check(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let bad = |why: String| format!("{text:?} is not a version range: {why}");
        let mut groups = Vec::new();
        for group in words(&without_v(text)).split(|word| word == "||") {
            if group.is_empty() {
                return Err(bad("a side of || is empty".to_owned()));
            }
            let conditions = group.iter().map(|word| condition(word)).collect::<Result<Vec<_>, _>>().map_err(bad)?;
            groups.push(conditions.concat());
        }
        Ok(Self(groups))
    }

    /// Whether `version` satisfies the range. Its pre-release and build tags are ignored, as Talos does.
    #[must_use]
    pub fn holds(&self, version: &Version) -> bool {
        let core = Version::new(version.major, version.minor, version.patch);
        let holds = |(op, bound): &(Op, Version)| match core.cmp_precedence(bound) {
            Ordering::Less => matches!(op, Op::Lt | Op::Le | Op::Ne),
            Ordering::Equal => matches!(op, Op::Eq | Op::Le | Op::Ge),
            Ordering::Greater => matches!(op, Op::Gt | Op::Ge | Op::Ne),
        };
        self.0.is_empty() || self.0.iter().any(|group| group.iter().all(holds))
    }
}

/// `text` without every `v` that stands before a digit.
fn without_v(text: &str) -> String {
    let digit_follows = |at: usize| text[at + 1..].starts_with(|c: char| c.is_ascii_digit());
    text.char_indices().filter(|(at, c)| !(*c == 'v' && digit_follows(*at))).map(|(_, c)| c).collect()
}

/// Words between spaces; an operator may stand apart from its version.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for part in text.split(' ').filter(|part| !part.is_empty()) {
        match words.last_mut() {
            Some(last) if last.ends_with(['<', '>', '=']) => last.push_str(part),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

/// One condition; a wildcard with equality becomes two.
fn condition(word: &str) -> Result<Vec<(Op, Version)>, String> {
    let digit = word.find(|c: char| c.is_ascii_digit()).ok_or_else(|| format!("{word:?} holds no version"))?;
    let (op, version) = word.split_at(digit);
    let op = match op {
        "" | "=" | "==" => Op::Eq,
        "!" | "!=" => Op::Ne,
        "<" => Op::Lt,
        "<=" => Op::Le,
        ">" => Op::Gt,
        ">=" => Op::Ge,
        other => return Err(format!("unknown operator {other:?}")),
    };
    if version.ends_with(".x") {
        return wildcard(op, version);
    }
    Version::parse(version).map(|version| vec![(op, version)]).map_err(|e| format!("{version:?}: {e}"))
}

/// `1.x` or `1.10.x`; Talos takes `1.x.x` as well, but then compares with the wrong bound.
fn wildcard(op: Op, version: &str) -> Result<Vec<(Op, Version)>, String> {
    let numbers: Vec<_> = version.trim_end_matches(".x").split('.').map(str::parse::<u64>).collect();
    let (from, to) = match numbers[..] {
        [Ok(major)] => (Version::new(major, 0, 0), Version::new(major.saturating_add(1), 0, 0)),
        [Ok(major), Ok(minor)] => (Version::new(major, minor, 0), Version::new(major, minor.saturating_add(1), 0)),
        _ => return Err(format!("{version:?} is not a version with a wildcard at its end")),
    };
    if version.ends_with(".x.x") {
        return Err(format!("{version:?} has two wildcards, which Talos misreads"));
    }
    match op {
        Op::Eq => Ok(vec![(Op::Ge, from), (Op::Lt, to)]),
        Op::Lt | Op::Ge => Ok(vec![(op, from)]),
        Op::Le => Ok(vec![(Op::Lt, to)]),
        Op::Gt => Ok(vec![(Op::Ge, to)]),
        // Talos asks for below *and* above at once here, which nothing is.
        Op::Ne => Err(format!("!={version} is never true for Talos")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(range: &str, version: &str) -> bool {
        Range::parse(range).unwrap().holds(&contract::version(version).unwrap())
    }

    #[test]
    fn reads_ranges_as_talos_does() {
        for (range, yes, no) in [
            (">= v1.10.0", "v1.10.0", "v1.9.9"),
            (">=v1.10.0 <v1.11.0", "1.10.9", "1.11.0"),
            ("> 1.10.0", "1.10.1", "1.10.0"),
            ("v1.10.3", "v1.10.3", "v1.10.4"),
            ("<1.5.0 || >= 1.10.0", "1.4.9", "1.7.0"),
            ("!=1.10.3", "1.10.4", "1.10.3"),
            ("1.10.x", "1.10.7", "1.11.0"),
            ("1.x", "1.99.0", "2.0.0"),
            ("<= 1.10.x", "1.10.9", "1.11.0"),
            ("> 1.10.x", "1.11.0", "1.10.9"),
            (">= 1.10.0-alpha.1", "1.10.0", "1.9.0"),
        ] {
            assert!(holds(range, yes), "{range} {yes}");
            assert!(!holds(range, no), "{range} {no}");
        }
        assert!(holds("", "0.1.0"));
    }

    #[test]
    fn ignores_the_tags_of_the_talos_version() {
        assert!(holds(">= v1.10.0", "v1.10.0-alpha.1"));
        assert!(holds("=1.10.3", "v1.10.3+build"));
        assert!(!holds("> v1.10.0", "v1.10.0-alpha.1"));
    }

    #[test]
    fn refuses_what_talos_cannot_parse() {
        for bad in [
            " ",
            "latest",
            ">=",
            ">= 1.10",
            "^1.10.0",
            "~1.10.0",
            "1.10.0,",
            ">=1.10.0, <2.0.0",
            "|| 1.0.0",
            "1.0.0 ||",
            "1.0.0 || || 2.0.0",
            "=>1.0.0",
            "01.2.3",
            "!=1.x",
            "1.x.3",
            "x",
            "1.2.3.x",
        ] {
            assert_eq!(Range::parse(bad).unwrap_err().class(), Class::BadInput, "{bad:?}");
        }
    }
}
