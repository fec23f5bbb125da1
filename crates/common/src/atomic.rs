//! Atomic writes: write under a temporary name in the same directory, sync, rename.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes `bytes` to `path` completely or not at all, and creates its parent directories.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    let write = || {
        let parent = parent(path);
        std::fs::create_dir_all(parent)?;
        let mut part = tempfile::Builder::new().prefix(".part-").tempfile_in(parent)?;
        part.write_all(bytes.as_ref())?;
        part.as_file().sync_all()?;
        set_mode(part.path(), 0o644)?;
        part.persist(path).map(drop).map_err(|e| e.error)
    };
    write().map_err(|e| Error::io("cannot write file", path, &e))
}

/// Renames the finished directory `from` to `to`, replacing an existing one.
///
/// The old directory is moved aside first and removed last, so that `to` is missing only between two renames.
pub fn replace_dir(from: &Path, to: &Path) -> Result<()> {
    fs_err::create_dir_all(parent(to))?;
    rustix::fs::syncfs(fs_err::File::open(from)?).map_err(|e| Error::io("cannot sync directory", from, &e.into()))?;
    let old = sibling(to, "old");
    remove_dir(&old)?;
    match fs_err::rename(to, &old) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    fs_err::rename(from, to)?;
    remove_dir(&old)
}

/// Returns `.<name>.<suffix>` in the directory of `path`.
#[must_use]
pub fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{suffix}"))
}

/// Removes a directory tree if it exists.
pub fn remove_dir(path: &Path) -> Result<()> {
    match fs_err::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// Makes `path` an empty directory.
pub fn empty_dir(path: &Path) -> Result<()> {
    remove_dir(path)?;
    Ok(fs_err::create_dir_all(path)?)
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_and_leaves_no_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        std::fs::create_dir_all(path.join("child")).unwrap();
        let error = write(&path, "x").unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
        assert!(path.join("child").is_dir());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn replaces_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("new"), dir.path().join("out"));
        for (path, file) in [(&to, "stale"), (&from, "fresh")] {
            empty_dir(path).unwrap();
            std::fs::write(path.join(file), "").unwrap();
        }
        replace_dir(&from, &to).unwrap();
        assert!(to.join("fresh").exists() && !to.join("stale").exists() && !from.exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
