//! Settings of the tests: environment variables that `./x test` sets. Only this module reads them.

use crate::Result;
use anyhow::Context as _;
use common::sandbox::Sandbox;
use std::path::{Path, PathBuf};

/// The output directory of a build on the testbed, profile `vm`.
pub const OUT: &str = "SOLANA_TALOS_OUT";
/// As [`OUT`], of the default build, on Talos.
pub const TALOS_OUT: &str = "SOLANA_TALOS_TALOS_OUT";
/// The program `solana-talos`.
pub const PROGRAM: &str = "SOLANA_TALOS_PROGRAM";
/// Set by the set of tests that cut the power.
pub const POWER_CUTS: &str = "SOLANA_TALOS_POWER_CUTS";
/// Set by the set of tests that recover a node.
pub const RECOVERY: &str = "SOLANA_TALOS_RECOVERY";
/// Set by the set of tests that compares with a stock kernel.
pub const STOCK: &str = "SOLANA_TALOS_STOCK";
/// Set by the set of tests that run Kubernetes.
pub const KUBERNETES: &str = "SOLANA_TALOS_KUBERNETES";
/// Output directory of profile `debug`.
pub const DEBUG_OUT: &str = "SOLANA_TALOS_DEBUG_OUT";

/// The settings of one test run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sandbox with the toolchain, where programs run.
    pub sandbox: Sandbox,
    /// Directory with the images under test.
    pub out: PathBuf,
    program: Option<PathBuf>,
    /// Directory of the machines' files and logs.
    pub work: PathBuf,
}

impl Settings {
    /// Reads the settings; the variable `out` names the output directory. `None` means that the calling test, or the whole program if
    /// `main` calls this, is skipped; the skip is already reported.
    #[must_use]
    pub fn from_env(out: &str) -> Option<Self> {
        let rootfs = skip::toolchain(&[])?;
        let out = skip::path(out)?;
        let program = std::env::var_os(PROGRAM).map(PathBuf::from);
        Some(Self { sandbox: Sandbox::new(rootfs), out, program, work: work() })
    }

    /// As [`Settings::from_env`], for tests that run the program.
    #[must_use]
    pub fn with_program(out: &str) -> Option<Self> {
        skip::path(PROGRAM)?;
        Self::from_env(out)
    }

    /// As [`Settings::with_program`], for tests that run only in the set `set` of `./x test`, which sets `variable`.
    #[must_use]
    pub fn requested(set: &str, variable: &str, out: &str) -> Option<Self> {
        if std::env::var_os(variable).is_none() {
            skip::skipped(format!("{variable} is not set; `./x test {set}` sets it"));
            return None;
        }
        Self::with_program(out)
    }

    /// Returns the program `solana-talos`.
    pub fn program(&self) -> Result<&Path> {
        self.program.as_deref().with_context(|| format!("{PROGRAM} is not set"))
    }
}

/// `machines` in cargo's directory `target/tmp`; test programs are in `target/<profile>/deps`.
fn work() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.ancestors().nth(3).unwrap_or(Path::new("target")).join("tmp/machines")
}
