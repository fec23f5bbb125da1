//! Parses `WWW-Authenticate` (RFC 9110, section 11.6.1), as far as registries use it.

use std::collections::BTreeMap;

/// An authentication challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password (RFC 7617).
    Basic,
    /// A token from `realm` (distribution's token authentication).
    Bearer {
        /// URL of the token service.
        realm: String,
        /// Name of the registry at the token service.
        service: Option<String>,
        /// Requested access.
        scope: Option<String>,
    },
}

/// Returns the first supported challenge of `header`, Bearer before Basic.
#[must_use]
pub fn parse(header: &str) -> Option<Challenge> {
    let mut challenges: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let (word, after) = token(rest)?;
        if let Some(value) = after.trim_start().strip_prefix('=') {
            let (value, after) = value_of(value.trim_start())?;
            challenges.last_mut()?.1.insert(word.to_lowercase(), value);
            rest = after;
        } else {
            challenges.push((word.to_lowercase(), BTreeMap::new()));
            rest = after;
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    let bearer = challenges.iter().find(|(scheme, _)| scheme == "bearer").and_then(|(_, of)| {
        let (service, scope) = (of.get("service").cloned(), of.get("scope").cloned());
        Some(Challenge::Bearer { realm: of.get("realm")?.clone(), service, scope })
    });
    bearer.or_else(|| challenges.iter().any(|(scheme, _)| scheme == "basic").then_some(Challenge::Basic))
}

fn token(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(word, rest)| (word.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_common_challenges() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let Some(Challenge::Bearer { realm, service, scope }) = parse(hub) else { panic!() };
        assert_eq!(realm, "https://auth.docker.io/token");
        assert_eq!(
            (service.as_deref(), scope.as_deref()),
            (Some("registry.docker.io"), Some("repository:a/b:pull,push"))
        );
        assert_eq!(parse(r#"Basic realm="a \"b\", c""#), Some(Challenge::Basic));
        assert_eq!(parse("basic"), Some(Challenge::Basic));
        let both = parse(r#"Basic realm="x", Bearer realm="https://t/", error=invalid"#);
        assert!(matches!(both, Some(Challenge::Bearer { realm, .. }) if realm == "https://t/"));
    }

    #[test]
    fn malformed_headers_are_rejected() {
        for bad in [
            "",
            "Digest realm=\"x\"",
            "realm=\"x\"",
            "Bearer realm=\"x",
            "Bearer",
            "Bearer service=\"x\"",
            "\"",
            "Bearer =x",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
