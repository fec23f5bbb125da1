//! Docker's `config.json` and podman's `auth.json`, parsed. No I/O here, and no value of a login in any error.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use common::{Class, Error, Result};
use serde::Deserialize;

use crate::secret::Secret;

/// User name that stands for an identity token in a helper's answer.
pub(crate) const TOKEN_USER: &str = "<token>";

/// How to log in at one registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// User name and password.
    Password {
        /// User name.
        user: String,
        /// Password or access token.
        password: Secret,
    },
    /// A refresh token for the registry's token service.
    Identity(Secret),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Login::Password(…)",
            Self::Identity(_) => "Login::Identity(…)",
        })
    }
}

/// Where one file says that a login is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// In the file itself.
    Login(Login),
    /// With the program `docker-credential-<name>`, under this key.
    Helper {
        /// `<name>`.
        name: String,
        /// What the program is asked for.
        key: String,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
}

/// Looks `registry` and `repository` up in the text of a file. A helper of that registry goes before `auths`, `credsStore` comes last.
///
/// The keys of `auths` may be hosts, addresses as Docker once wrote them (`https://host/v1/`), or, in podman's file, a host with
/// the beginning of a repository's path; the longest one counts.
///
/// # Errors
/// [`Class::BadInput`] for a file or an entry that is malformed; the reason never quotes it.
pub fn find(text: &str, registry: &str, repository: &str) -> Result<Option<Found>> {
    let file: File = serde_json::from_str(text).map_err(|e| malformed(place(&e)))?;
    let names = keys(registry, repository);
    for key in &names {
        if let Some(name) = file.helpers.iter().find(|(k, _)| normal(k) == *key).map(|(_, name)| name) {
            return helper(name, &server(registry)).map(Some);
        }
    }
    for key in &names {
        if let Some((key, entry)) = file.auths.iter().find(|(k, _)| normal(k) == *key)
            && let Some(login) = login(key, entry)?
        {
            return Ok(Some(Found::Login(login)));
        }
    }
    match &file.store {
        Some(name) if !name.is_empty() => helper(name, &server(registry)).map(Some),
        _ => Ok(None),
    }
}

/// What a helper printed for `get`.
///
/// # Errors
/// [`Class::BadInput`] when it is not the JSON object that helpers print.
pub fn parse_helper(text: &[u8]) -> Result<Login> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Username")]
        user: String,
        #[serde(rename = "Secret")]
        secret: String,
    }
    let answer: Answer = serde_json::from_slice(text).map_err(|e| malformed(place(&e)))?;
    let secret = Secret::new(answer.secret);
    let identity = answer.user == TOKEN_USER;
    Ok(if identity { Login::Identity(secret) } else { Login::Password { user: answer.user, password: secret } })
}

/// Keys to look for, the longest first.
fn keys(registry: &str, repository: &str) -> Vec<String> {
    let path = format!("{registry}/{repository}");
    let mut keys: Vec<String> = path.match_indices('/').map(|(end, _)| path[..end].to_owned()).collect();
    keys.push(path);
    keys.reverse();
    if registry == "docker.io" {
        keys.extend(["index.docker.io", "registry-1.docker.io"].map(str::to_owned));
    }
    keys
}

/// A key without scheme, and without the version that Docker once put behind the host.
fn normal(key: &str) -> String {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    ["/v1", "/v2"].iter().find_map(|version| key.strip_suffix(version)).unwrap_or(key).to_owned()
}

fn server(registry: &str) -> String {
    if registry == "docker.io" { "https://index.docker.io/v1/".to_owned() } else { registry.to_owned() }
}

fn helper(name: &str, key: &str) -> Result<Found> {
    let plain = !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
    if !plain {
        return Err(malformed(
            "the name of a credential helper holds more than letters, digits, `-`, `_` and `.`".to_owned(),
        ));
    }
    Ok(Found::Helper { name: name.to_owned(), key: key.to_owned() })
}

/// None for an entry without any login: Docker writes such ones beside `credsStore`.
fn login(key: &str, entry: &Entry) -> Result<Option<Login>> {
    let bad = |why: &str| Err(malformed(format!("the entry {key:?} of `auths`: {why}")));
    let set = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    if let Some(token) = set(&entry.identitytoken) {
        return Ok(Some(Login::Identity(Secret::new(token))));
    }
    if let Some(auth) = set(&entry.auth) {
        let Some(text) =
            base64::prelude::BASE64_STANDARD.decode(auth.trim()).ok().and_then(|b| String::from_utf8(b).ok())
        else {
            return bad("`auth` is no base64 of text");
        };
        // Docker pads with zero bytes.
        return match text.trim_end_matches('\0').split_once(':') {
            Some((user, password)) if !user.is_empty() => {
                Ok(Some(Login::Password { user: user.to_owned(), password: Secret::new(password) }))
            }
            _ => bad("`auth` does not hold `user:password`"),
        };
    }
    match (set(&entry.username), set(&entry.password)) {
        (Some(user), Some(password)) => Ok(Some(Login::Password { user, password: Secret::new(password) })),
        (None, None) => Ok(None),
        _ => bad("it has only one of `username` and `password`"),
    }
}

/// Where a file stops being what it should be. Serde's own words may quote the file.
fn place(error: &serde_json::Error) -> String {
    let what = if error.is_data() { "a value has the wrong type or is missing" } else { "this is no JSON" };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

fn malformed(why: String) -> Error {
    Error::new(Class::BadInput, "cannot use a file of registry logins")
        .why(why)
        .hint("log in again with `docker login` or `skopeo login`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Option<Found> {
        Some(Found::Login(Login::Password { user: user.to_owned(), password: Secret::new(password) }))
    }

    // base64 of user:pass and of org:word
    const AUTHS: &str = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dXNlcjpwYXNz"},"r.io":{"auth":"dXNlcjpwYXNz"},
        "r.io/org":{"auth":"b3JnOndvcmQ="},"id.io":{"auth":"","identitytoken":"tok"},"empty.io":{},"plain.io":{"username":"u","password":"p:q"}}}"#;

    #[test]
    fn finds_the_longest_key() {
        assert_eq!(find(AUTHS, "r.io", "other/x").unwrap(), password("user", "pass"));
        assert_eq!(find(AUTHS, "r.io", "org/x").unwrap(), password("org", "word"));
        assert_eq!(find(AUTHS, "r.io", "organisation/x").unwrap(), password("user", "pass"));
        assert_eq!(find(AUTHS, "docker.io", "library/x").unwrap(), password("user", "pass"));
        assert_eq!(find(AUTHS, "plain.io", "x").unwrap(), password("u", "p:q"));
        assert_eq!(find(AUTHS, "id.io", "x").unwrap(), Some(Found::Login(Login::Identity(Secret::new("tok")))));
        for none in ["empty.io", "x.io", "evil-r.io", "r.io.evil"] {
            assert_eq!(find(AUTHS, none, "x").unwrap(), None, "{none}");
        }
    }

    #[test]
    fn helpers_go_before_auths_and_the_store_comes_last() {
        let text = r#"{"auths":{"a.io":{"auth":"dXNlcjpwYXNz"},"b.io":{}},"credHelpers":{"a.io":"ecr-login"},"credsStore":"pass"}"#;
        let helper = |name: &str, key: &str| Some(Found::Helper { name: name.to_owned(), key: key.to_owned() });
        assert_eq!(find(text, "a.io", "x").unwrap(), helper("ecr-login", "a.io"));
        assert_eq!(find(text, "b.io", "x").unwrap(), helper("pass", "b.io"));
        assert_eq!(find(text, "docker.io", "x").unwrap(), helper("pass", "https://index.docker.io/v1/"));
    }

    #[test]
    fn malformed_files_are_named_but_not_quoted() {
        for bad in [
            "hunter22",
            r#"{"auths":{"r.io":{"auth":"hunter22!"}}}"#,
            r#"{"auths":{"r.io":{"auth":"aHVudGVyMjI="}}}"#, // no colon
            r#"{"auths":{"r.io":{"auth":"Omh1bnRlcjIy"}}}"#, // no user
            r#"{"auths":{"r.io":{"password":"hunter22"}}}"#,
            r#"{"auths":{"r.io":{"auth":{"x":"hunter22"}}}}"#,
            r#"{"auths":{"r.io":"hunter22"}}"#,
            r#"{"credsStore":"../hunter22"}"#,
            r#"{"credHelpers":{"r.io":""}}"#,
        ] {
            let error = find(bad, "r.io", "x").unwrap_err();
            assert_eq!(error.class(), Class::BadInput);
            assert!(!error.to_string().contains("hunter22") && !error.to_string().contains("aHVudGVyMjI"), "{error}");
        }
    }

    #[test]
    fn reads_a_helpers_answer() {
        let login = parse_helper(br#"{"ServerURL":"r.io","Username":"u","Secret":"s"}"#).unwrap();
        assert_eq!(login, Login::Password { user: "u".to_owned(), password: Secret::new("s") });
        let login = parse_helper(br#"{"ServerURL":"r.io","Username":"<token>","Secret":"s"}"#).unwrap();
        assert_eq!(login, Login::Identity(Secret::new("s")));
        let error = parse_helper(br#"{"Secret":"hunter22"}"#).unwrap_err();
        assert!(!error.to_string().contains("hunter22"), "{error}");
        assert_eq!(format!("{login:?}"), "Login::Identity(…)");
    }
}
