//! Builds HEAD twice in environments that differ as much as possible, and compares every output byte for byte.

mod site;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use xshell::{Shell, cmd};

use site::{Plan, Site};

/// Which of the two builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// The reference: this user, UTC, umask 022
    A,
    /// The varied one: another user, path, time zone, locale, umask and number of jobs
    B,
}

#[derive(Args, Debug)]
pub struct Options {
    /// Kernel profile
    #[arg(long, default_value = "vm")]
    profile: String,
    /// Build only one of the two; the next run without this option compares
    #[arg(long, value_enum, ignore_case = true)]
    build_only: Option<Which>,
    /// Continue with the caches of an earlier run instead of two empty ones
    #[arg(long)]
    resume: bool,
    /// Build nothing; compare existing outputs
    #[arg(long, conflicts_with = "build_only")]
    compare_only: bool,
    /// Use this output directory as the first build; build only the second
    #[arg(long, value_name = "DIR", conflicts_with = "build_only")]
    against: Option<PathBuf>,
    /// Key set for both builds [default: the development set of the first]
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Reuse the toolchain and compiled kernel in this cache: for work on later stages; does not prove that the kernel is reproducible
    #[arg(long, value_name = "CACHE")]
    reuse_kernel: Option<PathBuf>,
    /// Directory for both builds, readable by both users
    #[arg(long, value_name = "DIR", default_value = "/var/tmp/solana-talos-repro")]
    work: PathBuf,
    /// User that runs the second build when this one is run by root; created if missing
    #[arg(long, default_value = "solana-repro", value_name = "NAME")]
    user: String,
    /// Compiled solana-talos for both builds, instead of compiling it in each clone
    #[arg(long, value_name = "PROGRAM")]
    tool: Option<PathBuf>,
    /// Further options of `solana-talos build`
    #[arg(last = true, value_name = "OPTION")]
    build: Vec<String>,
}

pub fn run(shell: &Shell, options: &Options) -> Result<()> {
    let plan = Plan {
        work: std::path::absolute(&options.work)?,
        user: options.user.clone(),
        root: is_root(shell)?,
        processors: std::thread::available_parallelism()?.get(),
        profile: options.profile.clone(),
        build: options.build.clone(),
    };
    let sites = [plan.site(Which::A), plan.site(Which::B)];
    if !options.compare_only {
        let head = cmd!(shell, "git rev-parse HEAD").read()?;
        if !cmd!(shell, "git status --porcelain").read()?.is_empty() {
            eprintln!("note: building HEAD ({head}) without uncommitted changes");
        }
        let only = options.build_only.or(options.against.as_ref().map(|_| Which::B));
        for site in sites.iter().filter(|site| only.is_none_or(|which| which == site.which)) {
            build(shell, options, &plan, site, &sites[0], &head)?;
        }
    }
    match options.build_only {
        Some(_) => Ok(()),
        None => compare(options.against.as_deref().unwrap_or(&sites[0].out), &sites[1].out, &plan.work),
    }
}

/// Whether this is run by root.
pub fn is_root(shell: &Shell) -> Result<bool> {
    Ok(cmd!(shell, "id -u").read()? == "0")
}

fn build(shell: &Shell, options: &Options, plan: &Plan, site: &Site, first: &Site, head: &str) -> Result<()> {
    eprintln!("build {:?}: {}", site.which, site.describe());
    if let Some(user) = &site.user {
        make_user(shell, user)?;
    }
    let from = shell.current_dir();
    if !options.resume && site.dir.exists() {
        std::fs::remove_dir_all(&site.dir).with_context(|| format!("cannot empty {}", site.dir.display()))?;
    }
    // With `--resume` too, the kernel is compiled from scratch or not at all.
    let _ = std::fs::remove_dir_all(site.cache.join("objects"));
    std::fs::create_dir_all(site.cache.join("stages"))?;
    clone(site, &from, head)?;
    let tool = match &options.tool {
        Some(tool) => std::path::absolute(tool)?,
        None => compile(site)?,
    };
    // Another user may be unable to enter the directory the program is in.
    let program = site.dir.join("solana-talos");
    std::fs::copy(&tool, &program).with_context(|| format!("cannot copy {}", tool.display()))?;
    if let Some(cache) = &options.reuse_kernel {
        site::reuse_kernel(shell, site, &std::path::absolute(cache)?)?;
    }
    let keys = share_keys(shell, options, site, first)?;
    let mut mirrors =
        vec![from.join("../shared/mirror"), first.cache.join("store/sha256"), crate::cache()?.join("store/sha256")];
    mirrors.retain(|dir| dir.is_dir());
    let mirrors = site::share_downloads(shell, site, &mirrors)?;
    site.hand_over(shell)?;
    let status = site.command(plan, &program, &mirrors, keys.as_deref()).status().context("cannot start the build")?;
    if let Some(keys) = keys {
        std::fs::remove_dir_all(keys)?;
    }
    ensure!(status.success(), "build {:?} ended with {status}", site.which);
    Ok(())
}

fn make_user(shell: &Shell, user: &str) -> Result<()> {
    if cmd!(shell, "id -u {user}").quiet().ignore_stderr().read().is_ok() {
        return Ok(());
    }
    eprintln!("creating the user {user} for the second build (`userdel -r {user}` removes it)");
    // A regular user, for those get the subordinate identities that a rootless toolchain needs.
    Ok(cmd!(shell, "useradd --create-home --shell /usr/sbin/nologin {user}").run()?)
}

/// A clean clone of HEAD, made under the site's umask.
fn clone(site: &Site, from: &Path, head: &str) -> Result<()> {
    if site.source.exists() {
        std::fs::remove_dir_all(&site.source)?;
    }
    let (from, to) = (from.display().to_string(), site.source.display().to_string());
    let script = "git clone --quiet --no-hardlinks \"$1\" \"$2\" && git -C \"$2\" checkout --quiet --detach \"$3\"";
    let status = Command::new("sh")
        .args(["-ec", &format!("umask {}; {script}", site.umask), "sh", &from, &to, head])
        .status()?;
    ensure!(status.success(), "cannot clone {from}");
    Ok(())
}

/// The tool, compiled in the site's clone by the calling user: the other one may have no Rust.
fn compile(site: &Site) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&site.source).args(["build", "--release", "--quiet", "--locked", "-p", "solana-talos"]);
    cargo.env_remove("CARGO_TARGET_DIR").env("TZ", site.time_zone).env("LC_ALL", site.locale);
    ensure!(cargo.status()?.success(), "cannot compile the tool in {}", site.source.display());
    Ok(site.source.join("target/release/solana-talos"))
}

/// Both builds need the same keys: the kernel embeds the modules' certificate. A given set is copied for its reader, to be removed
/// after the build; the development set of the first build is copied into the second's cache.
fn share_keys(shell: &Shell, options: &Options, site: &Site, first: &Site) -> Result<Option<PathBuf>> {
    if let Some(keys) = &options.keys {
        let copy = site.dir.join("keys");
        let _ = std::fs::remove_dir_all(&copy);
        cmd!(shell, "cp -a {keys} {copy}").quiet().run()?;
        return Ok(Some(copy));
    }
    let to = site.cache.join("keys");
    let firsts = Some(first.cache.join("keys")).filter(|_| options.against.is_none());
    let known = firsts.into_iter().chain([crate::cache()?.join("keys")]).find(|dir| dir.is_dir());
    match known {
        _ if site.which == Which::A && to.is_dir() => {}
        Some(keys) => {
            // Those of an earlier run may be others.
            let _ = std::fs::remove_dir_all(&to);
            cmd!(shell, "cp -a {keys} {to}").quiet().run()?;
        }
        None if site.which == Which::A => {} // It makes a set.
        None => bail!("the second build needs the keys of the first: build A first, or give --keys"),
    }
    Ok(None)
}

fn compare(first: &Path, second: &Path, work: &Path) -> Result<()> {
    let rows = inspect::compare::outputs(first, second)?;
    print!("{}", table::table(&rows));
    let Some(row) = rows.iter().find(|row| row.difference.is_some()) else {
        println!("{} outputs are equal byte for byte (build.json except for its seconds)", rows.len());
        return Ok(());
    };
    // Later differences usually follow from the first, but not always.
    for (at, difference) in rows.iter().filter_map(|row| row.difference.as_ref()).enumerate() {
        println!("{} {difference}", if at == 0 { "first member that differs:" } else { "also:" });
    }
    explain(&first.join(&row.name), &second.join(&row.name), &work.join("diffoscope.txt"));
    bail!("the builds differ; both are kept in {}", work.display());
}

/// Writes diffoscope's report on the first output that differs, for everything after its first member.
fn explain(first: &Path, second: &Path, report: &Path) {
    let status =
        Command::new("diffoscope").arg("--no-progress").arg("--text").arg(report).args([first, second]).status();
    match status {
        Ok(_) => println!("diffoscope's report: {}", report.display()),
        Err(e) => println!("cannot start diffoscope ({e}): install diffoscope-minimal for a full report"),
    }
}
