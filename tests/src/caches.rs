//! Caches of a test's own, with finished stages of the one that the outputs under test come from.

use crate::Result;
use crate::settings::Settings;
use fs_err as fs;
use std::path::{Path, PathBuf};

/// The cache that the outputs under test come from.
///
/// # Errors
/// It is not there.
pub fn main(settings: &Settings) -> Result<PathBuf> {
    Ok(settings.sandbox.rootfs().join("../../..").canonicalize()?)
}

/// A cache below `dir` with the development keys and the finished stages whose directories `keep` wants by name. Its store is empty: what a build needs
/// beyond the stages has to come from a mirror.
///
/// # Errors
/// It cannot be made.
pub fn fresh(settings: &Settings, dir: &Path, keep: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let (from, fresh) = (main(settings)?, dir.join("cache"));
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
