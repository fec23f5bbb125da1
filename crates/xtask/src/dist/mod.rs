//! `./x dist`: a release of the tool. The same commit gives the same bytes, wherever it is built.

mod commit;
mod contents;
mod program;
mod release;
mod texts;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;
use keys::KeySet;
use xshell::{Shell, cmd};

use commit::Commit;
use contents::Contents;
use release::Outcome;

#[derive(Args, Debug)]
pub struct Options {
    /// Output directory
    #[arg(long, value_name = "DIR", default_value = "_dist")]
    out: PathBuf,
    /// Key set whose image key signs the release
    #[arg(long, value_name = "DIR", required_unless_present = "unsigned")]
    keys: Option<PathBuf>,
    /// Use an external signer: write signing requests to DIR and use the signatures that `solana-talos attach` imported
    #[arg(long, value_name = "DIR", requires = "keys")]
    sign_later: Option<PathBuf>,
    /// Do not sign: to try it out
    #[arg(long, conflicts_with = "keys")]
    unsigned: bool,
    /// Registry and organisation in the name of the tool's image
    #[arg(long, value_name = "NAME", default_value = "ghcr.io/our-org")]
    registry: String,
    /// Accept a source with changes that are not committed; the program says so
    #[arg(long)]
    allow_changes: bool,
    /// Make the release again, from a copy of the source at another path, and compare
    #[arg(long, conflicts_with = "allow_changes")]
    check: bool,
}

pub fn run(shell: &Shell, options: &Options) -> Result<()> {
    let commit = Commit::of(shell)?;
    ensure!(
        options.allow_changes || !commit.changed,
        "the source has changes that are not committed; commit them, or try it out with --allow-changes"
    );
    let set = options.keys.as_deref().map(|dir| open(dir, options)).transpose()?;
    let (out, root) = (shell.current_dir().join(&options.out), shell.current_dir());
    match make(shell, &commit, &root.join("target/dist"), &out, set.as_ref(), &options.registry)? {
        Outcome::Pending(what) => anyhow::bail!("{what}"),
        Outcome::Written => println!("wrote {}", out.display()),
    }
    if options.check { check(shell, &commit, &out, set.as_ref(), &options.registry) } else { Ok(()) }
}

fn open(dir: &Path, options: &Options) -> Result<KeySet> {
    let set = KeySet::open(dir)?.with_pin(std::env::var("SOLANA_TALOS_PIN").ok().filter(|pin| !pin.is_empty()));
    Ok(match &options.sign_later {
        Some(requests) => set.sign_later(requests)?,
        None => set,
    })
}

/// Compiles the source in the current directory of `shell`, with the target directory `target`, and writes the release of it to `out`.
fn make(
    shell: &Shell,
    commit: &Commit,
    target: &Path,
    out: &Path,
    set: Option<&KeySet>,
    registry: &str,
) -> Result<Outcome> {
    let program = program::compile(shell, commit, target)?;
    let contents = Contents::gather(shell, &program)?;
    release::write(out, &contents, commit.time, registry, set)
}

/// Makes the release of the same commit in another directory and compares the checksums, which cover every file.
fn check(shell: &Shell, commit: &Commit, out: &Path, set: Option<&KeySet>, registry: &str) -> Result<()> {
    let work = tempfile::tempdir()?;
    let (source, again) = (work.path().join("another/place"), work.path().join("again"));
    cmd!(shell, "git clone --quiet --no-hardlinks . {source}").run()?;
    let copy = Shell::new()?;
    copy.change_dir(&source);
    make(&copy, commit, &work.path().join("objects"), &again, set, registry)?;
    let sums = |dir: &Path| shell.read_file(dir.join(release::SUMS));
    let (first, second) = (sums(out)?, sums(&again)?);
    let different: Vec<_> = first.lines().filter(|line| !second.contains(line)).collect();
    ensure!(first == second, "the second release has other bytes:\n{}", different.join("\n"));
    println!("a second release from {} has the same bytes", source.display());
    Ok(())
}
