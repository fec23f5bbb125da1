//! Compares two files in memory, down to the innermost member that can be opened.

use super::{Difference, How, pairs, reordered, text};
use crate::parts::{Part, Parts};
use formats::Budget;

/// Largest nesting of opened members: an installer's module is at depth six.
const DEPTH_MAX: u32 = 16;

/// Returns the first difference of `first` and `second`.
///
/// Damaged files and unknown formats are compared line by line if they are text, else byte by byte.
#[must_use]
pub fn bytes(first: &[u8], second: &[u8]) -> Option<Difference> {
    at_depth(first, second, DEPTH_MAX, &mut Budgets::default())
}

/// Remaining limits for both sides.
#[derive(Default)]
struct Budgets {
    first: Budget,
    second: Budget,
}

fn at_depth(first: &[u8], second: &[u8], depth: u32, budgets: &mut Budgets) -> Option<Difference> {
    if first == second {
        return None;
    }
    let mut open = || Parts::within(first, &mut budgets.first).zip(Parts::within(second, &mut budgets.second));
    let opened = if depth > 0 { open() } else { None };
    if let Some((a, b)) = opened.filter(|(a, b)| a.format == b.format) {
        return Some(members(&a, &b, depth, budgets).unwrap_or_else(|| outside(&a, first, second)));
    }
    Some(text::compare(first, second).unwrap_or_else(|| plain(first, second)))
}

fn members(first: &Parts<'_>, second: &Parts<'_>, depth: u32, budgets: &mut Budgets) -> Option<Difference> {
    let content = |a: &Part, b: &Part| {
        let difference = match (first.content(a, &mut budgets.first), second.content(b, &mut budgets.second)) {
            (Ok(x), Ok(y)) => at_depth(&x, &y, depth - 1, budgets),
            (Err(e), Err(f)) if budgets.first.is_spent() || budgets.second.is_spent() => {
                Some(Difference::new(How::Value { first: e.one_line(), second: f.one_line() }))
            }
            // Nothing to compare where both are unreadable.
            (Err(_), Err(_)) => None,
            (Err(e), Ok(_)) => Some(Difference::new(How::Value { first: e.one_line(), second: "content".to_owned() })),
            (Ok(_), Err(e)) => Some(Difference::new(How::Value { first: "content".to_owned(), second: e.one_line() })),
        };
        Ok::<_, std::convert::Infallible>(difference)
    };
    let facts = |a: &Part, b: &Part| {
        let how = || How::Value { first: a.facts(), second: b.facts() };
        Ok::<_, std::convert::Infallible>((a.facts() != b.facts()).then(|| Difference::new(how())))
    };
    let kind = first.member_kind();
    let (a, b) = (&first.members, &second.members);
    let found = pairs(a, b, |part| part.name.as_str(), content).unwrap_or_else(|never| match never {});
    let found = found.or_else(|| pairs(a, b, |part| part.name.as_str(), facts).unwrap_or_else(|never| match never {}));
    if let Some((name, difference)) = found {
        return Some(difference.inside(kind, name));
    }
    reordered(a, b, |part| &part.name).then(|| Difference::new(How::Order))
}

/// All members are equal: the difference is in headers, tables or padding.
fn outside(parts: &Parts<'_>, first: &[u8], second: &[u8]) -> Difference {
    let at = mismatch(first, second);
    plain(first, second).inside("in", parts.outside(at))
}

fn plain(first: &[u8], second: &[u8]) -> Difference {
    let lengths = (first.len() as u64, second.len() as u64);
    Difference::new(How::Bytes { at: mismatch(first, second) as u64, lengths })
}

/// Returns the offset of the first byte that differs; the shorter length if one is a prefix of the other.
fn mismatch(first: &[u8], second: &[u8]) -> usize {
    let shorter = first.len().min(second.len());
    first.iter().zip(second).position(|(a, b)| a != b).unwrap_or(shorter)
}
