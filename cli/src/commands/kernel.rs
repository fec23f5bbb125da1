//! `solana-talos kernel`: resolve, compare and build the kernel alone.

use clap::{Args, Subcommand};
use common::event::Event;
use common::{Class, Error, atomic};
use kernel_config::snapshot;

use crate::context::Context;
use crate::pipeline::kernel::{Prepared, SourceChoice, prepare};

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
    /// Kernel profile
    #[arg(long, default_value = "vm", global = true)]
    profile: String,
}

#[derive(Subcommand)]
enum Action {
    /// Resolve the configuration and compare it with the committed snapshot
    Check,
    /// Resolve the configuration and write the snapshot
    Snapshot,
    /// Compile the kernel and the module, and print their directories
    Build,
}

/// # Errors
/// When a stage fails, or the configuration is not the snapshot (`check`).
pub fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let prepared = prepare(context, SourceChoice::Debian, None)?;
    let profile = options.profile.as_str();
    match options.action {
        Action::Check => check(context, &prepared, profile)?,
        Action::Snapshot => {
            let resolved = prepared.configure(&prepared.source()?, profile)?;
            atomic::write(&prepared.snapshot_path(profile), snapshot::snapshot(profile, &resolved.config))?;
        }
        Action::Build => {
            let built = prepared.build(profile)?;
            println!("kernel {}", built.kernel.stage.dir.display());
            println!("modules {}", built.modules.dir.display());
            println!("module {}", built.module.dir.display());
        }
    }
    Ok(())
}

fn check(context: &Context, prepared: &Prepared<'_>, profile: &str) -> anyhow::Result<()> {
    let resolved = prepared.configure(&prepared.source()?, profile)?;
    let changes = prepared.snapshot_changes(profile, &resolved)?;
    if !changes.is_empty() {
        return Err(Error::new(
            Class::Verification,
            format!("the configuration of profile {profile} is not its snapshot"),
        )
        .file(prepared.snapshot_path(profile))
        .why(changes.join("\n"))
        .hint(format!("if the change is meant: `solana-talos kernel snapshot --profile {profile}`"))
        .into());
    }
    context.sink().emit(&Event::Note { message: &format!("profile {profile}: the configuration is its snapshot") });
    Ok(())
}
