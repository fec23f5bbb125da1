//! Options that several verbs have, as the plain values of the build.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use build::{KeyChoice, Network, Pace};
use clap::{Args, ValueEnum};
use registry::credentials::Files;
use registry::network::Proxies;

/// Environment variable with the PIN of tokens whose URI names no file: neither a command line nor a key set holds one.
const PIN: &str = "SOLANA_TALOS_PIN";

/// How registries are reached.
#[derive(Args, Default)]
pub struct NetworkOptions {
    /// Allow plain HTTP to this registry, written as in the image's name; repeatable. Not needed for loopback
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure_http: Vec<String>,
    /// Trust the certificate authorities in this PEM file, too; repeatable
    #[arg(long, value_name = "FILE")]
    ca_file: Vec<PathBuf>,
}

impl NetworkOptions {
    /// With the proxies, logins and certificate authorities that the environment names.
    pub fn network(&self) -> Network {
        Network {
            plain: self.insecure_http.clone(),
            ca_files: self.ca_file.clone(),
            roots: std::env::var_os("SSL_CERT_FILE").map(PathBuf::from),
            proxies: Proxies::from_environment(|name| std::env::var(name).ok()),
            keyring: Files::from_environment(|name| std::env::var_os(name)),
        }
    }
}

/// How fast blobs move. No image depends on it.
#[derive(Args, Clone, Copy, Debug)]
pub struct PaceOptions {
    /// MiB that one request of an upload carries; GHCR takes no more than 4
    #[arg(long, value_name = "MIB", default_value = "4", value_parser = clap::value_parser!(u64).range(1..=1024))]
    chunk: u64,
    /// Blobs that move at the same time
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
}

impl From<PaceOptions> for Pace {
    fn from(options: PaceOptions) -> Self {
        Self { chunk: options.chunk, parallel: options.parallel }
    }
}

/// Options of every verb that signs what a build makes.
#[derive(Args)]
pub struct KeyOptions {
    /// The key set that signs; made by `keys init` [default: a development set in the cache]
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Write the digests to sign into DIR, for keys whose private half is not here, and take the signatures that `attach` put there
    #[arg(long, value_name = "DIR", requires = "keys")]
    sign_later: Option<PathBuf>,
}

impl KeyOptions {
    /// With the PIN of the environment, and the clock.
    pub fn choice(&self) -> KeyChoice {
        KeyChoice { dir: self.keys.clone(), sign_later: self.sign_later.clone(), pin: pin(), now: now() }
    }
}

/// Where the kernel's source comes from.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SourceChoice {
    /// Debian's linux-source package, with Debian's patches
    Debian,
    /// The tarball of kernel.org
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

/// The PIN that the environment holds.
pub fn pin() -> Option<String> {
    std::env::var(PIN).ok()
}

/// The clock, in seconds since 1970: certificates are checked against it. Nothing that is built holds it.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
