//! How registries are reached: options of every verb that may ask one, and the environment.

use std::path::{Path, PathBuf};

use clap::Args;
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

#[derive(Args, Default)]
pub struct Network {
    /// Allow plain HTTP to this registry, written as in the image's name; repeatable. This machine itself needs no such leave
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure_http: Vec<String>,
    /// Trust the certificate authorities in this PEM file, too; repeatable
    #[arg(long, value_name = "FILE")]
    ca_file: Vec<PathBuf>,
}

/// How fast blobs move. No image depends on it.
#[derive(Args, Clone, Copy)]
pub struct Pace {
    /// MiB that one request of an upload carries; GHCR takes no more than 4
    #[arg(long, value_name = "MIB", default_value = "4", value_parser = clap::value_parser!(u64).range(1..=1024))]
    chunk: u64,
    /// Blobs that move at the same time
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
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

/// The files of logins that the environment names.
pub fn keyring() -> Files {
    Files::from_environment(|name| std::env::var_os(name))
}

impl Network {
    /// Pulls `reference` into the layout `out`.
    ///
    /// # Errors
    /// As [`Self::client`] and [`registry::pull`].
    pub fn pull(&self, pace: Pace, sink: &dyn Sink, reference: &Reference, out: &Path) -> Result<Pulled> {
        let (keyring, clock) = (keyring(), System::start());
        registry::pull(&self.client(pace, &keyring, &clock)?, sink, reference, out)
    }

    /// A client with these options, the environment's proxies and the machine's certificate authorities.
    ///
    /// # Errors
    /// When a file of certificate authorities cannot be read.
    pub fn client<'a>(&self, pace: Pace, keyring: &'a dyn Keyring, clock: &'a dyn Clock) -> Result<Client<'a>> {
        Client::new(registry::Options {
            plain: self.insecure_http.clone(),
            proxies: Proxies::from_environment(|name| std::env::var(name).ok()),
            roots: self.roots()?,
            keyring,
            clock,
            // Machines that failed together shall not come back together; no output depends on it.
            backoff: Backoff { seed: u64::from(std::process::id()), ..Backoff::default() },
            timeouts: Timeouts::default(),
            chunk: pace.chunk << 20,
            parallel: usize::from(pace.parallel),
        })
    }

    fn roots(&self) -> Result<Vec<u8>> {
        let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let known = || BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file());
        let files = named.or_else(known).into_iter().chain(self.ca_file.iter().cloned());
        let mut roots = Vec::new();
        for file in files {
            roots.extend(read(&file)?);
            roots.push(b'\n');
        }
        Ok(roots)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io("cannot read certificate authorities", path, &e))
}
