//! Compares the output directories of two builds of the same inputs.

use crate::Result;
use anyhow::Context as _;
use fs_err as fs;
use serde_json::Value;
use std::path::Path;

/// Returns the lines of `SHA256SUMS` except that of build.json, and build.json without the seconds: these must be equal.
pub fn comparable(out: &Path) -> Result<(Vec<String>, Value)> {
    let sums = fs::read_to_string(out.join("SHA256SUMS"))?;
    let sums = sums.lines().filter(|line| !line.ends_with("  build.json")).map(str::to_owned).collect();
    let mut record: Value = serde_json::from_slice(&fs::read(out.join("build.json"))?)?;
    record
        .as_object_mut()
        .context("build.json is not an object")?
        .remove("seconds")
        .context("no seconds in build.json")?;
    Ok((sums, record))
}
