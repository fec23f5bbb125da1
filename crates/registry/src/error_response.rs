//! Error responses of registries as errors with hints (distribution-spec, "Error Codes").

use common::{Class, Error};
use serde::Deserialize;

use crate::secret::{Secret, scrub};

/// Maximum size of an error document.
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

/// Returns the error for the response `status` with `body` from `registry`; `what` failed. `secrets` are removed from the text.
#[must_use]
pub fn error(what: &str, registry: &str, status: u16, body: &[u8], secrets: &[Secret]) -> Error {
    let message = scrub(&message(body), secrets);
    let full = is_full(status, body);
    let (class, hint) = match status {
        _ if full => (
            Class::Infrastructure,
            "the registry's disk or quota is full: free some space there, then run the same command again; it resumes"
                .to_owned(),
        ),
        401 => (
            Class::Infrastructure,
            format!("log in with `docker login {registry}` or `skopeo login {registry}`, or request permission"),
        ),
        403 => (Class::Infrastructure, format!("check the permissions of the login for {registry}")),
        404 => (Class::BadInput, "check the name: the repository, manifest or blob does not exist".to_owned()),
        413 => (
            Class::Infrastructure,
            "raise the request size limit of the registry or its proxy, or use a smaller --chunk".to_owned(),
        ),
        429 => (Class::Infrastructure, "wait, or log in: rate limits are lower without a login".to_owned()),
        500..=599 => {
            (Class::Infrastructure, "check the registry's log, then run the same command again; it resumes".to_owned())
        }
        _ => (Class::UntrustedData, "the registry does not accept this document or request".to_owned()),
    };
    let separator = if message.is_empty() { "" } else { ": " };
    let why = format!("the registry returned {status}{separator}{message}");
    let what = if full { format!("{what}: the registry is full") } else { what.to_owned() };
    Error::new(class, what).why(why).hint(hint)
}

/// Whether the response means that the disk is full: 507, or 500 with Go's messages for `ENOSPC` and `EDQUOT`.
#[must_use]
pub fn is_full(status: u16, body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_lowercase();
    let words = ["no space left", "quota exceeded", "insufficient storage", "\"err\":28}", "\"err\":122}"];
    status == 507 || (matches!(status, 403 | 413 | 500..=599) && words.iter().any(|word| text.contains(word)))
}

fn message(body: &[u8]) -> String {
    let Ok(document) = serde_json::from_slice::<Document>(body) else {
        let text = String::from_utf8_lossy(body);
        // The HTML page of a proxy is useless in a terminal.
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
    fn shows_the_message_without_secrets() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no hunter22 here","detail":[{"Action":"push"}]}]}"#;
        let error = error("cannot push", "r.io", 401, body, &[Secret::new("hunter22")]);
        let text = error.to_string();
        assert!(text.contains(r#"401: DENIED no (hidden) here [{"Action":"push"}]"#), "{text}");
        assert!(text.contains("docker login r.io"), "{text}");
    }

    #[test]
    fn recognizes_a_full_registry() {
        let body = br#"{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"DriverName":"filesystem","Enclosed":{"Op":"write","Path":"/x","Err":28}}}]}"#;
        let error = error("cannot push", "r.io", 500, body, &[]);
        assert!(error.to_string().contains("the registry is full"), "{error}");
        assert_eq!(error.class(), Class::Infrastructure);
        assert!(is_full(507, b"") && is_full(500, b"write: no space left on device"));
        assert!(!is_full(500, b"") && !is_full(200, b"no space left") && !is_full(404, b"quota exceeded"));
    }

    #[test]
    fn accepts_any_body() {
        for body in [&b"<html>502 Bad Gateway</html>"[..], b"", b"\xff\xfe", b"{\"errors\":7}", b"{\"errors\":[{}]}"] {
            assert!(error("x", "r.io", 502, body, &[]).to_string().contains("502"));
        }
    }
}
