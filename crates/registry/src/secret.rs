//! Text that is never printed.

use std::fmt;

/// A password, token, or header with one. `Debug` hides it and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, to send it.
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

/// Removes `secrets` from `text`, which a server may echo, and control characters; cuts it to 500 characters.
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
    fn secrets_are_hidden() {
        let secret = Secret::new("hunter22");
        assert!(!format!("{secret:?}").contains("hunter22"));
        assert_eq!(scrub("bad: Basic hunter22\u{1b}[1m", &[secret]), "bad: Basic (hidden) [1m");
        assert_eq!(scrub(&"x".repeat(9000), &[]).len(), 500);
    }
}
