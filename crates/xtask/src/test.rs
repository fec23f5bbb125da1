//! Builds what the tests look at, then runs all of them.

use anyhow::Result;
use xshell::{Shell, cmd};

use crate::Tool;

/// Output of profile `debug`, beside `_out`.
const DEBUG_OUT: &str = "_out-debug";

/// Where kernel-hardening-checker's reports are kept for the tests.
const REPORTS: &str = "target/hardening";

pub fn run(shell: &Shell, full: bool) -> Result<()> {
    let tool = Tool::build(shell)?;
    // What tests/tests/offline.rs makes a bundle of.
    tool.run("fetch")?;
    tool.run("build")?;
    tool.run(&format!("build --profile debug --out {DEBUG_OUT}"))?;
    for profile in ["vm", "debug", "metal"] {
        tool.run(&format!("kernel check --profile {profile}"))?;
    }
    for profile in ["vm", "metal"] {
        tool.run(&format!("kernel harden --profile {profile} --report {REPORTS}"))?;
    }
    tool.run("toolchain check")?;
    let root = shell.current_dir();
    let _full = full.then(|| shell.push_env("SOLANA_TALOS_FULL", "1"));
    let _rootfs = shell.push_env("SOLANA_TALOS_ROOTFS", tool.read("toolchain path")?);
    let _source = shell.push_env("SOLANA_TALOS_KERNEL_SOURCE", tool.read("kernel source")?);
    let _program = shell.push_env("SOLANA_TALOS_PROGRAM", &tool.program);
    let _config = shell.push_env("SOLANA_TALOS_UPSTREAM_CONFIG", tool.read("kernel base --profile metal")?);
    let _reports = shell.push_env("SOLANA_TALOS_HARDENING_REPORTS", root.join(REPORTS));
    let _out = shell.push_env("SOLANA_TALOS_OUT", root.join("_out"));
    let _debug = shell.push_env("SOLANA_TALOS_DEBUG_OUT", root.join(DEBUG_OUT));
    {
        let _guest = shell.push_dir("tests/guest");
        cmd!(shell, "cargo test --locked --quiet").run()?;
    }
    // One test binary at a time, and the boots one machine at a time: two cores must be enough.
    cmd!(shell, "cargo test --workspace --locked --no-fail-fast").run()?;
    Ok(())
}
