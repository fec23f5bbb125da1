//! Options shared by several verbs, and their conversion to the build's types.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use build::{KeyChoice, Network, Pace};
use clap::{Args, ValueEnum};
use common::Error;
use registry::credentials::Files;
use registry::network::Proxies;

/// Registry and organisation of image names, unless the user gives others.
pub const REGISTRY: &str = "ghcr.io/our-org";

/// Environment variable with the PIN for PKCS#11 URIs without `pin-source`: a PIN is never in a command line or key set.
const PIN: &str = "SOLANA_TALOS_PIN";

/// How registries are reached.
#[derive(Args, Default)]
pub struct NetworkOptions {
    /// Allow plain HTTP to this registry, written as in the image name; repeatable; not needed for loopback
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure_http: Vec<String>,
    /// Also trust the certificate authorities in this PEM file; repeatable
    #[arg(long, value_name = "FILE", value_parser = existing_file)]
    ca_file: Vec<PathBuf>,
}

/// Checked with the other options: a build reads the file only when it gets to a registry.
fn existing_file(path: &str) -> common::Result<PathBuf> {
    let opened = std::fs::File::open(path).and_then(|file| file.metadata());
    match opened.map_err(|e| Error::io("cannot read the certificate authorities", path, &e))? {
        meta if meta.is_dir() => {
            Err(Error::io("cannot read the certificate authorities", path, &ErrorKind::IsADirectory.into()))
        }
        _ => Ok(path.into()),
    }
}

impl NetworkOptions {
    /// Adds the proxies, logins and certificate authorities named by the environment.
    pub fn network(&self) -> Network {
        Network {
            plain: self.insecure_http.clone(),
            ca_files: self.ca_file.clone(),
            roots: std::env::var_os("SSL_CERT_FILE").map(PathBuf::from),
            proxies: Proxies::from_environment(|name| std::env::var(name).ok()),
            keyring: Files::from_environment(|name| std::env::var_os(name), common::process::user_id()),
        }
    }
}

/// Transfer settings. They do not affect what is transferred.
#[derive(Args, Clone, Copy, Debug)]
pub struct PaceOptions {
    /// Upload chunk size in MiB per request; GHCR accepts at most 4
    #[arg(long, value_name = "MIB", default_value = "4", value_parser = clap::value_parser!(u64).range(1..=1024))]
    chunk: u64,
    /// Number of blobs transferred at the same time
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
}

impl From<PaceOptions> for Pace {
    fn from(options: PaceOptions) -> Self {
        Self { chunk: options.chunk, parallel: options.parallel }
    }
}

/// Options of every verb that signs build results.
#[derive(Args, Default)]
pub struct KeyOptions {
    /// Key set to sign with, created by `keys init` [default: a development key set in the cache]
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Use an external signer for keys without a private key here: write signing requests to DIR and use the signatures that `attach` imported
    #[arg(long, value_name = "DIR", requires = "keys")]
    sign_later: Option<PathBuf>,
}

impl KeyOptions {
    /// Adds the token PIN from the environment, and the current time.
    pub fn choice(&self) -> KeyChoice {
        KeyChoice { dir: self.keys.clone(), sign_later: self.sign_later.clone(), pin: pin(), now: now() }
    }
}

/// Origin of the kernel source.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SourceChoice {
    /// Debian's linux-source package, including Debian's patches
    Debian,
    /// The kernel.org tarball
    Upstream,
}

impl From<SourceChoice> for build::SourceChoice {
    fn from(choice: SourceChoice) -> Self {
        match choice {
            SourceChoice::Debian => Self::Debian,
            SourceChoice::Upstream => Self::Upstream,
        }
    }
}

/// Returns the token PIN from the environment.
pub fn pin() -> Option<String> {
    std::env::var(PIN).ok()
}

/// Returns the time in seconds since 1970, to check certificates against. It is never part of an output.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
