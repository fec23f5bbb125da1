//! Nothing half-written is ever left under a final name: write beside, sync, rename.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes `bytes` to `path` whole or not at all, making its parent directories.
///
/// # Errors
/// [`crate::Class::Infrastructure`] when the file cannot be written, synced or renamed; `path` is then as it was.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    let io = |e: &std::io::Error| Error::io("cannot write a file", path, e);
    let parent = parent(path);
    std::fs::create_dir_all(parent).map_err(|e| io(&e))?;
    let mut beside = tempfile::Builder::new().prefix(".part-").tempfile_in(parent).map_err(|e| io(&e))?;
    beside.write_all(bytes.as_ref()).map_err(|e| io(&e))?;
    beside.as_file().sync_all().map_err(|e| io(&e))?;
    set_mode(beside.path(), 0o644).map_err(|e| io(&e))?;
    beside.persist(path).map_err(|e| io(&e.error))?;
    Ok(())
}

/// Puts the finished directory `from` under the name `to`, replacing what is there.
///
/// The old directory is moved aside first and removed last, so that `to` is missing only between two renames.
///
/// # Errors
/// [`crate::Class::Infrastructure`] when a rename fails.
pub fn replace_dir(from: &Path, to: &Path) -> Result<()> {
    let io = |e: &std::io::Error| Error::io("cannot put a finished directory in place", to, e);
    std::fs::create_dir_all(parent(to)).map_err(|e| io(&e))?;
    sync_filesystem(from)?;
    let old = beside(to, "old");
    remove_dir(&old)?;
    match std::fs::rename(to, &old) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(&e)),
        _ => {}
    }
    std::fs::rename(from, to).map_err(|e| io(&e))?;
    remove_dir(&old)
}

/// `.<name>.<suffix>` next to `path`.
#[must_use]
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{suffix}"))
}

/// Removes a directory tree if it is there.
///
/// # Errors
/// [`crate::Class::Infrastructure`] when something in it cannot be removed.
pub fn remove_dir(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("cannot remove a directory", path, &e)),
        _ => Ok(()),
    }
}

/// Makes `path` an empty directory.
///
/// # Errors
/// [`crate::Class::Infrastructure`] when it cannot be emptied or made.
pub fn empty_dir(path: &Path) -> Result<()> {
    remove_dir(path)?;
    std::fs::create_dir_all(path).map_err(|e| Error::io("cannot make a directory", path, &e))
}

fn sync_filesystem(path: &Path) -> Result<()> {
    let dir = std::fs::File::open(path).map_err(|e| Error::io("cannot open a directory to sync it", path, &e))?;
    rustix::fs::syncfs(dir).map_err(|e| Error::io("cannot sync a directory", path, &e.into()))
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
    fn replaces_a_directory_whole() {
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
