//! Addresses, as far as registries use them (RFC 3986): absolute, http or https, no user, no fragment.
//!
//! Printed without the query: that is where upload states and signed storage links carry what lets others in.

use std::fmt;

use common::{Class, Error, Result};

/// An absolute address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether it is https.
    pub secure: bool,
    /// Host, with a port where one is given.
    pub authority: String,
    path: String,
    query: Option<String>,
}

impl Url {
    pub(crate) fn new(secure: bool, authority: &str, path: &str) -> Self {
        Self { secure, authority: authority.to_owned(), path: path.to_owned(), query: None }
    }

    /// Parses an absolute address.
    ///
    /// # Errors
    /// [`Class::Infrastructure`] when it is malformed: addresses come from registries.
    pub fn parse(text: &str) -> Result<Self> {
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(bad("it is neither http: nor https:")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']' | '_');
        if authority.is_empty() || !authority.chars().all(allowed) {
            return Err(bad("its host is malformed or has a user name"));
        }
        let mut url = Self::new(secure, authority, "/");
        url.set_path(rest)?;
        Ok(url)
    }

    /// What `location` means in an answer from this address (RFC 3986, section 5.2, without `..`).
    ///
    /// # Errors
    /// [`Class::Infrastructure`] when it is malformed, or leads from https to plain http, be it on this machine: whoever began in private
    /// goes on so.
    pub fn join(&self, location: &str) -> Result<Self> {
        let url = self.resolve(location)?;
        if self.secure && !url.secure {
            let why = format!("{self} leads to {url}");
            return Err(Error::new(Class::Infrastructure, "the registry leads from https to plain http").why(why));
        }
        Ok(url)
    }

    fn resolve(&self, location: &str) -> Result<Self> {
        if location.starts_with("http://") || location.starts_with("https://") {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme()));
        }
        let mut url = self.clone();
        if location.starts_with(['/', '?']) {
            if location.starts_with('?') {
                return Self::parse(&format!("{}://{}{}{location}", self.scheme(), self.authority, self.path));
            }
            url.set_path(location)?;
        } else {
            let dir = self.path.rfind('/').map_or("/", |end| &self.path[..=end]);
            url.set_path(&format!("{dir}{location}"))?;
        }
        Ok(url)
    }

    fn set_path(&mut self, rest: &str) -> Result<()> {
        if !rest.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(bad("it holds characters that no address may hold"));
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        self.path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        self.query = query.map(str::to_owned);
        Ok(())
    }

    /// The same address with a further `name=value` in its query.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let pair = format!("{name}={}", encode(value));
        self.query = Some(match self.query.filter(|query| !query.is_empty()) {
            Some(query) => format!("{query}&{pair}"),
            None => pair,
        });
        self
    }

    /// The whole of it, for the request only.
    pub fn full(&self) -> String {
        match &self.query {
            Some(query) => format!("{self}?{query}"),
            None => self.to_string(),
        }
    }

    /// The host without its port.
    pub(crate) fn host(&self) -> &str {
        host(&self.authority)
    }

    /// Whether requests to both may carry the same login.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        let port = |url: &Self| match url.authority.rsplit_once(':') {
            Some((_, port)) if port.bytes().all(|c| c.is_ascii_digit()) => port.parse().unwrap_or(0),
            _ if url.secure => 443,
            _ => 80u16,
        };
        self.secure == other.secure && self.host().eq_ignore_ascii_case(other.host()) && port(self) == port(other)
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority, self.path)
    }
}

/// The host of an authority, without its port.
pub(crate) fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|c| c.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Percent-encoding of a query value; `:`, `/`, `,` and `@` may stand as they are (RFC 3986, section 3.4).
fn encode(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b',' | b'@' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn bad(why: &str) -> Error {
    Error::new(Class::Infrastructure, "the registry gave an address that cannot be used").why(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_what_registries_send() {
        let base = Url::parse("https://r.io:5000/v2/a/blobs/uploads/?x=1").unwrap();
        for (location, full) in [
            ("https://s.io/b?c=d", "https://s.io/b?c=d"),
            ("//s.io", "https://s.io/"),
            ("/v2/a?_state=e%3D", "https://r.io:5000/v2/a?_state=e%3D"),
            ("17?n=1#frag", "https://r.io:5000/v2/a/blobs/uploads/17?n=1"),
            ("?n=2", "https://r.io:5000/v2/a/blobs/uploads/?n=2"),
        ] {
            assert_eq!(base.join(location).unwrap().full(), full);
        }
        for plain in ["http://s.io/b", "http://127.0.0.1:5000/b", "http://localhost", "http://r.io:5000/v2/"] {
            let error = base.join(plain).unwrap_err().to_string();
            assert!(error.contains("from https to plain http"), "{error}");
        }
        let plain = Url::parse("http://r.io/v2/").unwrap();
        assert_eq!(plain.join("http://s.io/b").unwrap().full(), "http://s.io/b");
        assert_eq!(plain.join("https://s.io/b").unwrap().full(), "https://s.io/b");
        for bad in ["https://u:p@s.io/", "/a b", "/a\r\nb", "https:///x", "https://é/"] {
            assert!(base.join(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prints_no_query_and_adds_to_one() {
        let url = Url::parse("http://h/p?secret=1").unwrap().with("digest", "sha256:ab").with("q", "a b&c");
        assert_eq!(url.to_string(), "http://h/p");
        assert_eq!(url.full(), "http://h/p?secret=1&digest=sha256:ab&q=a%20b%26c");
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
