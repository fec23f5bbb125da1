//! Reads a directory of inputs that others made: `crates/fuzz/src/foreign/`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use fuzz::foreign;

#[derive(Args, Debug)]
pub struct Options {
    /// Directory with inputs: OCI layouts, layers, squashfs and initramfs images, kernels, extensions, keys, files of logins
    #[arg(value_name = "DIR", default_value = "crates/fuzz/inputs/corpus")]
    dir: PathBuf,
}

/// Fails only if a parser panics: whether an input should be taken is for the reader to say.
pub fn run(options: &Options) -> Result<()> {
    let inputs = foreign::read(&options.dir)?;
    ensure!(!inputs.is_empty(), "{} is empty", options.dir.display());
    print!("{}", foreign::report(&inputs));
    let panicked = inputs.iter().filter(|input| input.outcome == foreign::Outcome::Panicked).count();
    ensure!(panicked == 0, "{panicked} inputs make a parser panic; move them to crates/fuzz/corpus/ and correct it");
    Ok(())
}
