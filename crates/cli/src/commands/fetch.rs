//! `solana-talos fetch`: downloads every locked input into the store; builds then need no network.

use build::stages::{bases, testbed};
use build::{Project, project};
use clap::Args;
use common::event::Event;

use crate::context::Context;
use crate::options::NetworkOptions;

#[derive(Args)]
pub struct Options {
    /// Without effect: it chose the kernel configurations to download, which are in the project now.
    #[arg(long = "profile", hide = true)]
    _profile: Option<String>,
    /// List the locked inputs, one per line (SHA-256, package URL, name), and download nothing
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    network: NetworkOptions,
}

pub fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let project = Project::open(context)?;
    let inputs = &project.locked;
    if options.list {
        for entry in inputs.entries() {
            context.answer(&format!("{} {} {}", entry.sha256, entry.uri, entry.name));
        }
        return Ok(());
    }
    let mut wanted = toolchain::wanted(&inputs.lock);
    wanted.push(project::wanted(&inputs.lock.kernel));
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
