//! Registry URLs (RFC 3986): absolute, http or https, no user, no fragment.
//!
//! Printed without the query, which contains credentials in upload locations and signed storage links.

use std::fmt;

use common::{Class, Error, Result};
use ureq::http::Uri;
use ureq::http::uri::InvalidUri;

/// An absolute URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(Uri);

impl Url {
    /// Parses an absolute URL.
    ///
    /// # Errors
    /// [`Class::Infrastructure`] if it is malformed: URLs come from registries.
    pub fn parse(text: &str) -> Result<Self> {
        if !text.starts_with("https://") && !text.starts_with("http://") {
            return Err(bad("the scheme is neither http nor https"));
        }
        // `Uri` takes any UTF-8 in a path.
        if !text.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(bad("it contains invalid characters"));
        }
        let url = Self(text.parse().map_err(|e: InvalidUri| bad(&e.to_string()))?);
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']' | '_');
        if !url.authority().chars().all(allowed) {
            return Err(bad("the host is malformed or has a user name"));
        }
        let port = &url.authority()[url.host().len()..];
        if port.len() > 1 && url.0.port().is_none() {
            return Err(bad("the port is out of range"));
        }
        Ok(url)
    }

    /// Resolves the `location` of a response from this URL (RFC 3986, section 5.2).
    ///
    /// # Errors
    /// [`Class::Infrastructure`] if it is malformed, or downgrades from https to http, even on loopback.
    pub fn join(&self, location: &str) -> Result<Self> {
        let (scheme, authority, path) = (self.scheme(), self.authority(), self.0.path());
        let url = match location {
            whole if whole.starts_with("http://") || whole.starts_with("https://") => Self::parse(whole),
            other if other.starts_with("//") => Self::parse(&format!("{scheme}:{other}")),
            path if path.starts_with('/') => Self::parse(&format!("{scheme}://{authority}{}", without_dots(path))),
            query if query.starts_with('?') => Self::parse(&format!("{scheme}://{authority}{path}{query}")),
            relative => {
                let dir = path.rfind('/').map_or("/", |end| &path[..=end]);
                Self::parse(&format!("{scheme}://{authority}{}", without_dots(&format!("{dir}{relative}"))))
            }
        }?;
        if self.secure() && !url.secure() {
            let why = format!("{self} redirects to {url}");
            return Err(Error::new(Class::Infrastructure, "the registry redirects from https to plain http").why(why));
        }
        Ok(url)
    }

    /// Returns the URL with `name=value` added to its query.
    pub(crate) fn with(&self, name: &str, value: &str) -> Result<Self> {
        let begin = match self.0.query() {
            None => "?",
            Some("") => "",
            Some(_) => "&",
        };
        Self::parse(&format!("{}{begin}{}", self.0, pair(name, value)))
    }

    /// The URL with its query; never print it.
    pub fn full(&self) -> &Uri {
        &self.0
    }

    /// Whether the scheme is https.
    pub fn secure(&self) -> bool {
        self.scheme() == "https"
    }

    pub(crate) fn scheme(&self) -> &str {
        self.0.scheme_str().unwrap_or_default()
    }

    /// Host, with the port if there is one.
    pub(crate) fn authority(&self) -> &str {
        self.0.authority().map_or("", |authority| authority.as_str())
    }

    fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }

    /// Whether requests to both may carry the same credentials.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        let port = |url: &Self| url.0.port_u16().unwrap_or(if url.secure() { 443 } else { 80 });
        self.secure() == other.secure() && self.host().eq_ignore_ascii_case(other.host()) && port(self) == port(other)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.0.path())
    }
}

/// Removes the segments `.` and `..` from the path of a reference (RFC 3986, section 5.2.4); its query and fragment are kept.
fn without_dots(reference: &str) -> String {
    let (path, rest) = reference.split_at(reference.find(['?', '#']).unwrap_or(reference.len()));
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for segment in &segments {
        match *segment {
            "." => {}
            ".." => _ = kept.pop(),
            segment => kept.push(segment),
        }
    }
    // The directory itself: what follows the last slash is empty.
    if matches!(segments.last(), Some(&"." | &"..")) {
        kept.push("");
    }
    format!("/{}{rest}", kept.join("/"))
}

/// Returns the host of an authority, without the port.
pub(crate) fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|c| c.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Formats `name=value` for a query or a form; `:`, `/`, `,` and `@` need no encoding (RFC 3986, section 3.4).
pub(crate) fn pair(name: &str, value: &str) -> String {
    format!("{name}={}", common::text::percent_encoded(value, b"-._~:/,@"))
}

fn bad(why: &str) -> Error {
    Error::new(Class::Infrastructure, "the registry sent an invalid URL").why(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_locations() {
        let base = Url::parse("https://r.io:5000/v2/a/blobs/uploads/?x=1").unwrap();
        for (location, full) in [
            ("https://s.io/b?c=d", "https://s.io/b?c=d"),
            ("//s.io", "https://s.io/"),
            ("/v2/a?_state=e%3D", "https://r.io:5000/v2/a?_state=e%3D"),
            ("17?n=1#frag", "https://r.io:5000/v2/a/blobs/uploads/17?n=1"),
            ("?n=2", "https://r.io:5000/v2/a/blobs/uploads/?n=2"),
            ("../../b/blobs/x?y=../z", "https://r.io:5000/v2/a/b/blobs/x?y=../z"),
            ("./17", "https://r.io:5000/v2/a/blobs/uploads/17"),
            ("../..", "https://r.io:5000/v2/a/"),
            ("../../../../../../b", "https://r.io:5000/b"),
            ("/v2/./a/../b//c/.", "https://r.io:5000/v2/b//c/"),
        ] {
            assert_eq!(base.join(location).unwrap().full().to_string(), full);
        }
        for plain in ["http://s.io/b", "http://127.0.0.1:5000/b", "http://localhost", "http://r.io:5000/v2/"] {
            let error = base.join(plain).unwrap_err().to_string();
            assert!(error.contains("from https to plain http"), "{error}");
        }
        let plain = Url::parse("http://r.io/v2/").unwrap();
        assert_eq!(plain.join("http://s.io/b").unwrap().full().to_string(), "http://s.io/b");
        assert_eq!(plain.join("https://s.io/b").unwrap().full().to_string(), "https://s.io/b");
        for bad in ["https://u:p@s.io/", "/a b", "/a\r\nb", "https:///x", "https://é/", "/é", "https://s.io:65536/"] {
            assert!(base.join(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn extends_the_query_and_does_not_print_it() {
        let url =
            Url::parse("http://h/p?secret=1").unwrap().with("digest", "sha256:ab").unwrap().with("q", "a b&c").unwrap();
        assert_eq!(url.to_string(), "http://h/p");
        assert_eq!(url.full().to_string(), "http://h/p?secret=1&digest=sha256:ab&q=a%20b%26c");
    }

    #[test]
    fn origins_are_scheme_host_and_port() {
        let same = |a: &str, b: &str| Url::parse(a).unwrap().same_origin(&Url::parse(b).unwrap());
        assert!(same("https://R.io/a", "https://r.io:443/b"));
        assert!(!same("https://r.io", "http://r.io"));
        assert!(!same("https://r.io", "https://r.io:444"));
        assert!(!same("https://r.io", "https://s.io"));
    }
}
