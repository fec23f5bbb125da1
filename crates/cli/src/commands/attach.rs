//! `solana-talos attach`: takes the signatures back that a command with `--sign-later` asked for.

use std::path::PathBuf;

use clap::Args;
use common::event::Event;
use keys::detached::count;

use crate::progress::{self, Format, History};
use crate::status::Status;

#[derive(Args)]
pub struct Options {
    /// The directory that a command with `--sign-later` wrote its requests to
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// # Errors
/// When a signature is not the key's, or is missing; those that are good are taken.
pub fn run(format: Format, options: &Options) -> anyhow::Result<Status> {
    let attached = keys::attach(&options.dir)?;
    for request in &attached.taken {
        progress::answer(format, &format!("{}  {}", request.name, request.what));
    }
    let (taken, missing) = (attached.taken.len(), &attached.missing);
    if missing.is_empty() {
        let message = format!("took {}; run the same command again to go on", count(taken));
        progress::sink(format, false, History::none()).emit(&Event::Note { message: &message });
        return Ok(Status::Done);
    }
    let list: String = missing.iter().map(|request| format!("\n    {}.sig: {}", request.name, request.what)).collect();
    Ok(Status::Pending(format!(
        "{} missing; {taken} taken\n  directory: {}\n  missing:{list}\n  hint: put each next to its digest, then attach again",
        count(missing.len()),
        options.dir.display()
    )))
}
