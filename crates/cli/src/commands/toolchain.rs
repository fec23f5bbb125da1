//! `solana-talos toolchain`: creates, checks and rebuilds the pinned toolchain.

use build::Project;
use clap::{Args, Subcommand};
use common::event::Event;

use crate::commands::update;
use crate::context::Context;

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Create the toolchain if it is missing, and print the path of its root filesystem
    Path,
    /// Check that every installed package, and every file copied into outputs, is the locked one
    Check,
    /// Rebuild the toolchain from the locked packages, and print the path of its root filesystem
    Refresh,
    /// Same as `solana-talos update packages`
    Update,
}

pub fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    if matches!(options.action, Action::Update) {
        return update::packages(context);
    }
    let project = Project::open(context)?;
    let lock = &project.locked.lock;
    if matches!(options.action, Action::Refresh) {
        toolchain::forget(lock, &context.stages())?;
    }
    let toolchain = project.toolchain()?;
    if matches!(options.action, Action::Check) {
        toolchain::verify(lock, &toolchain.sandbox)?;
        let message = format!("all {} packages are the locked ones", lock.package.len());
        context.sink().emit(&Event::Note { message: &message });
    } else {
        context.answer(&toolchain.sandbox.rootfs().display().to_string())?;
    }
    Ok(())
}
