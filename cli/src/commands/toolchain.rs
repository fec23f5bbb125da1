//! `solana-talos toolchain`: make it, show it, record its versions.

use clap::{Args, Subcommand};
use common::event::Event;
use common::{Class, Error, atomic};

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
    /// Fail unless every package is the version that packages.lock records
    Check,
    /// Make it anew from what the archive has today
    Refresh,
    /// Record the installed versions in packages.lock
    Update,
}

/// # Errors
/// When the toolchain cannot be made, differs (`check`) or cannot be recorded (`update`).
pub fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let dir = context.path("toolchain");
    if matches!(options.action, Action::Refresh) {
        toolchain::forget(&dir, &context.stages())?;
    }
    let toolchain = toolchain::bootstrap(&dir, &context.stages())?;
    match options.action {
        Action::Path | Action::Refresh => context.answer(&toolchain.sandbox.rootfs().display().to_string()),
        Action::Check if toolchain.drift.is_none() => {
            context.sink().emit(&Event::Note { message: "every package is the recorded version" });
        }
        Action::Check => {
            return Err(Error::new(Class::Verification, "the toolchain is not the recorded one")
                .why(&toolchain.drift)
                .hint("record the installed versions with `solana-talos toolchain update`")
                .into());
        }
        Action::Update => {
            let head =
                "# Recorded by `solana-talos toolchain update`: every package of the toolchain and its version.\n";
            atomic::write(&dir.join("packages.lock"), format!("{head}{}", toolchain.versions))?;
        }
    }
    Ok(())
}
