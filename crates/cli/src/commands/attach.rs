//! `solana-talos attach`: imports signatures that an external signer made for the requests of `--sign-later`.

use std::path::PathBuf;

use clap::Args;
use common::event::Event;
use keys::detached::count;

use crate::progress::{self, History, Output};
use crate::status::Status;

#[derive(Args)]
pub struct Options {
    /// The directory that was given to `--sign-later`; each signature is next to its request, named NAME.sig
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Imports every signature that is there and verifies, also when others are missing.
pub fn run(output: Output, options: &Options) -> anyhow::Result<Status> {
    let attached = keys::attach(&options.dir)?;
    for request in &attached.taken {
        progress::answer(output.format, &format!("{}  {}", request.name, request.what))?;
    }
    let (taken, missing) = (attached.taken.len(), &attached.missing);
    if missing.is_empty() {
        let message = format!("imported {}; run the original command again to continue", count(taken));
        output.sink(History::none()).emit(&Event::Note { message: &message });
        return Ok(Status::Done);
    }
    let list: String = missing.iter().map(|request| format!("\n    {}.sig: {}", request.name, request.what)).collect();
    Ok(Status::Pending(format!(
        "{} missing; {taken} imported\n  directory: {}\n  missing:{list}\n  hint: put each signature next to its request and run attach again",
        count(missing.len()),
        options.dir.display()
    )))
}
