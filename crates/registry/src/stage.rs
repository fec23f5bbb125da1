//! A layout that is being fetched: blobs appear under their names only whole and verified, parts survive an interrupted pull.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use common::digest::Hasher;
use common::{Class, Error, Result, Sha256, atomic};
use oci::types::{self, Descriptor, Named as _};

use crate::download::Target;

/// Directories of a layout, the outer before the inner.
const DIRS: [&str; 3] = ["", "blobs", "blobs/sha256"];

/// The directory. Nobody else can write in it, so that what is looked at is what is opened afterwards.
#[derive(Debug)]
pub(crate) struct Stage {
    root: PathBuf,
}

impl Stage {
    /// Makes the directory, or goes on with what is there. What is ours and could have been written by others is begun anew.
    ///
    /// # Errors
    /// [`Class::BadInput`] when somebody else has made what has this name, or it is no directory.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let foreign = || {
            Error::new(Class::BadInput, "cannot keep an unfinished image here")
                .file(root)
                .why("what has this name is no directory, or somebody else's")
                .hint("remove it, or write the image to another directory")
        };
        if let Some(parent) = root.parent() {
            fs_err::create_dir_all(parent)?;
        }
        if !make_dir(root)? {
            let us = uid_beside(root)?;
            if !is_dir_of(root, us) {
                return Err(foreign());
            }
            if !DIRS.iter().all(|dir| is_private(&root.join(dir), us)) {
                atomic::remove_dir(root)?;
                if !make_dir(root)? {
                    return Err(foreign());
                }
            }
        }
        for dir in &DIRS[1..] {
            make_dir(&root.join(dir))?;
        }
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
        let path = self.blob(blob.sha256()?);
        let size = match path.symlink_metadata() {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => return Err(Error::new(Class::BadInput, "this is no file of ours").file(path)),
            Err(_) => return Ok(false),
        };
        Ok(size == blob.size() && blob.is(Sha256::of_file(&path)?))
    }

    /// Stores a document. It is put on the disk with the whole directory, at the end.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<()> {
        write(&self.blob(Sha256::of(bytes)), bytes)
    }

    /// Opens what is there of a blob, with its length and state of hash.
    pub(crate) fn part(&self, blob: &Descriptor) -> Result<(PartFile, u64, Hasher)> {
        let path = self.blob(blob.sha256()?).with_extension("part");
        let there = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
        let mut file =
            if there { fs_err::OpenOptions::new().read(true).write(true).open(&path)? } else { fresh(&path)? };
        let (mut hasher, mut at) = (Hasher::default(), 0);
        if file.metadata()?.len() > blob.size() {
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
        let path = self.blob(blob.sha256()?);
        Ok(fs_err::rename(path.with_extension("part"), path)?)
    }

    /// Writes index and marker: from now on it is a layout.
    pub(crate) fn index(&self, manifests: Vec<Descriptor>) -> Result<()> {
        write(&self.root.join("index.json"), &types::canonical(&types::index(manifests))?)?;
        write(&self.root.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    /// Removes the directory where nothing has come yet.
    pub(crate) fn remove_if_empty(&self) {
        for dir in DIRS.iter().rev() {
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

/// Makes a directory that only we write in, whatever the umask is; false where the name is taken.
fn make_dir(path: &Path) -> Result<bool> {
    match std::fs::DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(Error::io("cannot make a directory", path, &e)),
    }
}

/// The user that files made beside `path` belong to: a file server may know us by another number than this machine does.
fn uid_beside(path: &Path) -> Result<u32> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(tempfile::tempfile_in(parent)?.metadata()?.uid())
}

/// Whether `path` is a directory, reached by no link, of the user `uid`.
fn is_dir_of(path: &Path, uid: u32) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == uid)
}

/// Whether `path` is a directory that only the user `uid` writes in, or is missing.
fn is_private(path: &Path, uid: u32) -> bool {
    match path.symlink_metadata() {
        Ok(metadata) => is_dir_of(path, uid) && metadata.mode() & 0o022 == 0,
        Err(e) => e.kind() == ErrorKind::NotFound,
    }
}

/// A new file in place of what has this name: a link is not followed.
fn fresh(path: &Path) -> Result<fs_err::File> {
    match fs_err::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    Ok(fs_err::OpenOptions::new().read(true).write(true).create_new(true).open(path)?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(fresh(path)?.write_all(bytes)?)
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
