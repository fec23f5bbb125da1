//! One HTTP request and its response, over `ureq`. Retries and redirects are the caller's.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use common::{Class, Error, Result};
use ureq::http::{self, HeaderMap, StatusCode};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, TcpConnector};
use ureq::{Agent, SendBody};

use crate::authorities;
use crate::network::Proxies;
use crate::tls::TlsConnector;
use crate::url::Url;

/// Network timeouts.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To connect.
    pub connect: Duration,
    /// To read or write the next bytes.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(30), idle: Duration::from_secs(120) }
    }
}

/// Body of a request. It can be sent again.
#[derive(Clone, Copy)]
pub(crate) enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    /// `length` bytes of a file from `start`.
    Part {
        file: &'a File,
        start: u64,
        length: u64,
    },
}

/// A request without its `Authorization`.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    pub method: &'static str,
    pub url: Url,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body<'a>,
    /// Longest time until its end.
    pub limit: Option<Duration>,
}

impl Request<'_> {
    pub(crate) fn new(method: &'static str, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), body: Body::None, limit: None }
    }
}

/// A response of any status.
pub(crate) struct Response {
    pub url: Url,
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: ureq::Body,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn reader(&mut self) -> impl Read + '_ {
        self.body.as_reader()
    }

    /// Reads the whole body; an error of kind `FileTooLarge` above `limit`.
    pub(crate) fn bytes(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.body.as_reader().take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("the response is longer than {limit} bytes"),
            ));
        }
        Ok(bytes)
    }
}

/// Why there was no response.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server does not speak the protocol of the request.
    NotHttp(String),
    /// A retry may succeed.
    Transient(String),
    /// A retry would fail the same way.
    Permanent(String),
}

/// Connections, kept open between requests.
pub(crate) struct Http {
    agent: Agent,
    proxies: Proxies,
}

impl Http {
    /// `roots` is PEM text of certificate authorities.
    pub(crate) fn new(timeouts: Timeouts, proxies: Proxies, roots: &[u8]) -> Result<Self> {
        let roots = authorities::parse(roots)?;
        let tls =
            TlsConnector::new(&roots).map_err(|e| Error::new(Class::Infrastructure, "cannot set up TLS").why(e))?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("solana-talos/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(timeouts.connect))
            .timeout_per_read(Some(timeouts.idle))
            .timeout_per_write(Some(timeouts.idle))
            .build();
        let connector = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default()).chain(tls);
        Ok(Self { agent: Agent::with_parts(config, connector, DefaultResolver::default()), proxies })
    }

    /// Sends `request` with `login` as its `Authorization`.
    pub(crate) fn send(&self, request: &Request<'_>, login: Option<&str>) -> Result<Response, Failure> {
        let mut builder = http::Request::builder().method(request.method).uri(request.url.full().clone());
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(login) = login {
            builder = builder.header("authorization", login);
        }
        let length = match request.body {
            Body::None => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Part { length, .. } => length,
        };
        if !["GET", "HEAD"].contains(&request.method) {
            builder = builder.header("content-length", length);
        }
        let (parts, body) = match request.body {
            Body::None | Body::Bytes(&[]) | Body::Part { length: 0, .. } => self.run(builder.body(()), request)?,
            Body::Bytes(bytes) => self.run(builder.body(bytes), request)?,
            Body::Part { file, start, length } => {
                let mut part = Part { file, at: start, left: length };
                self.run(builder.body(SendBody::from_reader(&mut part)), request)?
            }
        }
        .into_parts();
        Ok(Response { url: request.url.clone(), status: parts.status, headers: parts.headers, body })
    }

    fn run(
        &self,
        call: http::Result<http::Request<impl ureq::AsSendBody>>,
        Request { url, limit, .. }: &Request<'_>,
    ) -> Result<http::Response<ureq::Body>, Failure> {
        let call = call.map_err(|e| Failure::Permanent(e.to_string()))?;
        let proxy = self.proxies.choose(url.secure(), url.authority());
        if proxy.is_some_and(|proxy| proxy.reveal().to_ascii_lowercase().starts_with("socks")) {
            let why = "the proxy variables of the environment name a SOCKS proxy: only HTTP proxies are supported";
            return Err(Failure::Permanent(why.to_owned()));
        }
        let proxy = proxy.map(|proxy| ureq::Proxy::new(proxy.reveal())).transpose();
        let proxy = proxy.map_err(|_| {
            Failure::Permanent("the proxy variables of the environment contain an invalid URL".to_owned())
        })?;
        let call = self.agent.configure_request(call).proxy(proxy).timeout_global(*limit).build();
        self.agent.run(call).map_err(|e| classify(&e))
    }
}

/// A part of a file as a stream. Reads at an offset, so that threads can share the file.
struct Part<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was truncated while it was read"));
        }
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

fn classify(error: &ureq::Error) -> Failure {
    use ureq::Error as E;
    let text = match error {
        E::Timeout(_) => "timeout: no data for too long".to_owned(),
        E::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            "the connection was closed before the end of the response".to_owned()
        }
        other => other.to_string(),
    };
    match error {
        E::Io(e) if e.kind() == io::ErrorKind::InvalidData && text.contains("certificate") => Failure::Permanent(text),
        E::Io(_)
        | E::Timeout(_)
        | E::HostNotFound
        | E::ConnectionFailed
        | E::ConnectProxyFailed(_)
        | E::BodyStalled => Failure::Transient(text),
        E::Protocol(_) | E::LargeResponseHeader(..) => Failure::NotHttp(text),
        _ => Failure::Permanent(text),
    }
}
