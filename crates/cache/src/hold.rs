//! The lock on the whole cache: readers of the cache take it shared, `cache prune` takes it exclusively.
//!
//! The locks of single stages are not enough: they are released when a stage is finished, and its files are read until the build ends.

use std::fs::{File, TryLockError};
use std::path::Path;

use common::{Class, Error, Result};

/// The locked file, among the locks of stages.
pub const FILE: &str = "unfinished/in-use.lock";

/// A lock on the cache. The kernel releases it when this process ends, however it ends.
#[derive(Debug)]
pub struct Hold {
    _file: File,
}

impl Hold {
    /// Shares the cache `root` with other builds; calls `waiting` before it waits for a removal to end.
    ///
    /// `None` if the file cannot be opened: what then writes to the cache reports why.
    #[must_use]
    pub fn shared(root: &Path, waiting: impl FnOnce()) -> Option<Self> {
        let file = open(root).ok()?;
        if matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
            waiting();
            file.lock_shared().ok()?;
        }
        Some(Self { _file: file })
    }

    /// Locks the cache `root` exclusively.
    ///
    /// # Errors
    /// [`Class::Infrastructure`] if another process uses it.
    pub fn exclusive(root: &Path) -> Result<Self> {
        let file = open(root)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::new(Class::Infrastructure, "the cache is in use")
                .file(root)
                .why("another solana-talos builds with it, boots from it or prunes it")
                .hint("run it again when that has ended; --dry-run works now")),
            Err(TryLockError::Error(e)) => Err(Error::io("cannot take lock", root.join(FILE), &e)),
        }
    }
}

fn open(root: &Path) -> Result<File> {
    let path = root.join(FILE);
    fs_err::create_dir_all(path.parent().unwrap_or(root))?;
    Ok(fs_err::File::create(path)?.into_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_share_the_lock_and_prune_takes_it_exclusively() {
        let root = tempfile::tempdir().unwrap();
        let never = || panic!("waits without reason");
        let first = Hold::shared(root.path(), never);
        let second = Hold::shared(root.path(), never);
        assert!(first.is_some() && second.is_some());
        drop(first);
        let error = Hold::exclusive(root.path()).unwrap_err();
        assert!(error.class() == Class::Infrastructure && error.to_string().contains("in use"), "{error}");
        drop(second);
        drop(Hold::exclusive(root.path()).unwrap());
    }

    #[test]
    fn a_build_waits_for_a_removal_and_says_so() {
        let root = tempfile::tempdir().unwrap();
        let exclusive = Hold::exclusive(root.path()).unwrap();
        let (send, waits) = std::sync::mpsc::channel();
        let path = root.path().to_owned();
        let build = std::thread::spawn(move || Hold::shared(&path, || send.send(()).unwrap()).is_some());
        waits.recv().unwrap();
        drop(exclusive);
        assert!(build.join().unwrap());
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_not_held() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("file"), "").unwrap();
        assert!(Hold::shared(&root.path().join("file"), || ()).is_none());
    }
}
