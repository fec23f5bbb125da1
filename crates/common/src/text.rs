//! Text for a terminal.

use std::borrow::Cow;

/// `text` with every control character but line feeds and tabs written as an escape: names and documents out of foreign images could
/// otherwise clear the screen and write there what they like.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if harmless(c) { out.push(c) } else { out.extend(c.escape_default()) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_given_no_orders() {
        assert_eq!(printable("a\n\tb \u{fc}"), "a\n\tb \u{fc}");
        assert_eq!(printable("\u{1b}[2Jall is signed\r\u{9b}1m"), "\\u{1b}[2Jall is signed\\r\\u{9b}1m");
    }
}
