//! Text that is printed nowhere.

use std::fmt;

/// A password, token or header made of one. `Debug` hides it and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one request that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `text` without any of `secrets`: a server may send back what it was sent. Also without control characters, and cut to 500 characters.
pub(crate) fn scrub(text: &str, secrets: &[Secret]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.0.len() > 3) {
        text = text.replace(&secret.0, "(hidden)");
    }
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(printable).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_nothing() {
        let secret = Secret::new("hunter22");
        assert!(!format!("{secret:?}").contains("hunter22"));
        assert_eq!(scrub("bad: Basic hunter22\u{1b}[1m", &[secret]), "bad: Basic (hidden) [1m");
        assert_eq!(scrub(&"x".repeat(9000), &[]).len(), 500);
    }
}
