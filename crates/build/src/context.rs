//! Where the project is, where the cache is, and how what happens is told: what every step needs.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use common::event::Sink;
use common::stage::Cache;
use common::store::Store;
use common::{Class, Error, Result};
use toolchain::{Archives, Fetcher};

use crate::sources::SOURCES;

/// What a context is made of.
pub struct Settings {
    /// The project's root directory.
    pub project: PathBuf,
    /// Root of the cache.
    pub cache: PathBuf,
    /// Directories of files named by their sha256, looked up before the network.
    pub mirrors: Vec<PathBuf>,
    /// Whether the network must not be used.
    pub offline: bool,
    /// Parallel compiler processes; never part of a key.
    pub jobs: usize,
    /// The user's home of cargo, which has what this program was built of.
    pub cargo_home: Option<PathBuf>,
    /// Where events go.
    pub sink: Box<dyn Sink + Send>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("project", &self.project).field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// What every step of a build needs.
pub struct Context {
    /// The project's root directory.
    pub project: PathBuf,
    /// Root of the cache.
    pub cache: PathBuf,
    /// Content-addressed inputs.
    pub store: Store,
    /// Parallel compiler processes; never part of a key.
    pub jobs: usize,
    /// Whether the network must not be used.
    pub offline: bool,
    /// Homes of cargo, whose downloads need not be made again.
    pub(crate) cargo_homes: Vec<PathBuf>,
    partial: PathBuf,
    archives: PathBuf,
    known_archives: OnceCell<Vec<String>>,
    sink: Box<dyn Sink + Send>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("project", &self.project).field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl Context {
    /// With `settings`.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let Settings { project, cache, mirrors, offline, jobs, cargo_home, sink } = settings;
        Self {
            store: Store::new(cache.join("store"), mirrors),
            // The second is of earlier versions of ours.
            cargo_homes: cargo_home.into_iter().chain([cache.join("cargo")]).collect(),
            partial: cache.join("unfinished/downloads"),
            archives: project.join("crates/toolchain/archives.list"),
            known_archives: OnceCell::new(),
            project,
            cache,
            jobs,
            offline,
            sink,
        }
    }

    /// Where events go.
    #[must_use]
    pub fn sink(&self) -> &dyn Sink {
        self.sink.as_ref()
    }

    /// The directory of finished stages.
    #[must_use]
    pub fn stages(&self) -> Cache<'_> {
        Cache::new(&self.cache, self.sink(), SOURCES)
    }

    /// Brings pinned files into the store.
    #[must_use]
    pub fn fetcher(&self) -> Fetcher<'_> {
        let archives = Archives::new(&self.archives, &self.known_archives);
        Fetcher::new(&self.store, &self.partial, archives, self.offline, self.sink())
    }

    /// A path of the project.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.project.join(relative)
    }
}

fn is_project(dir: &Path) -> bool {
    dir.join("kernel-config/pin.toml").is_file()
}

/// `dir`, if it is the root of a project.
///
/// # Errors
/// [`Class::BadInput`] when it is not.
pub fn check_project(dir: PathBuf) -> Result<PathBuf> {
    if is_project(&dir) {
        return Ok(dir);
    }
    Err(not_a_project(&dir).why("it does not hold kernel-config/pin.toml").hint("give --project the root of a clone"))
}

/// The root of the project that `from` is in.
///
/// # Errors
/// [`Class::BadInput`] when it is in none.
pub fn find_project(from: &Path) -> Result<&Path> {
    from.ancestors().find(|dir| is_project(dir)).ok_or_else(|| {
        not_a_project(from)
            .why("neither it nor a directory above it holds kernel-config/pin.toml")
            .hint("change into a clone of the project, or name it with --project DIR")
    })
}

fn not_a_project(dir: &Path) -> Error {
    Error::new(Class::BadInput, "not a solana-talos project").file(dir)
}

/// Where the cache is unless the user names another place; `variable` gives the environment.
///
/// # Errors
/// [`Class::BadInput`] without a home directory.
pub fn default_cache(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .map(|dir| dir.join("solana-talos"))
        .ok_or_else(|| {
            Error::new(Class::BadInput, "cannot determine the cache directory").hint("set HOME, or --cache DIR")
        })
}
