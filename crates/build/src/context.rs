//! The context of every build step: project, cache, network access, receiver of events.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use common::event::Sink;
use common::stage::{Cache, Look};
use common::store::Store;
use common::{Class, Error, Result};
use toolchain::{Archives, Fetcher, go};

use crate::sources::SOURCES;

/// Settings of a context.
pub struct Settings {
    /// The project's root directory.
    pub project: PathBuf,
    /// Root of the cache.
    pub cache: PathBuf,
    /// Directories of files named by their SHA-256, searched before the network is used.
    pub mirrors: Vec<PathBuf>,
    /// Whether the network must not be used.
    pub offline: bool,
    /// Parallel compiler processes; never part of a key.
    pub jobs: usize,
    /// The user's `CARGO_HOME`, which usually has the crates that this program was built with.
    pub cargo_home: Option<PathBuf>,
    /// The user's Go.
    pub go_user: go::User,
    /// Where events go.
    pub sink: Box<dyn Sink + Send>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("project", &self.project).field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// The context of every build step.
pub struct Context {
    /// The project's root directory.
    pub project: PathBuf,
    /// Root of the cache.
    pub cache: PathBuf,
    /// Content-addressed store of inputs.
    pub store: Store,
    /// Parallel compiler processes; never part of a key.
    pub jobs: usize,
    /// Whether the network must not be used.
    pub offline: bool,
    /// `CARGO_HOME` directories with crates that need not be downloaded again.
    pub(crate) cargo_homes: Vec<PathBuf>,
    /// The user's Go, from which modules are fetched.
    pub(crate) go_user: go::User,
    partial: PathBuf,
    archives: PathBuf,
    known_archives: OnceCell<Vec<String>>,
    sink: Box<dyn Sink + Send>,
    look: Option<Look>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("project", &self.project).field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl Context {
    /// Creates a context.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let Settings { project, cache, mirrors, offline, jobs, cargo_home, go_user, sink } = settings;
        Self {
            store: Store::new(cache.join("store"), mirrors),
            // The second is from earlier versions of this program.
            cargo_homes: cargo_home.into_iter().chain([cache.join("cargo")]).collect(),
            partial: cache.join("unfinished/downloads"),
            archives: project.join("crates/toolchain/archives.list"),
            known_archives: OnceCell::new(),
            go_user,
            project,
            cache,
            jobs,
            offline,
            sink,
            look: None,
        }
    }

    /// Looks stages up instead of running them, and fetches nothing.
    #[must_use]
    pub fn looking(self) -> Self {
        Self { look: Some(Look::default()), ..self }
    }

    /// Returns what is known of stages, if they are only looked up.
    #[must_use]
    pub fn look(&self) -> Option<&Look> {
        self.look.as_ref()
    }

    /// Returns the receiver of events.
    #[must_use]
    pub fn sink(&self) -> &dyn Sink {
        self.sink.as_ref()
    }

    /// Returns the cache of finished stages.
    #[must_use]
    pub fn stages(&self) -> Cache<'_> {
        let cache = Cache::new(&self.cache, self.sink(), SOURCES);
        self.look().map_or(cache, |look| cache.looking(look))
    }

    /// Returns the fetcher, which downloads pinned files into the store.
    #[must_use]
    pub fn fetcher(&self) -> Fetcher<'_> {
        let archives = Archives::new(&self.archives, &self.known_archives);
        let offline = self.offline || self.look.is_some();
        Fetcher::new(&self.store, &self.partial, archives, offline, self.sink())
    }

    /// Returns a path in the project.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.project.join(relative)
    }
}

fn is_project(dir: &Path) -> bool {
    dir.join("kernel-config/pin.toml").is_file()
}

/// Checks that `dir` is the root of a project.
pub fn check_project(dir: PathBuf) -> Result<PathBuf> {
    if is_project(&dir) {
        return Ok(dir);
    }
    Err(not_a_project(&dir)
        .why("kernel-config/pin.toml is missing")
        .hint("give the root of a clone with --project DIR"))
}

/// Returns the root of the project that `from` is in.
pub fn find_project(from: &Path) -> Result<&Path> {
    from.ancestors().find(|dir| is_project(dir)).ok_or_else(|| {
        not_a_project(from)
            .why("no kernel-config/pin.toml in this directory or above it")
            .hint("change into a clone of the project, or give it with --project DIR")
    })
}

fn not_a_project(dir: &Path) -> Error {
    Error::new(Class::BadInput, "not a solana-talos project").file(dir)
}

/// Returns the default cache directory; `variable` reads the environment.
pub fn default_cache(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = || set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    set("SOLANA_TALOS_CACHE").or_else(|| user().map(|dir| dir.join("solana-talos"))).ok_or_else(|| {
        Error::new(Class::BadInput, "cannot determine the cache directory").hint("set HOME, or give --cache DIR")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_the_first_place_that_the_environment_names() {
        let cache = |names: &[&str]| {
            let value = |name: &str| names.contains(&name).then(|| format!("/{name}").into());
            default_cache(value).map(|dir| dir.display().to_string())
        };
        assert_eq!(cache(&["HOME"]).unwrap(), "/HOME/.cache/solana-talos");
        assert_eq!(cache(&["HOME", "XDG_CACHE_HOME"]).unwrap(), "/XDG_CACHE_HOME/solana-talos");
        assert_eq!(cache(&["HOME", "XDG_CACHE_HOME", "SOLANA_TALOS_CACHE"]).unwrap(), "/SOLANA_TALOS_CACHE");
        assert!(cache(&[]).unwrap_err().to_string().contains("set HOME"));
    }
}
