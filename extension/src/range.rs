//! Version ranges with the semantics of blang/semver v4's `ParseRange`, which Talos uses; not Cargo's.
//!
//! Conditions separated by spaces must all match, `||` separates alternatives, a version without an operator means equality, and a
//! trailing `x` is a wildcard (`1.10.x`). A `v` before a digit is dropped, as Talos does before parsing.

use std::cmp::Ordering;

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

/// A parsed range: alternatives, each a list of conditions that must all match. No alternative at all matches every version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range(Vec<Vec<(Op, Version)>>);

impl Range {
    /// Parses `text`; an empty one matches every version.
    ///
    /// # Errors
    /// The reason, when Talos cannot parse the range or no version can match it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let bad = |why: String| format!("{text:?} is not a version range such as \">= v1.10.0\": {why}");
        let mut groups = Vec::new();
        for group in words(&without_v(text)).split(|word| word == "||") {
            if group.is_empty() {
                return Err(bad("one side of || is empty".to_owned()));
            }
            let conditions = group.iter().map(|word| condition(word)).collect::<Result<Vec<_>, _>>().map_err(bad)?;
            groups.push(conditions.concat());
        }
        Ok(Self(groups))
    }

    /// Whether `version` is in the range. Its pre-release and build tags are ignored, as in Talos.
    #[must_use]
    pub fn matches(&self, version: &Version) -> bool {
        let core = Version::new(version.major, version.minor, version.patch);
        let matches = |(op, bound): &(Op, Version)| match core.cmp_precedence(bound) {
            Ordering::Less => matches!(op, Op::Lt | Op::Le | Op::Ne),
            Ordering::Equal => matches!(op, Op::Eq | Op::Le | Op::Ge),
            Ordering::Greater => matches!(op, Op::Gt | Op::Ge | Op::Ne),
        };
        self.0.is_empty() || self.0.iter().any(|group| group.iter().all(matches))
    }
}

/// Removes every `v` before a digit.
fn without_v(text: &str) -> String {
    let digit_follows = |at: usize| text[at + 1..].starts_with(|c: char| c.is_ascii_digit());
    text.char_indices().filter(|(at, c)| !(*c == 'v' && digit_follows(*at))).map(|(_, c)| c).collect()
}

/// Splits at spaces; an operator may be separated from its version by spaces.
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

/// Parses one condition; equality with a wildcard becomes two.
fn condition(word: &str) -> Result<Vec<(Op, Version)>, String> {
    let digit = word.find(|c: char| c.is_ascii_digit()).ok_or_else(|| format!("{word:?} contains no version"))?;
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

/// Parses `1.x` or `1.10.x`. Talos accepts `1.x.x` as well, but compares with the wrong bound.
fn wildcard(op: Op, version: &str) -> Result<Vec<(Op, Version)>, String> {
    let numbers: Vec<_> = version.trim_end_matches(".x").split('.').map(str::parse::<u64>).collect();
    let (from, to) = match numbers[..] {
        [Ok(major)] => (Version::new(major, 0, 0), Version::new(major.saturating_add(1), 0, 0)),
        [Ok(major), Ok(minor)] => (Version::new(major, minor, 0), Version::new(major, minor.saturating_add(1), 0)),
        _ => return Err(format!("{version:?} is not a version with a trailing wildcard")),
    };
    if version.ends_with(".x.x") {
        return Err(format!("{version:?} has two wildcards, which Talos misreads"));
    }
    match op {
        Op::Eq => Ok(vec![(Op::Ge, from), (Op::Lt, to)]),
        Op::Lt | Op::Ge => Ok(vec![(op, from)]),
        Op::Le => Ok(vec![(Op::Lt, to)]),
        Op::Gt => Ok(vec![(Op::Ge, to)]),
        // Talos requires a version both below and above the wildcard here, so none matches.
        Op::Ne => Err(format!("!={version} matches no version in Talos")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(range: &str, version: &str) -> bool {
        Range::parse(range).unwrap().matches(&contract::version(version).unwrap())
    }

    #[test]
    fn ranges_match_as_in_talos() {
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
            assert!(matches(range, yes), "{range} {yes}");
            assert!(!matches(range, no), "{range} {no}");
        }
        assert!(matches("", "0.1.0"));
    }

    #[test]
    fn pre_release_and_build_tags_are_ignored() {
        assert!(matches(">= v1.10.0", "v1.10.0-alpha.1"));
        assert!(matches("=1.10.3", "v1.10.3+build"));
        assert!(!matches("> v1.10.0", "v1.10.0-alpha.1"));
    }

    #[test]
    fn ranges_that_talos_cannot_parse_are_rejected() {
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
            assert!(Range::parse(bad).is_err(), "{bad:?}");
        }
    }
}
