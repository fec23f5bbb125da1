//! Formatting, clippy, rustdoc, and rules for third-party crates. The kernel's Rust is linted where it is compiled (profile `debug`).

mod crates;

use std::time::Instant;

use anyhow::Result;
use xshell::{Shell, cmd};

/// The workspaces: the host's crates, the guest and the fuzzer.
const WORKSPACES: [&str; 3] = [".", "tests/guest", "crates/fuzz/libfuzzer"];

pub fn run(shell: &Shell) -> Result<()> {
    let start = Instant::now();
    cmd!(shell, "cargo fmt --all --check").run()?;
    crates::check(shell, &WORKSPACES)?;
    cmd!(shell, "cargo clippy --workspace --all-targets --locked -- -D warnings").run()?;
    cmd!(shell, "cargo doc --workspace --no-deps --locked").env("RUSTDOCFLAGS", "-D warnings").run()?;
    let _guest = shell.push_dir("tests/guest");
    cmd!(shell, "cargo fmt --check").run()?;
    cmd!(shell, "cargo clippy --all-targets --locked -- -D warnings").run()?;
    println!("lint: passed in {} s", start.elapsed().as_secs());
    Ok(())
}
