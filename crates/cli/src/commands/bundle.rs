//! `solana-talos bundle`: carries the store to machines without network.

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
    /// Write every locked input into one OCI layout; fetch them first
    Create {
        /// `FILE.tar`, or a directory
        path: PathBuf,
    },
    /// Take the inputs of a bundle into the store, each verified
    Load {
        /// What `create` wrote
        path: PathBuf,
    },
}

/// # Errors
/// When an input is not in the store (`create`), or the bundle is not sound (`load`).
pub fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let note = |message: String| context.sink().emit(&Event::Note { message: &message });
    match &options.action {
        Action::Create { path } => {
            let inputs = Project::open(context)?.locked;
            let (files, bytes) = bundle::create(path, &inputs, &context.store)?;
            note(format!("wrote {} inputs, {} MB, to {}", files, bytes / 1_000_000, path.display()));
        }
        Action::Load { path } => {
            let loaded = bundle::load(path, &context.store, &context.cache.join("unfinished/bundle"))?;
            let (stored, known, megabytes) = (loaded.stored, loaded.known, loaded.bytes / 1_000_000);
            note(format!("verified {megabytes} MB; stored {stored} inputs, {known} were there"));
            tell_of_missing(context)?;
        }
    }
    Ok(())
}

/// A bundle may be of another state of the project: says what this one still lacks.
fn tell_of_missing(context: &Context) -> common::Result<()> {
    let inputs = Project::open(context)?.locked;
    let mut missing = Vec::new();
    for entry in inputs.entries().filter(lock::Entry::is_stored) {
        if context.store.find(&entry.sha256)?.is_none() {
            missing.push(entry.name);
        }
    }
    let message = match missing.first() {
        None => "every locked input is here; a build needs no network now".to_owned(),
        Some(first) => {
            let message = format!("this project's lock names {} inputs more, {first} among them", missing.len());
            context.sink().emit(&Event::Warning { message: &message });
            return Ok(());
        }
    };
    context.sink().emit(&Event::Note { message: &message });
    Ok(())
}
