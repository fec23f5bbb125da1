//! What a registry says when it refuses, as an error that a person can act on (distribution-spec, "Error Codes").

use common::{Class, Error};
use serde::Deserialize;

use crate::secret::{Secret, scrub};

/// Longest error document that is read.
pub(crate) const LIMIT: u64 = 64 << 10;

#[derive(Deserialize)]
struct Document {
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    detail: serde_json::Value,
}

/// The error for the answer `status` with `body` to the request that was to do `what` at `registry`.
///
/// What the body says is shown without `secrets`.
#[must_use]
pub fn error(what: &str, registry: &str, status: u16, body: &[u8], secrets: &[Secret]) -> Error {
    let said = scrub(&said(body), secrets);
    let full = is_full(status, body);
    let (class, hint) = match status {
        _ if full => (Class::Infrastructure, "the registry has no room left, or a quota is used up: free some there, then run the same command again; what arrived is kept".to_owned()),
        401 => (Class::Infrastructure, format!("log in with `docker login {registry}` or `skopeo login {registry}`, or ask for the right to do this")),
        403 => (Class::Infrastructure, format!("the login for {registry} may not do this; look at its rights")),
        404 => (Class::BadInput, "check the name: the repository or what it should hold is not there".to_owned()),
        413 => (Class::Infrastructure, "the registry, or a proxy before it, takes no request of this size; raise its limit, or try a smaller --chunk".to_owned()),
        429 => (Class::Infrastructure, "wait, or log in: registries let fewer requests through without a login".to_owned()),
        500..=599 => (Class::Infrastructure, "look at the registry's log, then run the same command again; what arrived is kept".to_owned()),
        _ => (Class::BadInput, "the registry does not take this document or request".to_owned()),
    };
    let why = if said.is_empty() { format!("it answered {status}") } else { format!("it answered {status}: {said}") };
    let what = if full { format!("{what}: the registry is full") } else { what.to_owned() };
    Error::new(class, what).why(why).hint(hint)
}

/// Whether the answer means that no room is left: 507, or 500 with what Go says of `ENOSPC` and `EDQUOT`.
#[must_use]
pub fn is_full(status: u16, body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_lowercase();
    let words = ["no space left", "quota exceeded", "insufficient storage", "\"err\":28}", "\"err\":122}"];
    status == 507 || (matches!(status, 403 | 413 | 500..=599) && words.iter().any(|word| text.contains(word)))
}

fn said(body: &[u8]) -> String {
    let Ok(document) = serde_json::from_slice::<Document>(body) else {
        let text = String::from_utf8_lossy(body);
        // A proxy's page tells nothing in a terminal.
        return if text.trim_start().starts_with('<') { String::new() } else { text.trim().to_owned() };
    };
    let entry = |e: &Entry| {
        let detail = if e.detail.is_null() { String::new() } else { format!(" {}", e.detail) };
        format!("{} {}{detail}", e.code, e.message).trim().to_owned()
    };
    document.errors.iter().map(entry).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_the_registry_said_without_secrets() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no hunter22 here","detail":[{"Action":"push"}]}]}"#;
        let error = error("cannot push", "r.io", 401, body, &[Secret::new("hunter22")]);
        let text = error.to_string();
        assert!(text.contains(r#"401: DENIED no (hidden) here [{"Action":"push"}]"#), "{text}");
        assert!(text.contains("docker login r.io"), "{text}");
    }

    #[test]
    fn knows_a_full_registry() {
        let body = br#"{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"DriverName":"filesystem","Enclosed":{"Op":"write","Path":"/x","Err":28}}}]}"#;
        let error = error("cannot push", "r.io", 500, body, &[]);
        assert!(error.to_string().contains("the registry is full"), "{error}");
        assert_eq!(error.class(), Class::Infrastructure);
        assert!(is_full(507, b"") && is_full(500, b"write: no space left on device"));
        assert!(!is_full(500, b"") && !is_full(200, b"no space left") && !is_full(404, b"quota exceeded"));
    }

    #[test]
    fn bears_any_body() {
        for body in [&b"<html>502 Bad Gateway</html>"[..], b"", b"\xff\xfe", b"{\"errors\":7}", b"{\"errors\":[{}]}"] {
            assert!(error("x", "r.io", 502, body, &[]).to_string().contains("502"));
        }
    }
}
