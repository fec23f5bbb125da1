//! A layout that is being fetched: blobs appear under their names only whole and verified, parts survive an interrupted pull.

use std::collections::BTreeSet;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use common::digest::Hasher;
use common::{Class, Error, Result, Sha256};
use images::types::{self, Descriptor, Index};

use crate::download::Target;

/// The directory.
#[derive(Debug)]
pub(crate) struct Stage {
    root: PathBuf,
}

impl Stage {
    /// Makes the directory, or goes on with what is there.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        fs_err::create_dir_all(root.join("blobs/sha256"))?;
        Ok(Self { root: root.to_owned() })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blob(&self, digest: Sha256) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.to_string())
    }

    /// Whether the blob is there, whole.
    pub(crate) fn has(&self, blob: &Descriptor) -> Result<bool> {
        let path = self.blob(blob.digest.0);
        let size = match path.symlink_metadata() {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => return Err(Error::new(Class::BadInput, "this is no file of ours").file(path)),
            Err(_) => return Ok(false),
        };
        Ok(size == blob.size && Sha256::of_file(&path)? == blob.digest.0)
    }

    /// Stores a document. It is put on the disk with the whole directory, at the end.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<()> {
        Ok(fs_err::write(self.blob(Sha256::of(bytes)), bytes)?)
    }

    /// Opens what is there of a blob, with its length and state of hash.
    pub(crate) fn part(&self, blob: &Descriptor) -> Result<(PartFile, u64, Hasher)> {
        let path = self.blob(blob.digest.0).with_extension("part");
        let mut file = fs_err::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let (mut hasher, mut at) = (Hasher::default(), 0);
        if file.metadata()?.len() > blob.size {
            file.set_len(0)?;
        }
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = std::io::Read::read(&mut file, &mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            at += read as u64;
        }
        Ok((PartFile { file }, at, hasher))
    }

    /// Gives a whole part its name.
    pub(crate) fn finish(&self, blob: &Descriptor) -> Result<()> {
        let path = self.blob(blob.digest.0);
        Ok(fs_err::rename(path.with_extension("part"), path)?)
    }

    /// Writes index and marker: from now on it is a layout.
    pub(crate) fn index(&self, manifests: Vec<Descriptor>) -> Result<()> {
        let index = Index { schema_version: 2, media_type: Some(types::INDEX.to_owned()), manifests };
        fs_err::write(self.root.join("index.json"), types::canonical(&index)?)?;
        Ok(fs_err::write(self.root.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?)
    }

    /// Removes the directory where nothing has come yet.
    pub(crate) fn remove_if_empty(&self) {
        for dir in ["blobs/sha256", "blobs", ""] {
            // What is not empty stays: the next pull goes on with it.
            let _ = std::fs::remove_dir(self.root.join(dir));
        }
    }

    /// Removes what earlier pulls left and this one does not need.
    pub(crate) fn keep_only(&self, wanted: &BTreeSet<Sha256>) -> Result<()> {
        for entry in fs_err::read_dir(self.root.join("blobs/sha256"))? {
            let entry = entry?;
            let name: Option<Sha256> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !name.is_some_and(|digest| wanted.contains(&digest)) {
                fs_err::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// A part of a blob on the disk.
pub(crate) struct PartFile {
    file: fs_err::File,
}

impl Target for PartFile {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.file.write_all(bytes)?)
    }

    fn restart(&mut self) -> Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        Ok(())
    }
}
