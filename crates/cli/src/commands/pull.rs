//! `solana-talos pull`: copies an image with its referrers from a registry into an OCI layout.

use std::path::PathBuf;

use build::network;
use clap::Args;
use common::event::Event;
use common::text::count;
use oci::Reference;

use crate::options::{NetworkOptions, PaceOptions};
use crate::progress::{self, History, Output};

#[derive(Args)]
// Only uploads have chunks.
#[command(mut_arg("chunk", |chunk| chunk.hide(true)))]
pub struct Options {
    /// Full image reference: ghcr.io/our-org/installer:v1, with or without @sha256:…
    #[arg(value_name = "REF")]
    reference: Reference,
    /// OCI layout directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    pace: PaceOptions,
}

/// Needs neither a project nor a cache. On failure the layout is left unchanged.
pub fn run(output: Output, offline: bool, options: &Options) -> anyhow::Result<()> {
    network::refuse_offline(offline, &options.reference.to_string())?;
    let sink = output.sink(History::none());
    let pulled =
        options.network.network().pull(options.pace.into(), sink.as_ref(), &options.reference, &options.out)?;
    let artifacts = count(pulled.artifacts, "attached artifact");
    let message = format!("wrote {}: image with {artifacts}", options.out.display());
    sink.emit(&Event::Note { message: &message });
    progress::answer(output.format, &pulled.digest.oci())?;
    Ok(())
}
