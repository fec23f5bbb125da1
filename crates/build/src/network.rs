//! Access to registries.

use std::path::{Path, PathBuf};

use common::event::Sink;
use common::{Class, Error, Result};
use oci::Reference;
use registry::backoff::Backoff;
use registry::clock::{Clock, System};
use registry::credentials::{Files, Keyring};
use registry::network::Proxies;
use registry::{Client, Pulled, Timeouts};

/// Bundles of trusted certificate authorities: Debian and Alpine, Fedora, SUSE.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Options for access to registries.
#[derive(Debug)]
pub struct Network {
    /// Registries with plain HTTP allowed.
    pub plain: Vec<String>,
    /// PEM files of additional certificate authorities.
    pub ca_files: Vec<PathBuf>,
    /// PEM file that replaces the system's certificate authorities.
    pub roots: Option<PathBuf>,
    /// The environment's proxies.
    pub proxies: Proxies,
    /// The user's logins.
    pub keyring: Files,
}

/// Transfer settings. They do not affect what is transferred.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Upload chunk size in MiB per request; GHCR accepts at most 4.
    pub chunk: u64,
    /// Number of blobs transferred at the same time.
    pub parallel: u16,
}

impl Default for Pace {
    fn default() -> Self {
        Self { chunk: 4, parallel: 4 }
    }
}

/// Fails with `--offline`; `why` says what the registry is needed for.
pub fn refuse_offline(offline: bool, why: &str) -> Result<()> {
    if !offline {
        return Ok(());
    }
    Err(Error::new(Class::Infrastructure, "cannot access a registry with --offline")
        .why(why)
        .hint("run without --offline"))
}

impl Network {
    /// Pulls `reference` into the layout `out`.
    pub fn pull(&self, pace: Pace, sink: &dyn Sink, reference: &Reference, out: &Path) -> Result<Pulled> {
        registry::pull(&self.client(pace, &System::start(), sink)?, sink, reference, out)
    }

    /// Creates a registry client that reports its retries to `sink`.
    pub fn client<'a>(&'a self, pace: Pace, clock: &'a dyn Clock, sink: &'a dyn Sink) -> Result<Client<'a>> {
        let keyring: &dyn Keyring = &self.keyring;
        Client::new(registry::Options {
            plain: self.plain.clone(),
            proxies: self.proxies.clone(),
            roots: self.trusted()?,
            keyring,
            clock,
            sink,
            // Different per process, so that clients do not retry at the same time. No output depends on it.
            backoff: Backoff { seed: u64::from(std::process::id()), ..Backoff::default() },
            timeouts: Timeouts::default(),
            chunk: pace.chunk << 20,
            parallel: usize::from(pace.parallel),
        })
    }

    fn trusted(&self) -> Result<Vec<u8>> {
        let known = || BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file());
        let mut roots = Vec::new();
        if let Some(bundle) = self.roots.clone().or_else(known) {
            roots.extend(fs_err::read(&bundle)?);
        }
        for file in &self.ca_files {
            let added = fs_err::read(file)?;
            registry::authorities::check(&added).map_err(|e| e.file(file))?;
            roots.push(b'\n');
            roots.extend(added);
        }
        Ok(roots)
    }
}
