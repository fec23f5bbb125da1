//! The content-addressed store of everything a build reads: `<root>/sha256/<hex>`, shared by every clone on the machine.

use std::path::{Path, PathBuf};

use crate::digest::Sha256;
use crate::error::{Class, Error, Result};

/// The store, and the read-only mirrors that are looked up before the network.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    mirrors: Vec<PathBuf>,
}

impl Store {
    /// A store below `root`; each mirror is a directory of files named by their sha256.
    #[must_use]
    pub fn new(root: PathBuf, mirrors: Vec<PathBuf>) -> Self {
        Self { root, mirrors }
    }

    /// Where the content `digest` stands or will stand.
    #[must_use]
    pub fn path(&self, digest: &Sha256) -> PathBuf {
        self.root.join("sha256").join(digest.to_string())
    }

    /// The stored file of that digest, taken from a mirror if a mirror has it.
    ///
    /// # Errors
    /// [`Class::Verification`] when a mirror's file is not what its name says, [`Class::Infrastructure`] on I/O errors.
    pub fn find(&self, digest: &Sha256) -> Result<Option<PathBuf>> {
        let path = self.path(digest);
        if path.is_file() {
            return Ok(Some(path));
        }
        for mirror in &self.mirrors {
            let file = mirror.join(digest.to_string());
            if file.is_file() {
                return self.insert(&file, digest).map(Some);
            }
        }
        Ok(None)
    }

    /// Copies `file` into the store after checking that it is `expected`.
    ///
    /// # Errors
    /// [`Class::Verification`] when it is not; nothing is stored then.
    pub fn insert(&self, file: &Path, expected: &Sha256) -> Result<PathBuf> {
        let found = Sha256::of_file(file)?;
        if found != *expected {
            let size = std::fs::metadata(file).map_or(0, |m| m.len());
            return Err(Error::new(Class::Verification, "a file is not the pinned one")
                .file(file)
                .why(format!("its sha256 is {found} ({size} bytes)\nthe pin says  {expected}"))
                .hint("a truncated or altered download: remove the file and fetch it again; if upstream changed it on purpose, change the pin"));
        }
        let path = self.path(expected);
        let dir = self.root.join("sha256");
        fs_err::create_dir_all(&dir)?;
        let part = tempfile::Builder::new().prefix(".part-").tempfile_in(&dir)?;
        fs_err::copy(file, part.path())?;
        // Whatever the mode of what was copied: other users' builds may take from this store.
        crate::atomic::set_mode(part.path(), 0o644).map_err(|e| Error::io("cannot copy into the store", &path, &e))?;
        part.as_file().sync_all().map_err(|e| Error::io("cannot sync the store", &path, &e))?;
        part.persist(&path).map_err(|e| Error::io("cannot name a stored file", &path, &e.error))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn store(mirrors: Vec<PathBuf>) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("store"), mirrors);
        (dir, store)
    }

    #[test]
    fn takes_a_file_from_a_mirror() {
        let mirror = tempfile::tempdir().unwrap();
        let digest = Sha256::of("kernel");
        let file = mirror.path().join(digest.to_string());
        std::fs::write(&file, "kernel").unwrap();
        crate::atomic::set_mode(&file, 0o600).unwrap();
        let (_dir, store) = store(vec![mirror.path().to_owned()]);
        let path = store.find(&digest).unwrap().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"kernel");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(store.find(&Sha256::of("other")).unwrap().is_none());
    }

    #[test]
    fn refuses_a_truncated_file_and_stores_nothing() {
        let mirror = tempfile::tempdir().unwrap();
        let digest = Sha256::of("kernel");
        std::fs::write(mirror.path().join(digest.to_string()), "kern").unwrap();
        let (dir, store) = store(vec![mirror.path().to_owned()]);
        let error = store.find(&digest).unwrap_err();
        assert_eq!(error.class(), Class::Verification);
        assert!(error.to_string().contains("4 bytes"), "{error}");
        assert!(!dir.path().join("store").exists());
    }
}
