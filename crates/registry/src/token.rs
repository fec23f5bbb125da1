//! `Authorization` headers: Basic, or a token from the registry's token service
//! (distribution's token authentication; OAuth2 for identity tokens).

use base64::Engine as _;
use common::Result;
use serde::Deserialize;

use crate::docker_config::Login;
use crate::secret::Secret;
use crate::url::{Url, pair};

/// Maximum size of a token service's response.
pub(crate) const LIMIT: u64 = 1 << 20;

/// Returns `Authorization` for a user name and a password (RFC 7617).
#[must_use]
pub fn basic(user: &str, password: &Secret) -> Secret {
    let pair = format!("{user}:{}", password.reveal());
    Secret::new(format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair)))
}

/// Returns `Authorization` for a token of the registry (RFC 6750).
#[must_use]
pub fn bearer(token: &Secret) -> Secret {
    Secret::new(format!("Bearer {}", token.reveal()))
}

/// Returns all forms of the secrets of a login.
pub(crate) fn secrets_of(login: &Login) -> Vec<Secret> {
    match login {
        Login::Password { user, password } => {
            let header = basic(user, password);
            let encoded = header.reveal().trim_start_matches("Basic ").to_owned();
            vec![password.clone(), Secret::new(encoded)]
        }
        Login::Identity(token) | Login::Token(token) => vec![token.clone()],
    }
}

/// A request to a token service.
pub(crate) struct TokenRequest {
    pub method: &'static str,
    pub url: Url,
    pub login: Option<Secret>,
    pub form: Option<Secret>,
}

/// Returns the request to `realm`: GET with Basic authentication, or POST for an identity token.
pub(crate) fn request(
    realm: Url,
    service: Option<&str>,
    scopes: &[String],
    login: Option<&Login>,
) -> Result<TokenRequest> {
    if let Some(Login::Identity(token)) = login {
        let form = [
            pair("grant_type", "refresh_token"),
            pair("client_id", "solana-talos"),
            pair("service", service.unwrap_or_default()),
            pair("scope", &scopes.join(" ")),
            pair("refresh_token", token.reveal()),
        ];
        return Ok(TokenRequest { method: "POST", url: realm, login: None, form: Some(Secret::new(form.join("&"))) });
    }
    let url = service.into_iter().try_fold(realm, |url, service| url.with("service", service))?;
    let url = scopes.iter().try_fold(url, |url, scope| url.with("scope", scope))?;
    let login = match login {
        Some(Login::Password { user, password }) => Some(basic(user, password)),
        _ => None,
    };
    Ok(TokenRequest { method: "GET", url, login, form: None })
}

/// Returns the `token` or `access_token` of a token service's response as `Authorization`.
#[must_use]
pub fn parse(body: &[u8]) -> Option<Secret> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let token = answer.token.filter(|t| !t.is_empty()).or(answer.access_token).filter(|t| !t.is_empty())?;
    token.bytes().all(|c| c.is_ascii_graphic()).then(|| bearer(&Secret::new(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realm() -> Url {
        Url::parse("https://auth.io/token?account=x").unwrap()
    }

    #[test]
    fn passwords_are_sent_by_get_as_basic() {
        let login = Login::Password { user: "u".to_owned(), password: Secret::new("p w") };
        let scopes = ["repository:a/b:pull,push".to_owned(), "repository:c:pull".to_owned()];
        let request = request(realm(), Some("reg istry"), &scopes, Some(&login)).unwrap();
        assert_eq!(
            request.url.full(),
            "https://auth.io/token?account=x&service=reg%20istry&scope=repository:a/b:pull,push&scope=repository:c:pull"
        );
        assert_eq!((request.method, request.login.unwrap().reveal()), ("GET", "Basic dTpwIHc="));
    }

    #[test]
    fn an_identity_token_is_sent_by_post_and_not_in_the_url() {
        let login = Login::Identity(Secret::new("t+k"));
        let request = request(realm(), Some("r"), &["s:a:pull".to_owned()], Some(&login)).unwrap();
        assert_eq!((request.method, request.url.full().to_string().contains("t%2Bk")), ("POST", false));
        assert_eq!(
            request.form.unwrap().reveal(),
            "grant_type=refresh_token&client_id=solana-talos&service=r&scope=s:a:pull&refresh_token=t%2Bk"
        );
    }

    #[test]
    fn reads_both_names_of_the_token() {
        let of = |text: &str| parse(text.as_bytes()).map(|t| t.reveal().to_owned());
        assert_eq!(of(r#"{"token":"a","expires_in":60}"#).unwrap(), "Bearer a");
        assert_eq!(of(r#"{"token":"","access_token":"b"}"#).unwrap(), "Bearer b");
        for bad in ["{}", r#"{"token":""}"#, r#"{"token":"a\r\nX: y"}"#, "[]", ""] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
