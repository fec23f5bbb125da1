//! What of an output directory must be equal in two builds of the same inputs.

use crate::Result;
use anyhow::Context as _;
use fs_err as fs;
use serde_json::Value;
use std::path::Path;

/// The lines of `SHA256SUMS` but for build.json, and build.json without its seconds.
///
/// # Errors
/// One of them is missing or malformed.
pub fn comparable(out: &Path) -> Result<(Vec<String>, Value)> {
    let sums = fs::read_to_string(out.join("SHA256SUMS"))?;
    let sums = sums.lines().filter(|line| !line.ends_with("  build.json")).map(str::to_owned).collect();
    let mut record: Value = serde_json::from_slice(&fs::read(out.join("build.json"))?)?;
    record.as_object_mut().context("build.json is no object")?.remove("seconds").context("it has no seconds")?;
    Ok((sums, record))
}
