//! Formatting, clippy, rustdoc: of the host's crates and of the guest. The kernel's Rust is linted where it is compiled (profile `debug`).

use anyhow::Result;
use xshell::{Shell, cmd};

pub fn run(shell: &Shell) -> Result<()> {
    cmd!(shell, "cargo fmt --all --check").run()?;
    cmd!(shell, "cargo clippy --workspace --all-targets --locked --quiet -- -D warnings").run()?;
    cmd!(shell, "cargo doc --workspace --no-deps --locked --quiet").env("RUSTDOCFLAGS", "-D warnings").run()?;
    let _guest = shell.push_dir("tests/guest");
    cmd!(shell, "cargo fmt --check").run()?;
    cmd!(shell, "cargo clippy --all-targets --locked --quiet -- -D warnings").run()?;
    Ok(())
}
