//! Requests to registries: authenticates, retries transient errors, and follows redirects where that is safe.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use common::event::{Event, Sink};
use common::{Class, Error, Result};

use crate::backoff::{Backoff, retry_after};
use crate::challenge::{self, Challenge};
use crate::clock::Clock;
use crate::credentials::Keyring;
use crate::error_response;
use crate::http::{Body, Failure, Http, Request, Response, Timeouts};
use crate::network::{self, Proxies};
use crate::secret::{Secret, scrub};
use crate::token;
use crate::url::Url;

/// Maximum number of redirects of one request.
const REDIRECTS: u32 = 5;
/// Longest wait for TLS from a host that does not speak plain HTTP: a server of another protocol may wait for more bytes.
const PROBE: Duration = Duration::from_secs(5);

/// How registries are reached.
pub struct Options<'a> {
    /// `host:port` of registries that may be used over plain HTTP.
    pub plain: Vec<String>,
    /// Proxies.
    pub proxies: Proxies,
    /// Trusted certificate authorities, PEM.
    pub roots: Vec<u8>,
    /// Credentials.
    pub keyring: &'a dyn Keyring,
    /// Clock.
    pub clock: &'a dyn Clock,
    /// Receives a warning before each wait.
    pub sink: &'a dyn Sink,
    /// Backoff between retries.
    pub backoff: Backoff,
    /// Network timeouts.
    pub timeouts: Timeouts,
    /// Bytes of one PATCH. GHCR accepts at most 4 MiB.
    pub chunk: u64,
    /// Number of concurrent blob transfers, at least one.
    pub parallel: usize,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("plain", &self.plain).field("backoff", &self.backoff).finish_non_exhaustive()
    }
}

/// A repository of a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repository {
    /// Host, with the port if there is one.
    pub registry: String,
    /// Path of the repository.
    pub name: String,
}

impl Repository {
    /// The repository that `reference` is in.
    #[must_use]
    pub fn of(reference: &oci::Reference) -> Self {
        Self { registry: reference.registry().to_owned(), name: reference.repository().to_owned() }
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)
    }
}

/// Access that a request needs.
#[derive(Clone, Debug)]
pub(crate) struct Access<'a> {
    pub repository: &'a Repository,
    pub push: bool,
    /// A second repository of the same registry to read from, for a mount.
    pub from: Option<&'a str>,
}

impl Access<'_> {
    fn scopes(&self) -> Vec<String> {
        let actions = if self.push { "pull,push" } else { "pull" };
        let mut scopes = vec![format!("repository:{}:{actions}", self.repository.name)];
        scopes.extend(self.from.map(|from| format!("repository:{from}:pull")));
        scopes
    }
}

#[derive(Default)]
struct State {
    /// Base URL of each registry.
    bases: BTreeMap<String, Url>,
    /// `Authorization` by registry and scopes.
    headers: BTreeMap<(String, String), Secret>,
    /// Text to remove from messages.
    secrets: Vec<Secret>,
}

/// A client for several registries, shared between threads.
pub struct Client<'a> {
    pub(crate) options: Options<'a>,
    http: Http,
    state: Mutex<State>,
}

impl std::fmt::Debug for Client<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl<'a> Client<'a> {
    /// Returns a client. Sends nothing.
    ///
    /// # Errors
    /// [`Class::BadInput`] if the certificate authorities are malformed.
    pub fn new(options: Options<'a>) -> Result<Self> {
        let http = Http::new(options.timeouts, options.proxies.clone(), &options.roots)?;
        let state = State { secrets: options.proxies.secrets(), ..State::default() };
        Ok(Self { options, http, state: Mutex::new(state) })
    }

    /// Returns the URL of `path` below `/v2/<repository>/`.
    pub(crate) fn url(&self, repository: &Repository, path: &str) -> Result<Url> {
        let base = self.base(&repository.registry)?;
        base.join(&format!("/v2/{}/{path}", repository.name))
    }

    /// Sends `request`, retrying transient errors, and returns the response, whatever its status.
    pub(crate) fn send(&self, what: &str, access: &Access<'_>, request: &Request<'_>) -> Result<Response> {
        let mut failures = 0;
        loop {
            let failure = match self.attempt(access, request) {
                Ok(mut answer) if is_transient(answer.status.as_u16()) => {
                    self.transient_error(what, access, &mut answer)?
                }
                Ok(answer) => return Ok(answer),
                Err(AttemptError::Permanent(error)) => return Err(error),
                Err(AttemptError::Transient(why)) => (self.unreachable(what, access, &why), None),
            };
            failures += 1;
            self.pause(failures, what, failure)?;
        }
    }

    /// Sends `request` and reads the whole body, also of an error response, retrying transient errors.
    pub(crate) fn fetch(
        &self,
        what: &str,
        access: &Access<'_>,
        request: &Request<'_>,
        limit: u64,
    ) -> Result<(Response, Vec<u8>)> {
        let mut failures = 0;
        loop {
            let mut answer = self.send(what, access, request)?;
            match answer.bytes(limit) {
                Ok(bytes) => return Ok((answer, bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::FileTooLarge => {
                    let why = format!("{}: {e}", answer.url);
                    return Err(Error::new(Class::UntrustedData, what).why(why));
                }
                Err(e) => {
                    failures += 1;
                    self.pause(failures, what, (self.unreachable(what, access, &e.to_string()), None))?;
                }
            }
        }
    }

    /// Waits after failure number `failures`, and says so; returns its error after the last attempt.
    pub(crate) fn pause(&self, failures: u32, what: &str, (error, requested): Retry) -> Result<()> {
        let attempts = self.options.backoff.attempts;
        if failures >= attempts {
            return Err(error);
        }
        let wait = self.options.backoff.wait(failures, what, requested);
        let (why, seconds, next) = (error.reason().replace('\n', ", "), wait.as_secs_f64(), failures + 1);
        let message = format!("{what}: {why}; trying again in {seconds:.1} s (attempt {next} of {attempts})");
        self.options.sink.emit(&Event::Warning { message: &message });
        self.options.clock.sleep(wait);
        Ok(())
    }

    /// Returns the error of a transient response with its `Retry-After`; `Err` if a retry is useless because the registry is full.
    pub(crate) fn transient_error(&self, what: &str, access: &Access<'_>, answer: &mut Response) -> Result<Retry> {
        let requested = answer.header("retry-after").and_then(retry_after);
        let status = answer.status.as_u16();
        let body = answer.bytes(error_response::LIMIT).unwrap_or_default();
        let error = error_response::error(what, &access.repository.registry, status, &body, &self.secrets());
        if error_response::is_full(status, &body) { Err(error) } else { Ok((error, requested)) }
    }

    pub(crate) fn unreachable(&self, what: &str, access: &Access<'_>, why: &str) -> Error {
        let registry = &access.repository.registry;
        Error::new(Class::Infrastructure, what)
            .why(format!("{registry}: {}", scrub(why, &self.secrets())))
            .hint(format!("check the name {registry}, the network and the proxy variables, then run the same command again; it resumes"))
    }

    /// Returns the error of an error response; where a login is missing or not enough, with the places where one was looked for.
    pub(crate) fn refused(&self, what: &str, access: &Access<'_>, answer: &mut Response) -> Error {
        let body = answer.bytes(error_response::LIMIT).unwrap_or_default();
        let Repository { registry, name } = access.repository;
        let status = answer.status.as_u16();
        let error = error_response::error(what, registry, status, &body, &self.secrets());
        if !matches!(status, 401 | 403) {
            return error;
        }
        self.options.keyring.places(registry, name).into_iter().fold(error, Error::also)
    }

    /// Makes one attempt; authenticates if the registry requires it, and follows redirects.
    pub(crate) fn attempt(&self, access: &Access<'_>, request: &Request<'_>) -> Result<Response, AttemptError> {
        let base = self.base(&access.repository.registry)?;
        let mut request = request.clone();
        for _ in 0..REDIRECTS {
            network::check_plain(&request.url, &self.options.plain)?;
            let answer = self.authenticated(access, &request, request.url.same_origin(&base))?;
            let redirected = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(location) = answer.header("location").filter(|_| redirected && matches!(request.body, Body::None))
            else {
                return Ok(answer);
            };
            request.url = answer.url.join(location)?;
        }
        Err(AttemptError::Permanent(
            Error::new(Class::Infrastructure, "the registry redirects too often").why(request.url.to_string()),
        ))
    }

    /// Sends `request` with credentials if `same_origin`: no other host than the registry may see them.
    fn authenticated(
        &self,
        access: &Access<'_>,
        request: &Request<'_>,
        same_origin: bool,
    ) -> Result<Response, AttemptError> {
        let key = (access.repository.registry.clone(), access.scopes().join(" "));
        let known = if same_origin { self.state().headers.get(&key).cloned() } else { None };
        let answer = self.http.send(request, known.as_ref().map(Secret::reveal))?;
        if answer.status.as_u16() != 401 || !same_origin {
            return Ok(answer);
        }
        let challenge = answer.header("www-authenticate").and_then(challenge::parse);
        let Some(header) =
            challenge.map(|c| self.authorize(access, &answer.url, &c, known.as_ref())).transpose()?.flatten()
        else {
            return Ok(answer);
        };
        let answer = self.http.send(request, Some(header.reveal()))?;
        let mut state = self.state();
        if answer.status.as_u16() == 401 {
            state.headers.remove(&key);
        } else {
            state.headers.insert(key, header);
        }
        drop(state);
        Ok(answer)
    }

    /// Returns the `Authorization` for the `challenge` of `url`; `None` without a login, or if it would be the `refused` one.
    fn authorize(
        &self,
        access: &Access<'_>,
        url: &Url,
        challenge: &Challenge,
        refused: Option<&Secret>,
    ) -> Result<Option<Secret>, AttemptError> {
        let login = self.options.keyring.find(&access.repository.registry, &access.repository.name)?;
        self.state().secrets.extend(login.iter().flat_map(token::secrets_of));
        let header = match (challenge, &login) {
            (Challenge::Bearer { .. }, Some(crate::Login::Token(token))) => token::bearer(token),
            (Challenge::Basic, Some(crate::Login::Password { user, password })) => token::basic(user, password),
            (Challenge::Basic, _) => return Ok(None),
            (Challenge::Bearer { realm, service, scope }, login) => {
                let realm = url.join(realm)?;
                network::check_plain(&realm, &self.options.plain)?;
                let mut scopes: BTreeSet<String> = access.scopes().into_iter().collect();
                // Some registries use other names in scopes than in URLs.
                scopes.extend(scope.iter().flat_map(|scope| scope.split(' ')).map(str::to_owned));
                let scopes: Vec<String> = scopes.into_iter().filter(|scope| !scope.is_empty()).collect();
                self.fetch_token(access, &token::request(realm, service.as_deref(), &scopes, login.as_ref())?)?
            }
        };
        let mut state = self.state();
        state.secrets.push(Secret::new(header.reveal().split_once(' ').map_or("", |(_, word)| word)));
        drop(state);
        Ok((refused != Some(&header)).then_some(header))
    }

    /// Fetches a token and returns it as `Authorization`.
    fn fetch_token(&self, access: &Access<'_>, wanted: &token::TokenRequest) -> Result<Secret, AttemptError> {
        let mut request = Request::new(wanted.method, wanted.url.clone());
        if let Some(form) = &wanted.form {
            request.headers.push(("content-type", "application/x-www-form-urlencoded".to_owned()));
            request.body = Body::Bytes(form.reveal().as_bytes());
        }
        let mut answer = self.http.send(&request, wanted.login.as_ref().map(Secret::reveal))?;
        let what = format!("cannot get a token for {}", access.repository);
        match answer.status.as_u16() {
            200 => {
                let body = answer.bytes(token::LIMIT).map_err(|e| AttemptError::Transient(e.to_string()))?;
                let none = || {
                    Error::new(Class::Infrastructure, what)
                        .why(format!("the response of {} contains no token", wanted.url))
                };
                token::parse(&body).ok_or_else(|| AttemptError::Permanent(none()))
            }
            status if is_transient(status) => {
                Err(AttemptError::Transient(format!("the token service returned {status}")))
            }
            _ => Err(AttemptError::Permanent(self.refused(&what, access, &mut answer))),
        }
    }

    /// Returns the base URL of a registry: https, or http if that is allowed and the registry has no TLS.
    fn base(&self, registry: &str) -> Result<Url> {
        if let Some(base) = self.state().bases.get(registry) {
            return Ok(base.clone());
        }
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let mut base = Url::parse(&format!("https://{host}/v2/"))?;
        if network::may_be_plain(host, &self.options.plain) {
            let plain = Url::parse(&format!("http://{host}/v2/"))?;
            if !self.has_tls(&plain, &base) {
                base = plain;
            }
        }
        self.state().bases.insert(registry.to_owned(), base.clone());
        Ok(base)
    }

    /// Whether a host that may use plain HTTP has TLS: it answers a plain request without credentials with something other than HTTP, with 400 as
    /// Go and nginx do, or with a redirect to https; or it closes the connection, as HAProxy and stunnel do, and answers over TLS.
    fn has_tls(&self, plain: &Url, secure: &Url) -> bool {
        match self.http.send(&Request::new("GET", plain.clone()), None) {
            Ok(answer) => {
                let redirect = answer.header("location").is_some_and(|to| to.starts_with("https://"));
                answer.status.as_u16() == 400 || answer.status.is_redirection() && redirect
            }
            Err(Failure::NotHttp(_)) => true,
            Err(Failure::Transient(_)) => {
                let probe = Request { limit: Some(PROBE), ..Request::new("GET", secure.clone()) };
                // A certificate that is not trusted is TLS, too.
                matches!(self.http.send(&probe, None), Ok(_) | Err(Failure::Permanent(_)))
            }
            Err(Failure::Permanent(_)) => false,
        }
    }

    pub(crate) fn secrets(&self) -> Vec<Secret> {
        self.state().secrets.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Entries are complete even if a thread panicked.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// An error with its `Retry-After`.
pub(crate) type Retry = (Error, Option<Duration>);

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// A retry may succeed.
    Transient(String),
    /// A retry would fail the same way.
    Permanent(Error),
}

impl From<Error> for AttemptError {
    fn from(error: Error) -> Self {
        Self::Permanent(error)
    }
}

impl From<Failure> for AttemptError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Transient(why) | Failure::NotHttp(why) => Self::Transient(why),
            Failure::Permanent(why) => Self::Permanent(
                Error::new(Class::Infrastructure, "cannot talk to the registry")
                    .why(why)
                    .hint("if a certificate authority of your organisation signed its certificate, pass that authority with --ca-file"),
            ),
        }
    }
}

/// Whether a retry may get another response than this status.
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}
