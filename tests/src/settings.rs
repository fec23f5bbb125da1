//! What `./x test` hands over through the environment. Nothing else in this crate reads it.

use common::sandbox::Sandbox;
use std::path::{Path, PathBuf};

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
    /// Settings for outputs named by the variable `out`; `None` skips the calling test, or all of a program that calls it from `main`.
    #[must_use]
    pub fn from_env(out: &str, work: &Path) -> Option<Self> {
        let rootfs = skip::toolchain(&[])?;
        let out = skip::path(out)?;
        let program = std::env::var_os(PROGRAM).map(PathBuf::from);
        Some(Self { sandbox: Sandbox::new(rootfs), out, program, work: work.join("machines") })
    }

    /// The same for tests that run the program.
    #[must_use]
    pub fn with_program(out: &str, work: &Path) -> Option<Self> {
        skip::path(PROGRAM)?;
        Self::from_env(out, work)
    }
}
