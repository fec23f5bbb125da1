//! `solana-talos attach`: takes the signatures back that a command with `--sign-later` asked for.

use std::path::PathBuf;

use clap::Args;
use common::event::Event;
use common::{Class, Error};
use keys::detached::count;

use crate::progress::{self, Format, History};

#[derive(Args)]
pub struct Options {
    /// The directory that a command with `--sign-later` wrote its requests to
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// # Errors
/// When a signature is not the key's, or is missing; those that are good are taken.
pub fn run(format: Format, options: &Options) -> anyhow::Result<()> {
    let attached = keys::attach(&options.dir)?;
    for request in &attached.taken {
        progress::answer(format, &format!("{}  {}", request.name, request.what));
    }
    let (taken, missing) = (attached.taken.len(), &attached.missing);
    if missing.is_empty() {
        let message = format!("took {}; run the same command again to go on", count(taken));
        progress::sink(format, false, History::none()).emit(&Event::Note { message: &message });
        return Ok(());
    }
    let list: Vec<_> = missing.iter().map(|request| format!("{}.sig: {}", request.name, request.what)).collect();
    let what = format!("{} missing; {taken} taken", count(missing.len()));
    let error = Error::new(Class::AwaitsSignatures, what).file(&options.dir).why(list.join("\n"));
    Err(error.hint("put each beside its digest, then attach again").into())
}
