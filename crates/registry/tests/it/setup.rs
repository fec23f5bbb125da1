//! A client for tests: does not wait, uses small chunks, keeps all events.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::event::{Event, Sink};
use common::{Error, Result, Sha256};
use registry::backoff::Backoff;
use registry::clock::Clock;
use registry::credentials::{Anonymous, Keyring};
use registry::network::Proxies;
use registry::{Client, Existing, Login, Options, Pulled, Secret, Tagged, Timeouts};

/// A clock that only `sleep` advances.
#[derive(Default)]
pub struct Still(pub AtomicU64);

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn sleep(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

/// Keeps every event as JSON.
#[derive(Default)]
pub struct Events(Mutex<Vec<String>>);

impl Sink for Events {
    fn emit(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(serde_json::to_string(event).unwrap());
    }
}

impl Events {
    pub fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

pub struct Password(pub &'static str, pub &'static str);

impl Keyring for Password {
    fn find(&self, _registry: &str, _repository: &str) -> Result<Option<Login>> {
        Ok(Some(Login::Password { user: self.0.to_owned(), password: Secret::new(self.1) }))
    }

    fn places(&self, registry: &str, repository: &str) -> Vec<String> {
        vec![format!("the test: a login for {registry}/{repository}")]
    }
}

/// Settings of a test.
pub struct Setup<'a> {
    pub keyring: &'a dyn Keyring,
    pub chunk: u64,
    pub parallel: usize,
    pub attempts: u32,
    pub idle: Duration,
    pub roots: Vec<u8>,
    pub clock: Still,
    pub events: Events,
    /// Error of the verifier.
    pub verify: Option<&'static str>,
    pub existing: Existing,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            keyring: &Anonymous,
            chunk: 16 << 10,
            parallel: 1,
            attempts: 4,
            idle: Duration::from_secs(20),
            roots: Vec::new(),
            clock: Still::default(),
            events: Events::default(),
            verify: None,
            existing: Existing::Keep,
        }
    }
}

impl Setup<'_> {
    pub fn client(&self) -> Client<'_> {
        Client::new(Options {
            plain: Vec::new(),
            proxies: Proxies::default(),
            roots: self.roots.clone(),
            keyring: self.keyring,
            clock: &self.clock,
            sink: &self.events,
            backoff: Backoff { attempts: self.attempts, ..Backoff::default() },
            timeouts: Timeouts { connect: Duration::from_secs(5), idle: self.idle },
            chunk: self.chunk,
            parallel: self.parallel,
        })
        .unwrap()
    }

    /// Pushes the layout to `registry`.
    pub fn push(&self, layout: &Path, registry: &str) -> Result<Vec<Tagged>> {
        let plans = registry::plans(layout, Some(registry))?;
        let verify = |layout: &oci::Layout, digest: &Sha256| {
            assert!(!layout.images().unwrap().is_empty(), "{digest}");
            self.verify.map_or(Ok(()), |why| Err(Error::new(common::Class::Verification, why)))
        };
        registry::push(&self.client(), &self.events, &plans, &verify, self.existing)
    }

    pub fn pull(&self, reference: &str, out: &Path) -> Result<Pulled> {
        registry::pull(&self.client(), &self.events, &reference.parse().unwrap(), out)
    }
}

/// Returns the total wait in milliseconds.
pub fn waited(setup: &Setup<'_>) -> u64 {
    setup.clock.0.load(Ordering::SeqCst)
}

/// Asserts that `out` contains every blob of `layout`, and the image `digest`.
pub fn assert_same(layout: &Path, out: &Path, digest: Sha256) {
    assert_eq!(crate::layouts::blobs(layout), crate::layouts::blobs(out));
    let (ours, theirs) = (oci::Layout::open(layout).unwrap(), oci::Layout::open(out).unwrap());
    assert_eq!(theirs.images().unwrap()[0].digest, digest);
    for layer in &theirs.images().unwrap()[0].layers {
        theirs.blob(&layer.descriptor).unwrap();
    }
    let artifacts = |layout: &oci::Layout| {
        let mut all: Vec<_> =
            layout.artifacts().unwrap().into_iter().map(|a| (a.name().map(str::to_owned), a.manifest)).collect();
        all.sort_by_key(|(name, manifest)| (name.clone(), format!("{manifest:?}")));
        all
    };
    assert_eq!(artifacts(&ours), artifacts(&theirs));
}
