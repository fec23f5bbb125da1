//! What `./x test` hands over through the environment. Nothing else in this crate reads it.

use common::sandbox::Sandbox;
use std::path::{Path, PathBuf};

/// Root filesystem of the toolchain; QEMU and all judges live in it.
pub const ROOTFS: &str = "SOLANA_TALOS_ROOTFS";
/// The build's output directory, profile `vm`.
pub const OUT: &str = "SOLANA_TALOS_OUT";
/// The command line's program.
pub const PROGRAM: &str = "SOLANA_TALOS_PROGRAM";
/// Output directory of profile `debug`.
pub const DEBUG_OUT: &str = "SOLANA_TALOS_DEBUG_OUT";

/// The environment of one test run.
#[derive(Debug)]
pub struct Settings {
    /// Programs run in here.
    pub sandbox: Sandbox,
    /// Directory with the images under test.
    pub out: PathBuf,
    /// The program `solana-talos`, where the tests were told of it.
    pub program: Option<PathBuf>,
    /// Where machines keep their files and logs.
    pub work: PathBuf,
}

impl Settings {
    /// Settings for outputs named by the variable `out`; `None`, said loudly, when something is not there.
    #[must_use]
    pub fn from_env(out: &str, work: &Path) -> Option<Self> {
        let rootfs = existing(ROOTFS)?;
        let out = existing(out)?;
        let program = std::env::var_os(PROGRAM).map(PathBuf::from);
        Some(Self { sandbox: Sandbox::new(rootfs), out, program, work: work.join("machines") })
    }

    /// The same for tests that run the program.
    #[must_use]
    pub fn with_program(out: &str, work: &Path) -> Option<Self> {
        existing(PROGRAM)?;
        Self::from_env(out, work)
    }
}

fn existing(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    match path.as_deref().map(Path::canonicalize) {
        Some(Ok(path)) => return Some(path),
        Some(Err(err)) => eprintln!("SKIPPED: {variable} names what is not there: {err}"),
        None => eprintln!("SKIPPED: {variable} is not set; `./x test` sets it"),
    }
    None
}
