//! `solana-talos fetch`: downloads every locked input into the store; builds then need no network.

use std::collections::BTreeSet;

use build::stages::{bases, kernel, testbed};
use build::{Project, project};
use clap::Args;
use common::event::Event;
use kernel_config::pin::Pin;
use kernel_config::profile::{self, Profile};

use crate::context::Context;
use crate::options::NetworkOptions;

#[derive(Args)]
pub struct Options {
    /// Kernel profile to download the upstream configuration of, or `all`
    #[arg(long, default_value = "all")]
    profile: String,
    /// List the locked inputs, one per line (SHA-256, package URL, name), and download nothing
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    network: NetworkOptions,
}

pub fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let pin = project::pin(context)?;
    let configs = configurations(context, &pin, &options.profile)?;
    let project = Project::with(context, pin)?;
    let inputs = &project.locked;
    if options.list {
        for entry in inputs.entries() {
            context.answer(&format!("{} {} {}", entry.sha256, entry.uri, entry.name));
        }
        return Ok(());
    }
    let mut wanted = project::wanted(&inputs.lock, |config| configs.contains(config));
    wanted.extend(toolchain::wanted(&inputs.lock));
    let fetched = context.fetcher().fetch(&wanted)?;
    let crates = testbed::fetch(context, &project.toolchain()?, &inputs.crates)?;
    let bases = bases::fetch(context, &options.network.network(), &inputs.lock.base)?;
    let cached = wanted.len() + inputs.crates.len() + inputs.lock.base.len() - fetched - crates - bases;
    let message = format!(
        "every locked input is cached ({fetched} files, {crates} crates and {bases} images downloaded, {cached} already cached); builds need no network"
    );
    context.sink().emit(&Event::Note { message: &message });
    Ok(())
}

/// Returns the upstream configurations that profile `name` starts from, or those of `all` profiles.
fn configurations(context: &Context, pin: &Pin, name: &str) -> common::Result<BTreeSet<String>> {
    let names = if name == "all" { Profile::names(&context.path("kernel-config"))? } else { vec![name.to_owned()] };
    let mut configurations = BTreeSet::new();
    for name in names {
        if let profile::ConfigSource::Upstream(config) = kernel::profile(context, pin, &name)?.base {
            configurations.insert(config);
        }
    }
    Ok(configurations)
}
