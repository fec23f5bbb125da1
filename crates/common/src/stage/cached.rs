//! Finished stages as they lie in a cache, whichever build made them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::FINGERPRINT;
use crate::digest::Sha256;

/// A finished stage in a cache.
#[derive(Clone, Debug)]
pub struct Cached {
    /// Name of the stage.
    pub stage: String,
    /// What it was made from: the entries of its key.
    pub inputs: BTreeMap<String, String>,
    /// Its key.
    pub key: Sha256,
}

#[derive(Deserialize)]
struct Text {
    stage: String,
    inputs: BTreeMap<String, String>,
}

impl Cached {
    /// Reads the stage in `dir`; `None` if no build would take it, because its fingerprint is missing or damaged.
    #[must_use]
    pub fn read(dir: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(dir.join(FINGERPRINT)).ok()?;
        let Text { stage, inputs } = serde_json::from_str(&text).ok()?;
        Some(Self { stage, inputs, key: Sha256::of(text) })
    }
}

/// Returns the file in the cache `root` that a run of the stage with the directory `name` locks. Its modification time is that of the last run
/// that made or used the stage.
#[must_use]
pub fn lock_file(root: &Path, name: &str) -> PathBuf {
    root.join("unfinished").join(format!("{name}.lock"))
}
