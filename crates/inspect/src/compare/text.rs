//! Compares documents: JSON by value, other text by line.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Difference, How};

/// Larger documents are compared as bytes.
const DOCUMENT_MAX: usize = 64 << 20;
/// Longer values are truncated in the output.
const SHOWN: usize = 120;
/// Characters shown before the first difference of two lines.
const BEFORE: usize = 40;

/// Returns the first difference of two texts; `None` when one is not text.
pub(super) fn compare(first: &[u8], second: &[u8]) -> Option<Difference> {
    if first.len().max(second.len()) > DOCUMENT_MAX {
        return None;
    }
    let (a, b) = (text(first)?, text(second)?);
    json(a, b).or_else(|| line(a, b))
}

/// Returns printable text: UTF-8 without control characters except tabs and line ends.
fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let plain = |c: char| !c.is_control() || matches!(c, '\n' | '\t' | '\r');
    text.chars().all(plain).then_some(text)
}

fn json(first: &str, second: &str) -> Option<Difference> {
    if ![first, second].iter().all(|text| text.trim_start().starts_with(['{', '['])) {
        return None;
    }
    value(&serde_json::from_str(first).ok()?, &serde_json::from_str(second).ok()?)
}

fn value(first: &Value, second: &Value) -> Option<Difference> {
    if first == second {
        return None;
    }
    let deeper = |key: String, a: Option<&Value>, b: Option<&Value>| match (a, b) {
        (Some(a), Some(b)) => value(a, b).map(|d| d.inside("key", key)),
        (a, b) => Some(Difference::new(shown(a, b)).inside("key", key)),
    };
    match (first, second) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|k| (a.get(k) != b.get(k)).then(|| deeper(k.clone(), a.get(k), b.get(k)))?)
        }
        (Value::Array(a), Value::Array(b)) => (0..a.len().max(b.len()))
            .find_map(|n| (a.get(n) != b.get(n)).then(|| deeper(n.to_string(), a.get(n), b.get(n)))?),
        (Value::String(a), Value::String(b)) => {
            let inner = decode(a).zip(decode(b)).and_then(|(a, b)| compare(&a, &b));
            Some(inner.map_or_else(|| Difference::new(shown(Some(first), Some(second))), |d| d.inside("in", "base64")))
        }
        _ => Some(Difference::new(shown(Some(first), Some(second)))),
    }
}

fn shown(first: Option<&Value>, second: Option<&Value>) -> How {
    let show = |value: Option<&Value>| value.map_or("nothing".to_owned(), |value| cut(&value.to_string()));
    How::Value { first: show(first), second: show(second) }
}

/// Decodes a base64 string (RFC 4648) of a JSON document: DSSE envelopes carry statements this way.
fn decode(text: &str) -> Option<Vec<u8>> {
    // `{"` and `[` in base64.
    if !(text.starts_with("ey") || text.starts_with('W')) {
        return None;
    }
    STANDARD.decode(text).ok()
}

fn line(first: &str, second: &str) -> Option<Difference> {
    let (mut a, mut b) = (first.split('\n'), second.split('\n'));
    let mut number = 0;
    loop {
        number += 1;
        match (a.next(), b.next()) {
            (None, None) => return None,
            (a, b) if a == b => {}
            (Some(a), Some(b)) => {
                let (first, second) = excerpts(a, b);
                return Some(Difference::new(How::Line { number, first: Some(first), second: Some(second) }));
            }
            (a, b) => return Some(Difference::new(How::Line { number, first: a.map(cut), second: b.map(cut) })),
        }
    }
}

/// Returns both lines from shortly before their first difference.
fn excerpts(first: &str, second: &str) -> (String, String) {
    let same = first.chars().zip(second.chars()).take_while(|(a, b)| a == b).count();
    let skip = same.saturating_sub(BEFORE);
    let from = |text: &str| {
        let rest: String = text.chars().skip(skip).collect();
        if skip > 0 { format!("…{}", cut(&rest)) } else { cut(&rest) }
    };
    (from(first), from(second))
}

fn cut(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_difference(first: &str, second: &str) -> String {
        compare(first.as_bytes(), second.as_bytes()).unwrap().to_string()
    }

    #[test]
    fn names_line_and_key() {
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), "line 2: \"b\" and \"c\"");
        assert_eq!(first_difference("a\n", "a"), "line 2: \"\" and nothing");
        let long = "x".repeat(200);
        let output = first_difference(&format!("{long}1{long}"), &format!("{long}2"));
        let before = "x".repeat(40);
        assert!(
            output.starts_with(&format!("line 1: \"…{before}1xx")) && output.ends_with(&format!("\"…{before}2\"")),
            "{output}"
        );
        assert_eq!(first_difference(r#"{"a":[1,{"b":2}]}"#, r#"{"a":[1,{"b":3}]}"#), "key a > key 1 > key b: 2 and 3");
        assert_eq!(first_difference(r#"{"a":1}"#, r#"{"a":1,"b":2}"#), "key b: nothing and 2");
        // Equal JSON values in another form are compared by line.
        assert_eq!(first_difference("{\"a\":1}", "{\"a\": 1}"), "line 1: \"{\\\"a\\\":1}\" and \"{\\\"a\\\": 1}\"");
        assert!(compare(b"\xff", b"a").is_none());
    }

    #[test]
    fn compares_the_payload_of_an_envelope() {
        // base64 of {"x":1} and {"x":2}
        assert_eq!(
            first_difference(r#"{"payload":"eyJ4IjoxfQ=="}"#, r#"{"payload":"eyJ4IjoyfQ=="}"#),
            "key payload > in base64 > key x: 1 and 2"
        );
        assert_eq!(first_difference(r#"{"p":"eyJ"}"#, r#"{"p":"other"}"#), r#"key p: "eyJ" and "other""#);
    }
}
