//! What every command needs: where the project is, where the cache is, how to tell what happens.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use clap::Args;
use common::event::Sink;
use common::stage::Cache;
use common::store::Store;
use common::{Class, Error, Result};
use toolchain::{Archives, Fetcher};

use crate::progress::{self, Format, History};

/// Options of every command.
#[derive(Args, Debug)]
pub struct Global {
    /// The project: the directory that holds kernel-config/ and module/ [default: the nearest one above the current directory]
    #[arg(long, global = true, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Where inputs, the toolchain and finished stages are kept [default: $XDG_CACHE_HOME/solana-talos]
    #[arg(long, global = true, value_name = "DIR", env = "SOLANA_TALOS_CACHE", hide_env_values = true)]
    cache: Option<PathBuf>,
    /// A directory of files named by their sha256, looked up before the network; repeatable
    #[arg(long = "mirror", global = true, value_name = "DIR")]
    mirrors: Vec<PathBuf>,
    /// Never use the network: what is not in the cache or a mirror is an error
    #[arg(long, global = true)]
    pub offline: bool,
    /// Parallel compiler processes [default: one a processor]
    #[arg(long, short, global = true, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,
    /// How progress is shown
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub format: Format,
    /// Show every line that the programs print
    #[arg(long, short, global = true)]
    verbose: bool,
}

/// The options, resolved.
pub struct Context {
    /// The project's root directory.
    pub project: PathBuf,
    /// Root of the cache.
    pub cache: PathBuf,
    /// Content-addressed inputs.
    pub store: Store,
    /// Parallel compiler processes; never part of a key.
    pub jobs: usize,
    /// Whether the network is out of bounds.
    pub offline: bool,
    /// Homes of cargo, whose downloads need not be made again.
    pub cargo_homes: Vec<PathBuf>,
    partial: PathBuf,
    archives: PathBuf,
    known_archives: OnceCell<Vec<String>>,
    sink: Box<dyn Sink + Send>,
    format: Format,
}

impl Context {
    /// Resolves the options against the environment; `profile` is the kernel that is built, for estimates of how long that takes.
    ///
    /// # Errors
    /// [`Class::BadInput`] outside a project or without a home for the cache.
    pub fn new(global: Global, profile: &str) -> Result<Self> {
        let current = std::env::current_dir()?;
        let project = match global.project {
            Some(dir) => check_project(current.join(dir))?,
            None => find_project(&current)?.to_owned(),
        };
        let cache = match global.cache {
            Some(dir) => current.join(dir),
            None => default_cache()?,
        };
        let mirrors = global.mirrors.into_iter().map(|dir| current.join(dir)).collect();
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Ok(Self {
            sink: progress::sink(global.format, global.verbose, History::new(cache.join("progress"), profile)),
            store: Store::new(cache.join("store"), mirrors),
            offline: global.offline,
            cargo_homes: cargo_homes(&cache),
            partial: cache.join("unfinished/downloads"),
            archives: project.join("crates/toolchain/archives.list"),
            known_archives: OnceCell::new(),
            project,
            cache,
            jobs: global.jobs.map_or(processors, std::num::NonZeroUsize::get),
            format: global.format,
        })
    }

    /// Where events go.
    pub fn sink(&self) -> &dyn Sink {
        self.sink.as_ref()
    }

    /// As [`progress::answer`].
    pub fn answer(&self, text: &str) {
        progress::answer(self.format, text);
    }

    /// The directory of finished stages.
    pub fn stages(&self) -> Cache<'_> {
        Cache::new(&self.cache, self.sink(), build::SOURCES)
    }

    /// Brings pinned files into the store.
    pub fn fetcher(&self) -> Fetcher<'_> {
        let archives = Archives::new(&self.archives, &self.known_archives);
        Fetcher::new(&self.store, &self.partial, archives, self.offline, self.sink())
    }

    /// A path of the project.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.project.join(relative)
    }
}

fn is_project(dir: &Path) -> bool {
    dir.join("kernel-config/pin.toml").is_file()
}

fn check_project(dir: PathBuf) -> Result<PathBuf> {
    if is_project(&dir) {
        return Ok(dir);
    }
    Err(Error::new(Class::BadInput, "this is no solana-talos project")
        .file(dir)
        .why("it does not hold kernel-config/pin.toml")
        .hint("give --project the root of a clone"))
}

fn find_project(from: &Path) -> Result<&Path> {
    from.ancestors().find(|dir| is_project(dir)).ok_or_else(|| {
        Error::new(Class::BadInput, "this is no solana-talos project")
            .file(from)
            .why("neither it nor a directory above it holds kernel-config/pin.toml")
            .hint("change into a clone of the project, or name it with --project DIR")
    })
}

fn default_cache() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .map(|dir| dir.join("solana-talos"))
        .ok_or_else(|| Error::new(Class::BadInput, "nowhere to keep the cache").hint("set HOME, or --cache DIR"))
}

/// The user's cargo, which has what this program was built of, and one of earlier versions of ours.
fn cargo_homes(cache: &Path) -> Vec<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let user = set("CARGO_HOME").or_else(|| set("HOME").map(|home| home.join(".cargo")));
    user.into_iter().chain([cache.join("cargo")]).collect()
}
