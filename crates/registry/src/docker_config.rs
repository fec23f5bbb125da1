//! Parses Docker's `config.json` and podman's `auth.json`. Does no I/O; errors never contain credentials.

use std::collections::BTreeMap;

use base64::Engine as _;
use common::{Class, Error, Result};
use serde::Deserialize;

use crate::secret::Secret;

/// User name of an identity token in a helper's output.
pub(crate) const TOKEN_USER: &str = "<token>";

/// Credentials for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// A token of the registry itself (`registrytoken`).
    Token(Secret),
}

/// Where a login is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the file itself.
    Login(Login),
    /// In the credential helper `docker-credential-<name>`.
    Helper {
        /// `<name>`.
        name: String,
        /// Key to look up with the helper.
        key: String,
    },
}

/// As Go reads it: null is absent, and an absent name is empty.
#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    #[serde(rename = "credHelpers")]
    helpers: Option<BTreeMap<String, Option<String>>>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// Looks up `registry` and `repository` in the text of a file: first `credHelpers`, then `auths`, then `credsStore`. An empty name in
/// `credHelpers` means that no helper has the login of that registry, nor has `credsStore` (docker/cli, `cli/config/configfile/file.go`).
///
/// Keys of `auths` are hosts, URLs of old Docker versions (`https://host/v1/`), or in podman's file a host with a path prefix; the longest wins.
///
/// # Errors
/// [`Class::BadInput`] for a malformed file or entry; the text never quotes it.
pub fn find(text: &str, registry: &str, repository: &str) -> Result<Option<Source>> {
    // Docker takes an empty file for one without logins.
    if text.trim().is_empty() {
        return Ok(None);
    }
    let file: File = serde_json::from_str(text).map_err(|e| malformed(place(&e)))?;
    let (helpers, auths) = (file.helpers.unwrap_or_default(), file.auths.unwrap_or_default());
    let names = keys(registry, repository);
    let of_registry = |key: &String| helpers.iter().find(|(k, _)| normal(k) == *key);
    let helper_name = names.iter().find_map(of_registry).map(|(_, name)| name.as_deref().unwrap_or_default());
    if let Some(name) = helper_name.filter(|name| !name.is_empty()) {
        return helper(name, &server(registry)).map(Some);
    }
    for key in &names {
        if let Some((key, Some(entry))) = auths.iter().find(|(k, _)| normal(k) == *key)
            && let Some(login) = login(key, entry)?
        {
            return Ok(Some(Source::Login(login)));
        }
    }
    match &file.store {
        Some(name) if !name.is_empty() && helper_name.is_none() => helper(name, &server(registry)).map(Some),
        _ => Ok(None),
    }
}

/// Parses the output of a helper's `get`.
///
/// # Errors
/// [`Class::BadInput`] if it is malformed.
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

/// Keys to look up, longest first.
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

/// Returns the host of a key that is a URL, as Docker does (`ConvertToHostname`); other keys may have a path, as podman's do.
fn normal(key: &str) -> String {
    if let Some(rest) = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        return rest.split('/').next().unwrap_or_default().to_owned();
    }
    let key = key.trim_end_matches('/');
    ["/v1", "/v2"].iter().find_map(|version| key.strip_suffix(version)).unwrap_or(key).to_owned()
}

fn server(registry: &str) -> String {
    if registry == "docker.io" { "https://index.docker.io/v1/".to_owned() } else { registry.to_owned() }
}

fn helper(name: &str, key: &str) -> Result<Source> {
    let plain = !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
    if !plain {
        return Err(malformed(
            "the name of a credential helper may only contain letters, digits, `-`, `_` and `.`".to_owned(),
        ));
    }
    Ok(Source::Helper { name: name.to_owned(), key: key.to_owned() })
}

/// Returns `None` for an entry without credentials, as Docker writes with `credsStore`.
fn login(key: &str, entry: &Entry) -> Result<Option<Login>> {
    let bad = |why: &str| Err(malformed(format!("the entry {key:?} of `auths`: {why}")));
    let set = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    if let Some(token) = set(&entry.registrytoken) {
        return Ok(Some(Login::Token(Secret::new(token))));
    }
    if let Some(token) = set(&entry.identitytoken) {
        return Ok(Some(Login::Identity(Secret::new(token))));
    }
    if let Some(auth) = set(&entry.auth) {
        let Some(text) = decode(&auth) else {
            return bad("`auth` is not base64-encoded text");
        };
        // Docker pads with zero bytes.
        return match text.trim_end_matches('\0').split_once(':') {
            Some((user, password)) if !user.is_empty() => {
                Ok(Some(Login::Password { user: user.to_owned(), password: Secret::new(password) }))
            }
            _ => bad("`auth` is not `user:password`"),
        };
    }
    match (set(&entry.username), set(&entry.password)) {
        (Some(user), Some(password)) => Ok(Some(Login::Password { user, password: Secret::new(password) })),
        (_, None) => Ok(None),
        (None, Some(_)) => bad("it has a password without a user name"),
    }
}

/// Decodes base64 as crane does, with or without padding; Go's decoder skips line breaks.
fn decode(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n' | ' ')).collect();
    let bytes = base64::prelude::BASE64_STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    String::from_utf8(bytes).ok()
}

/// Position of a parse error. Serde's messages may quote the file.
fn place(error: &serde_json::Error) -> String {
    let what = if error.is_data() { "a value has the wrong type or is missing" } else { "not JSON" };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

fn malformed(why: String) -> Error {
    Error::new(Class::BadInput, "the auth file is malformed")
        .why(why)
        .hint("log in again with `docker login` or `skopeo login`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Option<Source> {
        Some(Source::Login(Login::Password { user: user.to_owned(), password: Secret::new(password) }))
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
        assert_eq!(find(AUTHS, "id.io", "x").unwrap(), Some(Source::Login(Login::Identity(Secret::new("tok")))));
        for none in ["empty.io", "x.io", "evil-r.io", "r.io.evil"] {
            assert_eq!(find(AUTHS, none, "x").unwrap(), None, "{none}");
        }
    }

    #[test]
    fn cred_helpers_precede_auths_and_creds_store() {
        let text = r#"{"auths":{"a.io":{"auth":"dXNlcjpwYXNz"},"b.io":{}},"credHelpers":{"a.io":"ecr-login"},"credsStore":"pass"}"#;
        let helper = |name: &str, key: &str| Some(Source::Helper { name: name.to_owned(), key: key.to_owned() });
        assert_eq!(find(text, "a.io", "x").unwrap(), helper("ecr-login", "a.io"));
        assert_eq!(find(text, "b.io", "x").unwrap(), helper("pass", "b.io"));
        assert_eq!(find(text, "docker.io", "x").unwrap(), helper("pass", "https://index.docker.io/v1/"));
    }

    /// Each is taken by docker, crane or skopeo.
    #[test]
    fn shapes_of_other_tools() {
        let auth = r#""auth":"dXNlcjpwYXNz""#;
        for text in [
            format!(
                r#"{{"auths":{{"r.io":{{{auth},"email":null,"username":null}}}},"credHelpers":null,"credsStore":null}}"#
            ),
            format!(
                r#"{{"auths":{{"r.io":{{{auth}}},"x.io":null}},"credsStore":"desktop","credHelpers":{{"r.io":""}}}}"#
            ),
            format!(
                r#"{{"auths":{{"r.io":{{{auth}}}}},"credHelpers":{{"r.io":null}},"HttpHeaders":{{"a":"b"}},"proxies":{{}}}}"#
            ),
            format!(r#"{{"auths":{{"https://r.io/some/path":{{{auth}}}}}}}"#),
            r#"{"auths":{"r.io":{"auth":"dXNlcjpw\nYXNz\n"}}}"#.to_owned(),
        ] {
            assert_eq!(find(&text, "r.io", "x").unwrap(), password("user", "pass"), "{text}");
        }
        for text in [
            "",
            " \n",
            "{}",
            r#"{"auths":null}"#,
            r#"{"auths":{"r.io":null}}"#,
            r#"{"auths":{"r.io":{"username":"u"}}}"#,
            r#"{"credsStore":"desktop","credHelpers":{"r.io":""}}"#,
            r#"{"credsStore":""}"#,
        ] {
            assert_eq!(find(text, "r.io", "x").unwrap(), None, "{text}");
        }
        // Without padding, for crane.
        let text = r#"{"auths":{"r.io":{"auth":"YTpi"},"s.io":{"auth":"YTpiYw"},"t.io":{"registrytoken":"tok"}}}"#;
        assert_eq!(find(text, "r.io", "x").unwrap(), password("a", "b"));
        assert_eq!(find(text, "s.io", "x").unwrap(), password("a", "bc"));
        assert_eq!(find(text, "t.io", "x").unwrap(), Some(Source::Login(Login::Token(Secret::new("tok")))));
    }

    #[test]
    fn malformed_files_are_not_quoted() {
        for bad in [
            "hunter22",
            r#"{"auths":{"r.io":{"auth":"hunter22!"}}}"#,
            r#"{"auths":{"r.io":{"auth":"aHVudGVyMjI="}}}"#, // no colon
            r#"{"auths":{"r.io":{"auth":"Omh1bnRlcjIy"}}}"#, // no user
            r#"{"auths":{"r.io":{"password":"hunter22"}}}"#,
            r#"{"auths":{"r.io":{"auth":{"x":"hunter22"}}}}"#,
            r#"{"auths":{"r.io":"hunter22"}}"#,
            r#"{"credsStore":"../hunter22"}"#,
            r#"{"credHelpers":{"r.io":"../hunter22"}}"#,
        ] {
            let error = find(bad, "r.io", "x").unwrap_err();
            assert_eq!(error.class(), Class::BadInput);
            assert!(!error.to_string().contains("hunter22") && !error.to_string().contains("aHVudGVyMjI"), "{error}");
        }
    }

    #[test]
    fn parses_a_helpers_output() {
        let login = parse_helper(br#"{"ServerURL":"r.io","Username":"u","Secret":"s"}"#).unwrap();
        assert_eq!(login, Login::Password { user: "u".to_owned(), password: Secret::new("s") });
        let login = parse_helper(br#"{"ServerURL":"r.io","Username":"<token>","Secret":"s"}"#).unwrap();
        assert_eq!(login, Login::Identity(Secret::new("s")));
        let error = parse_helper(br#"{"Secret":"hunter22"}"#).unwrap_err();
        assert!(!error.to_string().contains("hunter22"), "{error}");
        assert_eq!(format!("{login:?}"), "Identity(Secret(…))");
    }
}
