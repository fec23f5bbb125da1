//! The content-addressed store of build inputs: `<root>/sha256/<hex>`, shared by every clone on the machine.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::digest::Sha256;
use crate::error::{Class, Error, Result};

/// The store, and read-only mirrors that are searched before the network is used.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    mirrors: Vec<PathBuf>,
}

impl Store {
    /// Creates a store in `root`; each mirror is a directory of files named by their SHA-256.
    #[must_use]
    pub fn new(root: PathBuf, mirrors: Vec<PathBuf>) -> Self {
        Self { root, mirrors }
    }

    /// Returns its directory: files are in `sha256/`, named by their digest.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of the content `digest`, whether it is stored or not.
    #[must_use]
    pub fn path(&self, digest: &Sha256) -> PathBuf {
        self.root.join("sha256").join(digest.to_string())
    }

    /// Whether the file of that digest is here or in a mirror, whose bytes are only checked when it is copied.
    #[must_use]
    pub fn has(&self, digest: &Sha256) -> bool {
        let mut mirrors = self.mirrors.iter();
        self.path(digest).is_file() || mirrors.any(|mirror| mirror.join(digest.to_string()).is_file())
    }

    /// Returns the stored file of that digest; copies it from a mirror if necessary. Its modification time becomes that of this use, for
    /// `cache prune`.
    ///
    /// # Errors
    /// [`Class::Verification`] when a mirror's file does not match its name.
    pub fn find(&self, digest: &Sha256) -> Result<Option<PathBuf>> {
        let path = self.path(digest);
        if path.is_file() {
            // Another user's store may be read-only: only the time of use is lost.
            let _ = std::fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
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

    /// Copies `file` into the store after checking its digest.
    ///
    /// # Errors
    /// [`Class::Verification`] on a digest mismatch; nothing is stored then.
    pub fn insert(&self, file: &Path, expected: &Sha256) -> Result<PathBuf> {
        let found = Sha256::of_file(file)?;
        if found != *expected {
            let size = std::fs::metadata(file).map_or(0, |m| m.len());
            return Err(Error::new(Class::Verification, "digest mismatch for pinned file")
                .file(file)
                .why(format!("got      sha256:{found} ({size} bytes)\nexpected sha256:{expected}"))
                .hint("the file is truncated or altered; remove it and fetch it again, or change the pin if upstream replaced the file"));
        }
        let path = self.path(expected);
        let dir = self.root.join("sha256");
        fs_err::create_dir_all(&dir)?;
        let part = tempfile::Builder::new().prefix(".part-").tempfile_in(&dir)?;
        fs_err::copy(file, part.path())?;
        // Readable whatever the mode of the source: other users may share this store.
        fs_err::set_permissions(part.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        part.as_file().sync_all().map_err(|e| Error::io("cannot sync file", &path, &e))?;
        part.persist(&path).map_err(|e| Error::io("cannot rename file", &path, &e.error))?;
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
    fn copies_a_file_from_a_mirror() {
        let mirror = tempfile::tempdir().unwrap();
        let digest = Sha256::of("kernel");
        let file = mirror.path().join(digest.to_string());
        std::fs::write(&file, "kernel").unwrap();
        crate::atomic::set_mode(&file, 0o600).unwrap();
        let (_dir, store) = store(vec![mirror.path().to_owned()]);
        assert!(store.has(&digest) && !store.path(&digest).exists() && !store.has(&Sha256::of("other")));
        let path = store.find(&digest).unwrap().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"kernel");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(store.find(&Sha256::of("other")).unwrap().is_none());
    }

    #[test]
    fn finding_a_file_records_its_use() {
        let (dir, store) = store(Vec::new());
        let file = dir.path().join("file");
        std::fs::write(&file, "kernel").unwrap();
        let digest = Sha256::of("kernel");
        let path = store.insert(&file, &digest).unwrap();
        let old = SystemTime::UNIX_EPOCH;
        std::fs::File::open(&path).unwrap().set_modified(old).unwrap();
        store.find(&Sha256::of("other")).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), old);
        store.find(&digest).unwrap();
        assert!(std::fs::metadata(&path).unwrap().modified().unwrap() > old);
    }

    #[test]
    fn rejects_a_truncated_file_and_stores_nothing() {
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
