//! How registries are reached.

use std::path::{Path, PathBuf};

use common::event::Sink;
use common::{Class, Error, Result};
use oci::Reference;
use registry::backoff::Backoff;
use registry::clock::{Clock, System};
use registry::credentials::{Files, Keyring};
use registry::network::Proxies;
use registry::{Client, Pulled, Timeouts};

/// Where distributions keep the certificate authorities that they trust: Debian and Alpine, Fedora, SUSE.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// The way to registries.
#[derive(Debug)]
pub struct Network {
    /// Registries that plain HTTP may be used to.
    pub plain: Vec<String>,
    /// PEM files of certificate authorities to trust besides.
    pub ca_files: Vec<PathBuf>,
    /// The PEM file to trust in place of the machine's.
    pub roots: Option<PathBuf>,
    /// The environment's proxies.
    pub proxies: Proxies,
    /// The user's logins.
    pub keyring: Files,
}

/// How fast blobs move. No image depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// MiB that one request of an upload carries; GHCR takes no more than 4.
    pub chunk: u64,
    /// Blobs that move at the same time.
    pub parallel: u16,
}

impl Default for Pace {
    fn default() -> Self {
        Self { chunk: 4, parallel: 4 }
    }
}

/// Requires that `--offline` was not given to a verb that needs a registry; `why` says what for.
///
/// # Errors
/// [`Class::Infrastructure`] when it was.
pub fn refuse_offline(offline: bool, why: &str) -> Result<()> {
    if !offline {
        return Ok(());
    }
    Err(Error::new(Class::Infrastructure, "offline: a registry is needed").why(why).hint("leave --offline away"))
}

impl Network {
    /// Pulls `reference` into the layout `out`.
    ///
    /// # Errors
    /// As [`Self::client`] and [`registry::pull`].
    pub fn pull(&self, pace: Pace, sink: &dyn Sink, reference: &Reference, out: &Path) -> Result<Pulled> {
        registry::pull(&self.client(pace, &System::start())?, sink, reference, out)
    }

    /// A client with these logins, proxies and certificate authorities.
    ///
    /// # Errors
    /// When a file of certificate authorities cannot be read.
    pub fn client<'a>(&'a self, pace: Pace, clock: &'a dyn Clock) -> Result<Client<'a>> {
        let keyring: &dyn Keyring = &self.keyring;
        Client::new(registry::Options {
            plain: self.plain.clone(),
            proxies: self.proxies.clone(),
            roots: self.trusted()?,
            keyring,
            clock,
            // Machines that failed together shall not come back together; no output depends on it.
            backoff: Backoff { seed: u64::from(std::process::id()), ..Backoff::default() },
            timeouts: Timeouts::default(),
            chunk: pace.chunk << 20,
            parallel: usize::from(pace.parallel),
        })
    }

    fn trusted(&self) -> Result<Vec<u8>> {
        let known = || BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file());
        let files = self.roots.clone().or_else(known).into_iter().chain(self.ca_files.iter().cloned());
        let mut roots = Vec::new();
        for file in files {
            let read = std::fs::read(&file);
            roots.extend(read.map_err(|e| Error::io("cannot read certificate authorities", &file, &e))?);
            roots.push(b'\n');
        }
        Ok(roots)
    }
}
