//! Skips a test that cannot run on this machine: `let Some(rootfs) = skip::toolchain(&["skopeo"]) else { return };`
//!
//! A skip is printed on standard error and, under `./x test`, recorded; `./x test` fails on each skip that is not in
//! `tests/allowed-skips.toml`. Plain `cargo test` prints it and passes. A test of this crate finds tests that skip without it.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use common::sandbox::{Run, Sandbox};

/// Environment variable with the path of the file where skips are recorded, one per line; `./x test` sets it.
pub const RECORD: &str = "SOLANA_TALOS_SKIPPED";

/// Environment variable with the path of the toolchain's root filesystem; `./x test` sets it.
pub const ROOTFS: &str = "SOLANA_TALOS_ROOTFS";

/// Reports that the calling test is skipped, and why.
///
/// # Panics
/// If the skip cannot be recorded: it would go unnoticed.
pub fn skipped(why: impl Display) {
    let line = line(&test_name(), &why.to_string());
    // The test harness captures `eprintln!` of a test that passes, and a skipped test passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {line}");
    if let Some(file) = std::env::var_os(RECORD) {
        record(Path::new(&file), &line).unwrap_or_else(|e| panic!("cannot record a skip in {}: {e}", file.display()));
    }
}

/// Returns the existing path in an environment variable; `None` skips the calling test.
#[must_use]
pub fn path(variable: &str) -> Option<PathBuf> {
    existing(variable, std::env::var_os(variable)).map_err(skipped).ok()
}

/// Returns the toolchain's root filesystem if it has all `programs`; `None` skips the calling test.
#[must_use]
pub fn toolchain(programs: &[&str]) -> Option<PathBuf> {
    with_programs(path(ROOTFS)?, programs).map_err(skipped).ok()
}

/// Returns a sandbox with the toolchain, after installing packages of PyPI (such as `jsonschema==4.26.0`) into the directory `py` of `work`;
/// `None` skips the calling test: a machine without network has none.
#[must_use]
pub fn python(packages: &str, work: &Path) -> Option<Sandbox> {
    let sandbox = Sandbox::new(toolchain(&["python3", "pip3"])?);
    let install = format!(
        "python3 -m pip install --quiet --no-input --disable-pip-version-check --root-user-action ignore --target py {packages}"
    );
    let run = Run::script(&install, &[]).with_network().env("PIP_RETRIES", "0").env("PIP_DEFAULT_TIMEOUT", "10");
    match sandbox.output(&run.write(work, "/build/w").directory("/build/w")) {
        Ok(_) => Some(sandbox),
        Err(e) => {
            skipped(format!("cannot install {packages}: {e}"));
            None
        }
    }
}

fn existing(variable: &str, value: Option<OsString>) -> Result<PathBuf, String> {
    let path = PathBuf::from(value.ok_or_else(|| format!("{variable} is not set; `./x test` sets it"))?);
    path.canonicalize().map_err(|e| format!("{variable}: {}: {e}", path.display()))
}

fn with_programs(rootfs: PathBuf, programs: &[&str]) -> Result<PathBuf, String> {
    let missing: Vec<_> = programs.iter().filter(|name| !rootfs.join("usr/bin").join(name).exists()).copied().collect();
    if missing.is_empty() { Ok(rootfs) } else { Err(format!("missing in the toolchain: {}", missing.join(", "))) }
}

/// `BINARY::TEST`, or `BINARY` if a `main` of its own skips all of its tests.
fn test_name() -> String {
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

fn record(file: &Path, line: &str) -> std::io::Result<()> {
    OpenOptions::new().create(true).append(true).open(file)?.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests;
