//! `solana-talos update`: resolves what the lock pins again, and prints what changed.

use std::process::Command;

use build::stages::{base, bases, go};
use build::{Network, project};
use clap::{Args, ValueEnum};
use common::event::Event;
use common::text::count;
use common::{Class, Error, Result, process};
use lock::{Inputs, Lock};
use oci::Reference;
use toolchain::Lists;

use crate::context::Context;
use crate::options::NetworkOptions;

#[derive(Args)]
pub struct Options {
    /// What to resolve [default: everything]
    #[arg(value_enum)]
    what: Vec<What>,
    /// Lock these two comma-separated image references for `build --base`, replacing the locked ones; `testbed` locks none
    #[arg(long, value_name = "BASE", conflicts_with = "what")]
    base: Option<String>,
    #[command(flatten)]
    network: NetworkOptions,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Debian packages of the toolchain and the reference tools (crates/toolchain/*.list)
    Packages,
    /// Crates in both Cargo.lock files, from crates.io
    Crates,
    /// Go modules of the programs of Talos's base (imager/base/go) and of a test (tests/kubernetes), and their go.sum, from the module proxy
    Go,
    /// Locked base images, from their registries
    Bases,
}

pub fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let what = match &options.base {
        Some(_) => &[What::Bases],
        None if options.what.is_empty() => &[What::Packages, What::Crates, What::Go, What::Bases][..],
        None => &options.what,
    };
    if context.offline && (options.base.is_some() || !options.what.is_empty()) {
        return Err(Error::new(Class::BadInput, "cannot resolve packages, crates, Go modules or base images offline")
            .hint("run `solana-talos update --offline` alone to record the project's files as they are, or drop --offline")
            .into());
    }
    let base = options.base.as_deref().map(parse_bases).transpose()?;
    update(context, if context.offline { &[] } else { what }, base, &options.network.network())
}

fn parse_bases(list: &str) -> Result<Vec<Reference>> {
    if list == "testbed" { Ok(Vec::new()) } else { base::references(list) }
}

/// Implements `solana-talos toolchain update`.
pub fn packages(context: &Context) -> anyhow::Result<()> {
    update(context, &[What::Packages], None, &NetworkOptions::default().network())
}

fn update(context: &Context, what: &[What], base: Option<Vec<Reference>>, network: &Network) -> anyhow::Result<()> {
    let pin = project::pin(context)?;
    let old = old(context, &pin)?;
    let mut new = old.clone();
    new.lock.kernel = project::kernel(&pin);
    if what.contains(&What::Packages) {
        let lists = Lists::read(&context.path("crates/toolchain"))?;
        let scratch = tempfile::tempdir()?;
        let mut line = |line: &str| context.sink().emit(&Event::Output { stage: "update", line });
        let resolved = toolchain::resolve(&lists, scratch.path(), &mut line)?;
        (new.lock.package, new.lock.file) = (resolved.packages, resolved.files);
        lists.check(&new.lock.package)?;
    }
    if what.contains(&What::Bases) {
        let known = || old.lock.base.iter().map(|base| base.reference.parse()).collect();
        new.lock.base = bases::resolve(network, context.sink(), &base.map_or_else(known, Ok)?)?;
    }
    // Last, because these write into the project: a failure before leaves the project unchanged.
    if what.contains(&What::Go) {
        let toolchain = toolchain::bootstrap(&new.lock, &context.fetcher(), &context.stages())?;
        go::update(context, &toolchain)?;
    }
    if what.contains(&What::Crates) {
        for manifest in ["Cargo.toml", "tests/guest/Cargo.toml"] {
            update_crates(context, manifest)?;
        }
    }
    (new.lock.cargo, new.crates) = lock::cargo_locks(&context.project)?;
    (new.lock.go, new.modules) = lock::go_sums(&context.project)?;
    let written = lock::write(&context.project, &new.lock)?;
    report(context, &old, &new, written)
}

/// Reads the current lock; a missing one is empty.
fn old(context: &Context, pin: &kernel_config::pin::Pin) -> Result<Inputs> {
    let lock =
        if context.path(lock::FILE).exists() { lock::read(&context.project)? } else { Lock::new(project::kernel(pin)) };
    // Not checked against the lock: the project's changed files are what is to be recorded.
    let crates = lock::cargo_locks(&context.project)?.1;
    let modules = lock::go_sums(&context.project)?.1;
    Ok(Inputs { lock, crates, modules })
}

/// Runs the host's cargo: the toolchain's is older than the manifests require.
fn update_crates(context: &Context, manifest: &str) -> Result<()> {
    let mut command = Command::new("cargo");
    command.arg("update").arg("--manifest-path").arg(context.path(manifest)).current_dir(&context.project);
    let mut line = |line: &str| context.sink().emit(&Event::Output { stage: "update", line });
    let ended = process::stream(command, &mut line).map_err(|e| {
        Error::new(Class::MissingTool, "cannot start cargo").why(e).hint("`./x` installs it; see docs/build.md")
    })?;
    if ended.status.success() {
        return Ok(());
    }
    Err(Error::new(Class::Infrastructure, "cannot resolve crates")
        .file(context.path(manifest))
        .why(ended.tail)
        .hint("`update crates` needs a network; `update --offline` records the Cargo.lock files as they are"))
}

fn report(context: &Context, old: &Inputs, new: &Inputs, written: bool) -> anyhow::Result<()> {
    let changes = lock::changes(old, new);
    for change in &changes {
        context.answer(change)?;
    }
    let message = match (written, changes.len()) {
        (false, _) => format!("{} is unchanged", lock::FILE),
        (true, 0) => format!("updated {}", lock::FILE),
        (true, changes) => format!("updated {}: {}", lock::FILE, count(changes, "change")),
    };
    context.sink().emit(&Event::Note { message: &message });
    Ok(())
}
