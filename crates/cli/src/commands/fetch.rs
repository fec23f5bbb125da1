//! `solana-talos fetch`: brings every locked input into the store; a build needs no network afterwards.

use std::collections::BTreeSet;

use clap::Args;
use common::event::Event;
use kernel_config::profile::{self, Profile};

use crate::context::Context;
use crate::pipeline::kernel::{self, SourceChoice, prepare};
use crate::pipeline::{bases, locked, testbed};
use crate::remote::Network;

#[derive(Args)]
pub struct Options {
    /// The kernel profile whose configuration is fetched, or `all`
    #[arg(long, default_value = "all")]
    profile: String,
    /// Print what the lock names, a line each (sha256, package URL, name), and fetch nothing
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    network: Network,
}

/// # Errors
/// When an input cannot be had or is not the locked one.
pub fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let pin = kernel::pin(context)?;
    let configs = configurations(context, &options.profile)?;
    let inputs = locked::open(context, &pin)?;
    if options.list {
        for entry in inputs.entries() {
            context.answer(&format!("{} {} {}", entry.sha256, entry.uri, entry.name));
        }
        return Ok(());
    }
    let mut wanted = locked::wanted(&inputs.lock, |config| configs.contains(config));
    wanted.extend(toolchain::wanted(&inputs.lock));
    let fetched = context.fetcher().fetch(&wanted)?;
    let prepared = prepare(context, SourceChoice::Debian, None)?;
    let crates = testbed::fetch(context, &prepared, &inputs.crates)?;
    let bases = bases::fetch(context, &options.network, &inputs.lock.base)?;
    let here = wanted.len() + inputs.crates.len() + inputs.lock.base.len() - fetched - crates - bases;
    let message = format!(
        "every locked input is here ({fetched} files, {crates} crates and {bases} images fetched, {here} were there); a build needs no network now"
    );
    context.sink().emit(&Event::Note { message: &message });
    Ok(())
}

/// Upstream configurations that the profile begins with, or those of every profile.
fn configurations(context: &Context, name: &str) -> common::Result<BTreeSet<String>> {
    let names = if name == "all" { Profile::names(&context.path("kernel-config"))? } else { vec![name.to_owned()] };
    let mut configurations = BTreeSet::new();
    for name in names {
        if let profile::ConfigSource::Upstream(config) = kernel::profile(context, &name)?.0.base {
            configurations.insert(config);
        }
    }
    Ok(configurations)
}
