//! The cache that the outputs under test were built with, and new caches that reuse some of its finished stages.

use crate::Result;
use crate::settings::Settings;
use fs_err as fs;
use std::path::{Path, PathBuf};

/// The cache that the outputs under test were built with.
pub fn shared(settings: &Settings) -> Result<PathBuf> {
    Ok(settings.sandbox.rootfs().join("../../..").canonicalize()?)
}

/// Makes a cache below `dir` with the development keys and those finished stages whose directory names `keep` accepts. Its store is empty:
/// other inputs of a build must come from a mirror.
pub fn fresh(settings: &Settings, dir: &Path, keep: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let (from, fresh) = (shared(settings)?, dir.join("cache"));
    fs::create_dir_all(fresh.join("stages"))?;
    fs::os::unix::fs::symlink(from.join("keys"), fresh.join("keys"))?;
    for entry in fs::read_dir(from.join("stages"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if keep(&name) {
            fs::os::unix::fs::symlink(entry.path(), fresh.join("stages").join(name))?;
        }
    }
    Ok(fresh)
}
