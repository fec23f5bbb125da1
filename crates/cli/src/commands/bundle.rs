//! `solana-talos bundle`: moves the inputs of a build to machines without network.

use std::path::PathBuf;

use build::Project;
use clap::{Args, Subcommand};
use common::event::Event;

use crate::context::Context;

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Write every locked input into one OCI layout; run `fetch` first
    Create {
        /// The bundle to write: a directory, or a tarball if the name ends with .tar
        path: PathBuf,
        /// Leave out the Go modules of Talos's programs: builds then need --base testbed or --keep-installer
        #[arg(long)]
        without_talos: bool,
    },
    /// Verify every input of a bundle and copy it into the cache
    Load {
        /// The bundle that `create` wrote
        path: PathBuf,
    },
}

pub fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let note = |message: String| context.sink().emit(&Event::Note { message: &message });
    match &options.action {
        Action::Create { path, without_talos } => {
            let all = Project::open(context)?.locked;
            let inputs = if *without_talos { all.without_talos() } else { all };
            let (files, bytes) = bundle::create(path, &inputs, &context.store)?;
            note(format!("wrote {} inputs, {} MB, to {}", files, bytes / 1_000_000, path.display()));
        }
        Action::Load { path } => {
            let loaded = bundle::load(path, &context.store, &context.cache.join("unfinished/bundle"))?;
            let (stored, known, megabytes) = (loaded.stored, loaded.known, loaded.bytes / 1_000_000);
            note(format!("verified {megabytes} MB; stored {stored} inputs, {known} already cached"));
            report_missing(context)?;
        }
    }
    Ok(())
}

/// Reports inputs that this project needs and the bundle, made from another state of the project, does not have.
fn report_missing(context: &Context) -> common::Result<()> {
    let inputs = Project::open(context)?.locked;
    let mut missing = Vec::new();
    for entry in inputs.entries().filter(lock::Entry::is_stored) {
        if context.store.find(&entry.sha256)?.is_none() {
            missing.push(entry.name);
        }
    }
    let first = missing.first();
    let message = first.map(|first| match missing.len() {
        1 => format!("a locked input is still missing: {first}"),
        missing => format!("{missing} locked inputs are still missing, such as {first}"),
    });
    context.sink().emit(&match &message {
        None => Event::Note { message: "every locked input is cached; builds need no network" },
        Some(message) => Event::Warning { message },
    });
    Ok(())
}
