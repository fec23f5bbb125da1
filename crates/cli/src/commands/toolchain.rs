//! `solana-talos toolchain`: make it, show it, look at it again.

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
    /// Make it if it is not there, and print its root filesystem
    Path,
    /// Fail unless every package is the locked version, and the files that outputs hold are the locked ones
    Check,
    /// Make it anew from the locked packages
    Refresh,
    /// The same as `solana-talos update packages`
    Update,
}

/// # Errors
/// When the toolchain cannot be made, differs (`check`) or cannot be resolved (`update`).
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
        context
            .sink()
            .emit(&Event::Note { message: &format!("all {} packages are the locked ones", lock.package.len()) });
    } else {
        context.answer(&toolchain.sandbox.rootfs().display().to_string());
    }
    Ok(())
}
