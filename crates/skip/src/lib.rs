//! The one way a test says that it cannot run here: `let Some(rootfs) = skip::toolchain(&["skopeo"]) else { return };`
//!
//! A skip is printed on standard error and, under `./x test`, recorded; `./x test` fails on each one that `tests/allowed-skips.toml` does
//! not list. Plain `cargo test` skips loudly and passes. A test of this crate finds skips that are made by hand.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{Result, Write as _};
use std::path::{Path, PathBuf};

/// Environment variable that names the file in which skips are recorded, one a line; `./x test` sets it.
pub const RECORD: &str = "SOLANA_TALOS_SKIPPED";

/// Environment variable that names the toolchain's root filesystem; `./x test` sets it.
pub const ROOTFS: &str = "SOLANA_TALOS_ROOTFS";

/// Reports that the calling test does not run, and why.
///
/// # Panics
/// When the skip cannot be recorded: it would pass unseen.
pub fn skipped(why: impl Display) {
    let line = line(&test(), &why.to_string());
    // `eprintln!` would be kept back by the test harness, since a skipped test passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {line}");
    if let Some(file) = std::env::var_os(RECORD) {
        record(Path::new(&file), &line).unwrap_or_else(|e| panic!("cannot record a skip in {}: {e}", file.display()));
    }
}

/// The existing path that an environment variable names; without it the calling test is skipped.
#[must_use]
pub fn path(variable: &str) -> Option<PathBuf> {
    existing(variable, std::env::var_os(variable)).map_err(skipped).ok()
}

/// The toolchain's root filesystem, where it has `programs`; without it the calling test is skipped.
#[must_use]
pub fn toolchain(programs: &[&str]) -> Option<PathBuf> {
    with_programs(path(ROOTFS)?, programs).map_err(skipped).ok()
}

fn existing(variable: &str, value: Option<OsString>) -> std::result::Result<PathBuf, String> {
    let path = PathBuf::from(value.ok_or_else(|| format!("{variable} is not set; `./x test` sets it"))?);
    path.canonicalize().map_err(|e| format!("{variable} names {}: {e}", path.display()))
}

fn with_programs(rootfs: PathBuf, programs: &[&str]) -> std::result::Result<PathBuf, String> {
    let missing: Vec<_> = programs.iter().filter(|name| !rootfs.join("usr/bin").join(name).exists()).copied().collect();
    if missing.is_empty() { Ok(rootfs) } else { Err(format!("the toolchain has no {}", missing.join(", "))) }
}

/// `BINARY::TEST`, or `BINARY` alone where its own `main` skips all of its tests.
fn test() -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let stem = program.file_stem().unwrap_or_default().to_string_lossy();
    // Cargo appends a hash.
    let binary = stem.rsplit_once('-').map_or(&*stem, |(name, _)| name);
    match std::thread::current().name() {
        None | Some("main") => binary.to_owned(),
        Some(test) => format!("{binary}::{test}"),
    }
}

fn line(test: &str, why: &str) -> String {
    format!("{test}: {}", why.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn record(file: &Path, line: &str) -> Result<()> {
    OpenOptions::new().create(true).append(true).open(file)?.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests;
