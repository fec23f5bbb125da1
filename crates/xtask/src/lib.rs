//! What `./x lint`, `test`, `bench`, `repro`, `fuzz`, `corpus` and `dist` run: programs in order, nothing more.

mod bench;
mod corpus;
mod dist;
mod fuzz;
mod lint;
mod repro;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _, Parser};
use xshell::{Shell, cmd};

/// The build that tests and measurements use, whatever build file the user has in the clone.
const BUILD: &str = "build --config examples/test/solana-talos.toml";

/// Tasks of the project's own development.
#[derive(Parser)]
enum Task {
    /// Check formatting, clippy, rustdoc, and the licences, bans and sources of crates
    Lint,
    /// Run every test, including the QEMU boots
    Test(test::Options),
    /// Measure the figures in docs/performance.md
    Bench,
    /// Build HEAD twice in environments that differ as much as possible, and compare every output
    Repro(repro::Options),
    /// Fuzz the parsers of untrusted data
    Fuzz(fuzz::Options),
    /// Read a directory of inputs that others made, and report what cannot be taken
    Corpus(corpus::Options),
    /// Make a release of this tool: static program, completions, manual pages, image, SBOM, checksums and signatures
    Dist(dist::Options),
}

/// Returns clap's definition of the command line.
#[must_use]
pub fn command() -> Command {
    Task::command()
}

/// Runs the task that the arguments of this process ask for.
#[must_use]
pub fn main() -> ExitCode {
    match run(&Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> Result<()> {
    let shell = Shell::new()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("xtask is not in the workspace")?;
    shell.change_dir(root);
    // Nothing here signs with the keys of the user.
    let _keys = shell.push_env("SOLANA_TALOS_KEYS", root.join("target/no-keys"));
    match task {
        Task::Lint => lint::run(&shell),
        Task::Test(options) => test::run(&shell, options),
        Task::Bench => bench::run(&shell),
        Task::Repro(options) => repro::run(&shell, options),
        Task::Fuzz(options) => fuzz::run(&shell, options),
        Task::Corpus(options) => corpus::run(options),
        Task::Dist(options) => dist::run(&shell, options),
    }
}

/// The cache that `solana-talos` uses by default.
fn cache() -> Result<PathBuf> {
    Ok(build::context::default_cache(|name| std::env::var_os(name))?)
}

/// The compiled tool, with CI's mirror of pinned files if there is one next to the checkout.
struct Tool<'a> {
    shell: &'a Shell,
    program: PathBuf,
    mirror: Option<&'static str>,
}

impl<'a> Tool<'a> {
    fn build(shell: &'a Shell) -> Result<Self> {
        cmd!(shell, "cargo build --release --locked -p solana-talos").run()?;
        let target = shell.var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
        let program = shell.current_dir().join(target).join("release/solana-talos");
        let mirror = shell.path_exists("../shared/mirror").then_some("../shared/mirror");
        Ok(Self { shell, program, mirror })
    }

    fn command(&self, words: &str) -> xshell::Cmd<'a> {
        let program = &self.program;
        let command = cmd!(self.shell, "{program}").args(words.split(' '));
        match self.mirror {
            Some(mirror) => command.args(["--mirror", mirror]),
            None => command,
        }
    }

    fn run(&self, words: &str) -> Result<()> {
        Ok(self.command(words).run()?)
    }

    fn read(&self, words: &str) -> Result<String> {
        Ok(self.command(words).read()?)
    }
}
