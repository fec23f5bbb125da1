//! `solana-talos module`: the daily loop: compile and sign our module against the built kernel, and print the new extension image.

use clap::Args;

use crate::context::Context;
use crate::pipeline::kernel::{SourceChoice, prepare};
use crate::pipeline::packages;

#[derive(Args)]
pub struct Options {
    /// Kernel profile
    #[arg(long, default_value = "vm")]
    profile: String,
    /// Registry and organisation in the image's names
    #[arg(long, default_value = "ghcr.io/our-org", value_name = "NAME")]
    registry: String,
}

/// # Errors
/// When a stage fails.
pub fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    crate::pipeline::kernel::profile(context, &options.profile)?;
    let prepared = prepare(context, SourceChoice::Debian, None)?;
    let built = prepared.build(&options.profile)?;
    let extension = packages::extension(context, &prepared, &built, &options.registry)?;
    println!("{}", extension.dir.join("solana-optimizer.oci").display());
    Ok(())
}
