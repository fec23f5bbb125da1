//! Requests to registries as callers want them: logged in, made again after passing failures, redirected where that is safe.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use common::{Class, Error, Result};

use crate::backoff::{Backoff, retry_after};
use crate::challenge::{self, Challenge};
use crate::clock::Clock;
use crate::credentials::Keyring;
use crate::http::{Body, Failure, Http, Request, Response, Timeouts};
use crate::network::{self, Proxies};
use crate::refusal;
use crate::secret::{Secret, scrub};
use crate::token;
use crate::url::Url;

/// Redirects that one request may take.
const REDIRECTS: u32 = 5;

/// How registries are reached.
pub struct Options<'a> {
    /// Hosts, with their port, that may be reached without TLS.
    pub plain: Vec<String>,
    /// Proxies.
    pub proxies: Proxies,
    /// PEM text of the certificate authorities to trust.
    pub roots: Vec<u8>,
    /// Logins.
    pub keyring: &'a dyn Keyring,
    /// Time.
    pub clock: &'a dyn Clock,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// Waits for the other side.
    pub timeouts: Timeouts,
    /// Bytes of one PATCH. GHCR takes no more than 4 MiB.
    pub chunk: u64,
    /// Blobs that move at the same time, at least one.
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
    /// Host, with a port where one is given.
    pub registry: String,
    /// Path.
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

/// What a request needs to be allowed.
#[derive(Clone, Debug)]
pub(crate) struct Access<'a> {
    pub repository: &'a Repository,
    pub push: bool,
    /// A further repository of the same registry that is read.
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
    /// Registries and the beginning of their addresses.
    bases: BTreeMap<String, Url>,
    /// Headers by registry and scopes.
    headers: BTreeMap<(String, String), Secret>,
    /// Everything that must not be shown.
    secrets: Vec<Secret>,
}

/// A client for any number of registries and threads.
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
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// [`Class::BadInput`] when the certificate authorities cannot be read.
    pub fn new(options: Options<'a>) -> Result<Self> {
        let http = Http::new(options.timeouts, options.proxies.clone(), &options.roots)?;
        let state = State { secrets: options.proxies.secrets(), ..State::default() };
        Ok(Self { options, http, state: Mutex::new(state) })
    }

    /// The address of `path` below `/v2/<repository>/`.
    pub(crate) fn url(&self, repository: &Repository, path: &str) -> Result<Url> {
        let base = self.base(&repository.registry)?;
        base.join(&format!("/v2/{}/{path}", repository.name))
    }

    /// Sends `request` until an answer comes that is not passing, and gives it, whatever its status.
    pub(crate) fn send(&self, what: &str, access: &Access<'_>, request: &Request<'_>) -> Result<Response> {
        let mut failures = 0;
        loop {
            let failure = match self.attempt(access, request) {
                Ok(mut answer) if is_passing(answer.status.as_u16()) => {
                    let (error, wait) = self.passing(what, access, &mut answer);
                    if wait.is_none() {
                        return Err(error);
                    }
                    (error, wait.flatten())
                }
                Ok(answer) => return Ok(answer),
                Err(Stop::Lasting(error)) => return Err(error),
                Err(Stop::Passing(why)) => (self.unreachable(what, access, &why), None),
            };
            failures += 1;
            self.pause(failures, what, failure)?;
        }
    }

    /// Sends `request` and reads the whole body, however often that takes. Bodies of failures are read as well.
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
                    return Err(Error::new(Class::BadInput, what).why(why));
                }
                Err(e) => {
                    failures += 1;
                    self.pause(failures, what, (self.unreachable(what, access, &e.to_string()), None))?;
                }
            }
        }
    }

    /// Waits after failure number `failures`, or gives up with its error.
    pub(crate) fn pause(&self, failures: u32, what: &str, (error, asked): (Error, Option<Duration>)) -> Result<()> {
        if failures >= self.options.backoff.attempts {
            return Err(error);
        }
        self.options.clock.sleep(self.options.backoff.wait(failures, what, asked));
        Ok(())
    }

    /// The error of a passing answer, and how long the registry asks to wait; without the outer `Some` it is of no use to ask again.
    pub(crate) fn passing(
        &self,
        what: &str,
        access: &Access<'_>,
        answer: &mut Response,
    ) -> (Error, Option<Option<Duration>>) {
        let asked = answer.header("retry-after").and_then(retry_after);
        let status = answer.status.as_u16();
        let body = answer.bytes(refusal::LIMIT).unwrap_or_default();
        let error = refusal::error(what, &access.repository.registry, status, &body, &self.secrets());
        let useless = refusal::is_full(status, &body);
        (error, (!useless).then_some(asked))
    }

    pub(crate) fn unreachable(&self, what: &str, access: &Access<'_>, why: &str) -> Error {
        let registry = &access.repository.registry;
        Error::new(Class::Infrastructure, what)
            .why(format!("{registry}: {}", scrub(why, &self.secrets())))
            .hint(format!("check the name {registry}, the network and the proxy variables, then run the same command again; what arrived is kept"))
    }

    /// The error for an answer that is no success.
    pub(crate) fn refused(&self, what: &str, access: &Access<'_>, answer: &mut Response) -> Error {
        let body = answer.bytes(refusal::LIMIT).unwrap_or_default();
        refusal::error(what, &access.repository.registry, answer.status.as_u16(), &body, &self.secrets())
    }

    /// One attempt, with a login where one is asked for.
    pub(crate) fn attempt(&self, access: &Access<'_>, request: &Request<'_>) -> Result<Response, Stop> {
        let base = self.base(&access.repository.registry)?;
        let mut request = request.clone();
        for _ in 0..REDIRECTS {
            network::check_plain_url(&request.url, &self.options.plain)?;
            let answer = self.logged_in(access, &request, request.url.same_origin(&base))?;
            let redirected = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(location) = answer.header("location").filter(|_| redirected && matches!(request.body, Body::None))
            else {
                return Ok(answer);
            };
            request.url = answer.url.join(location)?;
        }
        Err(Stop::Lasting(
            Error::new(Class::Infrastructure, "the registry redirects in a circle").why(request.url.to_string()),
        ))
    }

    /// `ours` tells whether the address is the registry's own: no other one gets to see a login.
    fn logged_in(&self, access: &Access<'_>, request: &Request<'_>, ours: bool) -> Result<Response, Stop> {
        let key = (access.repository.registry.clone(), access.scopes().join(" "));
        let known = if ours { self.state().headers.get(&key).cloned() } else { None };
        let answer = self.http.send(request, known.as_ref().map(Secret::reveal))?;
        if answer.status.as_u16() != 401 || !ours {
            return Ok(answer);
        }
        let challenge = answer.header("www-authenticate").and_then(challenge::parse);
        let Some(header) =
            challenge.map(|asked| self.authorize(access, &answer.url, &asked, known.as_ref())).transpose()?.flatten()
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

    /// The header that meets `challenge`, which `url` gave; none where it would be the one that was refused, or there is no login.
    fn authorize(
        &self,
        access: &Access<'_>,
        url: &Url,
        challenge: &Challenge,
        refused: Option<&Secret>,
    ) -> Result<Option<Secret>, Stop> {
        let login = self.options.keyring.find(&access.repository.registry, &access.repository.name)?;
        self.state().secrets.extend(login.iter().flat_map(token::secrets_of));
        let header = match (challenge, &login) {
            (Challenge::Basic, Some(crate::Login::Password { user, password })) => token::basic(user, password),
            (Challenge::Basic, _) => return Ok(None),
            (Challenge::Bearer { realm, service, scope }, login) => {
                let realm = url.join(realm)?;
                network::check_plain_url(&realm, &self.options.plain)?;
                let mut scopes: BTreeSet<String> = access.scopes().into_iter().collect();
                // A registry may name its repositories otherwise than its addresses do.
                scopes.extend(scope.iter().flat_map(|scope| scope.split(' ')).map(str::to_owned));
                let scopes: Vec<String> = scopes.into_iter().filter(|scope| !scope.is_empty()).collect();
                self.fetch_token(access, &token::ask(realm, service.as_deref(), &scopes, login.as_ref())?)?
            }
        };
        let mut state = self.state();
        state.secrets.push(Secret::new(header.reveal().split_once(' ').map_or("", |(_, word)| word)));
        drop(state);
        Ok((refused != Some(&header)).then_some(header))
    }

    /// A token as a header. What the token service refuses is refused for good.
    fn fetch_token(&self, access: &Access<'_>, ask: &token::Ask) -> Result<Secret, Stop> {
        let mut request = Request::new(ask.method, ask.url.clone());
        if let Some(form) = &ask.form {
            request.headers.push(("content-type", "application/x-www-form-urlencoded".to_owned()));
            request.body = Body::Bytes(form.reveal().as_bytes());
        }
        let mut answer = self.http.send(&request, ask.login.as_ref().map(Secret::reveal))?;
        let what = format!("cannot get a token for {}", access.repository);
        match answer.status.as_u16() {
            200 => {
                let body = answer.bytes(token::LIMIT).map_err(|e| Stop::Passing(e.to_string()))?;
                let none = || Error::new(Class::Infrastructure, what).why(format!("{} gave no token", ask.url));
                token::parse(&body).ok_or_else(|| Stop::Lasting(none()))
            }
            status if is_passing(status) => Err(Stop::Passing(format!("the token service answered {status}"))),
            _ => Err(Stop::Lasting(self.refused(&what, access, &mut answer))),
        }
    }

    /// `https://` before the registry's host; plain where that is allowed and the other side speaks it.
    fn base(&self, registry: &str) -> Result<Url> {
        if let Some(base) = self.state().bases.get(registry) {
            return Ok(base.clone());
        }
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let mut base = Url::parse(&format!("https://{host}/v2/"))?;
        if network::may_be_plain(host, &self.options.plain) {
            let plain = Url::parse(&format!("http://{host}/v2/"))?;
            if !self.wants_tls(&plain) {
                base = plain;
            }
        }
        self.state().bases.insert(registry.to_owned(), base.clone());
        Ok(base)
    }

    /// Whether a host that may be plain wants TLS: asked in plain and without a login, it answers something else than HTTP, or 400 as Go does.
    fn wants_tls(&self, plain: &Url) -> bool {
        match self.http.send(&Request::new("GET", plain.clone()), None) {
            Ok(answer) => answer.status.as_u16() == 400,
            Err(failure) => matches!(failure, Failure::NotHttp(_)),
        }
    }

    pub(crate) fn secrets(&self) -> Vec<Secret> {
        self.state().secrets.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A thread that panicked leaves whole entries behind.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Why an attempt gave no answer.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The next attempt may do better.
    Passing(String),
    /// None would.
    Lasting(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Lasting(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Passing(why) | Failure::NotHttp(why) => Self::Passing(why),
            Failure::Lasting(why) => Self::Lasting(
                Error::new(Class::Infrastructure, "cannot talk to the registry")
                    .why(why)
                    .hint("where its certificate is your own organisation's, give that one's authority with --ca-file"),
            ),
        }
    }
}

/// Answers that the same request may not get a second time.
pub(crate) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}
