//! Global options, resolved against the environment.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use build::Settings;
use build::context::{check_project, default_cache, find_project};
use cache::Hold;
use clap::Args;
use common::event::Event;
use common::{Class, Error, Result};

use crate::progress::{self, Detail, Format, History, Output};

/// Options of every command.
#[derive(Args, Debug)]
pub struct Global {
    /// Project root, the directory with kernel-config/ and module/ [default: the nearest one at or above the current directory]
    #[arg(long, global = true, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Cache for inputs, the toolchain and finished stages
    /// [default: $SOLANA_TALOS_CACHE, $XDG_CACHE_HOME/solana-talos or ~/.cache/solana-talos]
    // Not clap's `env`: with it, errors of users who set the variable would show the option as required.
    #[arg(long, global = true, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Directory of files named by their SHA-256, searched before the network is used; repeatable
    #[arg(long = "mirror", global = true, value_name = "DIR")]
    mirrors: Vec<PathBuf>,
    /// Do not use the network; fail when an input is in neither the cache nor a mirror
    #[arg(long, global = true)]
    pub offline: bool,
    /// Number of parallel compiler processes [default: number of processors]
    #[arg(long, short, global = true, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,
    /// Output format of progress and results
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub format: Format,
    /// Show the full output of the programs that the build runs
    #[arg(long, short, global = true)]
    verbose: bool,
    /// Show no progress: only errors, warnings and the result
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

impl Global {
    /// How and how much is shown.
    pub fn output(&self) -> Output {
        let detail = match (self.quiet, self.verbose) {
            (true, _) => Detail::Quiet,
            (_, true) => Detail::Verbose,
            _ => Detail::Normal,
        };
        Output { format: self.format, detail }
    }
}

impl Global {
    /// Returns the root of the project.
    pub fn project_dir(&self) -> Result<PathBuf> {
        let current = std::env::current_dir()?;
        match &self.project {
            Some(dir) => check_project(current.join(dir)),
            None => find_project(&current).map(Path::to_owned),
        }
    }

    /// Returns whether the user names a project.
    pub fn names_project(&self) -> bool {
        self.project.is_some()
    }

    /// Returns the root of the cache.
    pub fn cache_dir(&self) -> Result<PathBuf> {
        let current = std::env::current_dir()?;
        match &self.cache {
            Some(dir) => Ok(current.join(dir)),
            None => Ok(current.join(default_cache(|name| std::env::var_os(name))?)),
        }
    }
}

/// The build's context, and the output format.
pub struct Context {
    build: build::Context,
    output: Output,
    history: History,
}

impl Deref for Context {
    type Target = build::Context;

    fn deref(&self) -> &build::Context {
        &self.build
    }
}

impl Context {
    /// Resolves the options against the environment; `profile` is the kernel profile, for time estimates.
    pub fn new(global: Global, profile: &str) -> Result<Self> {
        let (current, output) = (std::env::current_dir()?, global.output());
        let (project, cache) = (global.project_dir()?, global.cache_dir()?);
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let history = History::new(cache.join("progress"), profile);
        let build = build::Context::new(Settings {
            project,
            cache,
            mirrors: global.mirrors.into_iter().map(|dir| mirror(&current, &dir)).collect::<Result<_>>()?,
            offline: global.offline,
            jobs: global.jobs.map_or(processors, std::num::NonZeroUsize::get),
            cargo_home: cargo_home(),
            go_user: toolchain::go::User::read(|name| std::env::var_os(name)),
            sink: output.sink(history.clone()),
        });
        Ok(Self { build, output, history })
    }

    /// Looks stages up instead of running them, and fetches nothing.
    pub fn looking(self) -> Self {
        Self { build: self.build.looking(), ..self }
    }

    /// What stages took.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Keeps `cache prune` from the cache until the result is dropped.
    pub fn hold_cache(&self) -> Option<Hold> {
        let message = "waiting until `cache prune` has ended";
        Hold::shared(&self.cache, || self.sink().emit(&Event::Note { message }))
    }

    /// The output format.
    pub fn format(&self) -> Format {
        self.output.format
    }

    /// Prints a result; see [`progress::answer`].
    pub fn answer(&self, text: &str) -> anyhow::Result<()> {
        progress::answer(self.output.format, text)
    }
}

fn cargo_home() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("CARGO_HOME").or_else(|| set("HOME").map(|home| home.join(".cargo")))
}

/// A mistyped mirror would only show as downloads.
fn mirror(current: &Path, dir: &Path) -> Result<PathBuf> {
    let path = current.join(dir);
    if path.is_dir() {
        return Ok(path);
    }
    let why = if path.exists() { "not a directory" } else { "it does not exist" };
    let error = Error::new(Class::BadInput, "cannot use the mirror").file(dir).why(why);
    Err(error.hint("give a directory of files that are named by their SHA-256"))
}
