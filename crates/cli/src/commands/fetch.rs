//! `solana-talos fetch`: downloads every locked input into the store; builds then need no network.

use build::stages::{bases, go, testbed};
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
    /// Leave out the Go modules of Talos's programs: builds then need --base testbed or --keep-installer
    #[arg(long)]
    without_talos: bool,
    /// List the locked inputs, one per line (SHA-256, package URL, name), and download nothing
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    network: NetworkOptions,
}

pub fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let mut project = Project::open(context)?;
    if options.without_talos {
        project.locked = project.locked.without_talos();
    }
    let inputs = &project.locked;
    if options.list {
        for entry in inputs.entries() {
            context.answer(&format!("{} {} {}", entry.sha256, entry.uri, entry.name))?;
        }
        return Ok(());
    }
    let mut wanted = toolchain::wanted(&inputs.lock);
    wanted.push(project::wanted(&inputs.lock.kernel));
    let fetched = context.fetcher().fetch(&wanted)?;
    let toolchain = project.toolchain()?;
    let crates = testbed::fetch(context, &toolchain, &inputs.crates)?;
    let modules = go::fetch(context, &toolchain, &inputs.modules)?;
    let bases = bases::fetch(context, &options.network.network(), &inputs.lock.base)?;
    let all = wanted.len() + inputs.crates.len() + inputs.modules.len() + inputs.lock.base.len();
    let cached = all - fetched - crates - modules - bases;
    let message = format!(
        "every locked input is cached ({fetched} files, {crates} crates, {modules} Go module files and {bases} images downloaded, {cached} already cached); builds need no network"
    );
    context.sink().emit(&Event::Note { message: &message });
    Ok(())
}
