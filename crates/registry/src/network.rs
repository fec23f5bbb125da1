//! How to reach a host: plain HTTP or TLS, and through which proxy. Pure; the environment is a parameter.

use common::{Class, Error, Result};

use crate::secret::Secret;
use crate::url::{self, Url};

/// Proxies from the environment (`https_proxy`, `http_proxy`, `all_proxy`, `no_proxy`, lower or upper case).
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    https: Option<Secret>,
    http: Option<Secret>,
    exempt: Vec<String>,
}

impl Proxies {
    /// Reads the variables with `variable`. Lower case has precedence, as in curl.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| {
            let set = |name: &str| variable(name).filter(|value| !value.is_empty());
            set(name).or_else(|| set(&name.to_uppercase()))
        };
        let all = get("all_proxy");
        let exempt = get("no_proxy").unwrap_or_default();
        Self {
            https: get("https_proxy").or_else(|| all.clone()).map(Secret::new),
            http: get("http_proxy").or(all).map(Secret::new),
            exempt: exempt.split(',').map(|entry| entry.trim().to_lowercase()).filter(|e| !e.is_empty()).collect(),
        }
    }

    /// Returns the proxy for `authority`, which may contain a user name and a password; `None` for loopback.
    #[must_use]
    pub fn choose(&self, secure: bool, authority: &str) -> Option<&Secret> {
        let proxy = if secure { self.https.as_ref() } else { self.http.as_ref() }?;
        (!is_loopback(authority) && !self.is_exempt(authority)).then_some(proxy)
    }

    /// Returns the proxies' passwords.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        let proxies = self.https.iter().chain(&self.http);
        let user = |proxy: &Secret| {
            let rest = proxy.reveal().split_once("://").map_or(proxy.reveal(), |(_, rest)| rest).to_owned();
            rest.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).map(|(_, word)| Secret::new(word))
        };
        proxies.filter_map(user).collect()
    }

    /// Matches `no_proxy`: `*`, a host with its subdomains (a leading dot is ignored), or `host:port`.
    fn is_exempt(&self, authority: &str) -> bool {
        let authority = authority.to_lowercase();
        let host = url::host(&authority);
        self.exempt.iter().any(|entry| {
            let name = entry.trim_start_matches('.');
            let below = |whole: &str| whole == name || whole.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
            entry == "*" || below(host) || below(&authority)
        })
    }
}

/// Whether the host is loopback by its name or address; does not resolve names.
#[must_use]
pub fn is_loopback(authority: &str) -> bool {
    let host = url::host(authority).trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Fails for plain HTTP to a host other than loopback and those in `plain`.
pub(crate) fn check_plain(url: &Url, plain: &[String]) -> Result<()> {
    let authority = url.authority();
    if url.secure() || may_be_plain(authority, plain) {
        return Ok(());
    }
    Err(Error::new(Class::BadInput, format!("plain HTTP to {authority} is not allowed"))
        .why("plain HTTP is only allowed for loopback")
        .hint(format!("enable TLS on the registry, or allow plain HTTP with --insecure-http {authority}")))
}

pub(crate) fn may_be_plain(authority: &str, plain: &[String]) -> bool {
    is_loopback(authority) || plain.iter().any(|host| host == authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(pairs: &'static [(&str, &str)]) -> Proxies {
        Proxies::from_environment(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn picks_the_proxy_of_the_scheme() {
        let of = |p: &Proxies, secure, host| p.choose(secure, host).map(|s| s.reveal().to_owned());
        let some =
            proxies(&[("https_proxy", "http://s:1"), ("HTTP_PROXY", "http://p:2"), ("no_proxy", ".corp, x.io:5000")]);
        assert_eq!(of(&some, true, "ghcr.io").unwrap(), "http://s:1");
        assert_eq!(of(&some, false, "ghcr.io").unwrap(), "http://p:2");
        for direct in ["localhost:5000", "127.0.0.1:5000", "[::1]:5000", "r.corp", "corp", "x.io:5000"] {
            assert_eq!(of(&some, true, direct), None, "{direct}");
        }
        for proxied in ["xcorp", "x.io", "x.io:5001", "localhost.evil.io", "127.0.0.1.evil.io"] {
            assert!(of(&some, true, proxied).is_some(), "{proxied}");
        }
        assert_eq!(of(&proxies(&[("ALL_PROXY", "http://a"), ("NO_PROXY", "*")]), true, "ghcr.io"), None);
        assert_eq!(of(&proxies(&[]), true, "ghcr.io"), None);
    }

    #[test]
    fn a_proxys_password_is_a_secret() {
        let p = proxies(&[("https_proxy", "http://user:pa55@proxy:3128")]);
        assert!(!format!("{p:?}").contains("pa55"));
        assert_eq!(p.secrets(), vec![Secret::new("pa55")]);
    }

    #[test]
    fn plain_http_needs_loopback_or_the_option() {
        let check = |url: &str| check_plain(&Url::parse(url).unwrap(), &["reg.lan:5000".to_owned()]);
        for fine in ["localhost", "127.0.0.1:80", "127.9.9.9", "[::1]:1", "reg.lan:5000"] {
            check(&format!("http://{fine}")).unwrap();
        }
        for bad in ["reg.lan", "reg.lan:5001", "128.0.0.1", "localhost.io", "10.0.0.1:5000"] {
            check(&format!("https://{bad}")).unwrap();
            let error = check(&format!("http://{bad}")).unwrap_err();
            assert!(error.to_string().contains("--insecure-http"), "{error}");
        }
    }
}
