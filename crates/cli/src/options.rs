//! Options shared by several verbs, and their conversion to the build's types.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use build::{By, Chosen, KeyChoice, Network, Pace};
use clap::{Args, ValueEnum};
use common::{Error, Result};
use registry::credentials::Files;
use registry::network::Proxies;

/// Registry and organisation of image names, unless the user gives others.
pub const REGISTRY: &str = "ghcr.io/our-org";

/// How images are named.
#[derive(Args)]
pub struct NameOptions {
    /// Registry and organisation in the image names [default: ghcr.io/our-org]
    #[arg(long, value_name = "NAME")]
    pub registry: Option<String>,
    /// Tag in the image names [default: custom-solana- and the Talos release]
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
}

impl NameOptions {
    /// Registry and organisation.
    pub fn registry(&self) -> &str {
        self.registry.as_deref().unwrap_or(REGISTRY)
    }
}

/// Environment variable with the PIN for PKCS#11 URIs without `pin-source`: a PIN is never in a command line or key set.
const PIN: &str = "SOLANA_TALOS_PIN";

/// Environment variable with the directory of the default key set.
const KEYS: &str = "SOLANA_TALOS_KEYS";

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
    /// Key set to sign with [default: the one that `keys init` creates by default, if it exists; else a development key set in the cache]
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Sign with the development key set in the cache, also if there is a default key set
    #[arg(long, conflicts_with_all = ["keys", "sign_later"])]
    development_keys: bool,
    /// Use an external signer for keys without a private key here: write signing requests to DIR and use the signatures that `attach` imported
    #[arg(long, value_name = "DIR")]
    sign_later: Option<PathBuf>,
}

impl KeyOptions {
    /// Adds the token PIN from the environment, and the current time.
    pub fn choice(&self) -> KeyChoice {
        self.choice_over(Chosen::Fallback)
    }

    /// As [`KeyOptions::choice`], with what is chosen if no option chooses.
    pub fn choice_over(&self, else_chosen: Chosen) -> KeyChoice {
        let chosen = match &self.keys {
            Some(dir) => Chosen::Set(dir.clone(), By::Option),
            None if self.development_keys => Chosen::Development(By::Option),
            None => else_chosen,
        };
        KeyChoice { chosen, default: default_keys(), sign_later: self.sign_later.clone(), pin: pin(), now: now() }
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

/// Returns the directory of the default key set, unless the environment names none. It is outside of any clone, so that no key is committed by
/// accident.
pub fn default_keys() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = || set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    set(KEYS).or_else(|| config().map(|dir| dir.join("solana-talos/keys")))
}

/// Returns `given`, or else the directory of the default key set; `option` is the option that gives it.
pub fn keys_or_default(given: Option<&Path>, option: &str) -> Result<PathBuf> {
    given.map(Path::to_owned).or_else(default_keys).ok_or_else(|| build::signing::no_default(option))
}

/// Returns the token PIN from the environment; an empty one is none.
pub fn pin() -> Option<String> {
    std::env::var(PIN).ok().filter(|pin| !pin.is_empty())
}

/// Returns the time in seconds since 1970, to check certificates against. It is never part of an output.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
