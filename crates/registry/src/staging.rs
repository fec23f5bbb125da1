//! Staging directory of a pull: blobs get their names when complete and verified; partial blobs survive an interrupted pull.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use common::digest::Hasher;
use common::{Class, Error, Result, Sha256, atomic};
use oci::types::{self, Descriptor, Named as _};

use crate::download::Target;

/// Directories of a layout, parents first.
const DIRS: [&str; 3] = ["", "blobs", "blobs/sha256"];

/// The directory. No other user can write in it, so a checked path cannot change before it is opened.
#[derive(Debug)]
pub(crate) struct StagingDir {
    root: PathBuf,
}

impl StagingDir {
    /// Creates the directory or continues with an existing one. Removes one of ours that other users could have written to.
    ///
    /// # Errors
    /// [`Class::BadInput`] if the path is not a directory or belongs to another user.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let not_ours = || {
            Error::new(Class::BadInput, "cannot use the staging directory")
                .file(root)
                .why("the path is not a directory, or belongs to another user")
                .hint("remove it, or pull to another directory")
        };
        if let Some(parent) = root.parent() {
            fs_err::create_dir_all(parent)?;
        }
        if !make_dir(root)? {
            let uid = own_uid(root)?;
            if !is_dir_of(root, uid) {
                return Err(not_ours());
            }
            if !DIRS.iter().all(|dir| is_private(&root.join(dir), uid)) {
                atomic::remove_dir(root)?;
                if !make_dir(root)? {
                    return Err(not_ours());
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

    /// Whether the blob is complete.
    pub(crate) fn has(&self, blob: &Descriptor) -> Result<bool> {
        let path = self.blob(blob.sha256()?);
        let size = match path.symlink_metadata() {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => return Err(Error::new(Class::BadInput, "not a regular file in the staging directory").file(path)),
            Err(_) => return Ok(false),
        };
        Ok(size == blob.size() && blob.is(Sha256::of_file(&path)?))
    }

    /// Stores a document. The whole directory is synced at the end.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<()> {
        write(&self.blob(Sha256::of(bytes)), bytes)
    }

    /// Opens the partial blob and returns it with its length and hash state.
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

    /// Renames a complete partial blob to its digest.
    pub(crate) fn finish(&self, blob: &Descriptor) -> Result<()> {
        let path = self.blob(blob.sha256()?);
        Ok(fs_err::rename(path.with_extension("part"), path)?)
    }

    /// Writes `index.json` and `oci-layout`.
    pub(crate) fn index(&self, manifests: Vec<Descriptor>) -> Result<()> {
        write(&self.root.join("index.json"), &types::canonical(&types::index(manifests))?)?;
        write(&self.root.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    /// Removes the directory if it contains no files.
    pub(crate) fn remove_if_empty(&self) {
        for dir in DIRS.iter().rev() {
            // Fails for directories with files, which the next pull continues.
            let _ = std::fs::remove_dir(self.root.join(dir));
        }
    }

    /// Removes the blobs of earlier pulls that are not in `wanted`.
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

/// Creates a directory that only we can write to, whatever the umask; returns false if the path exists.
fn make_dir(path: &Path) -> Result<bool> {
    match std::fs::DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(Error::io("cannot create a directory", path, &e)),
    }
}

/// Returns our user ID on the file system of `path`: a file server may map it to another one.
fn own_uid(path: &Path) -> Result<u32> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(tempfile::tempfile_in(parent)?.metadata()?.uid())
}

/// Whether `path` is a directory (not a symlink) of the user `uid`.
fn is_dir_of(path: &Path, uid: u32) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == uid)
}

/// Whether `path` is missing or a directory that only the user `uid` can write to.
fn is_private(path: &Path, uid: u32) -> bool {
    match path.symlink_metadata() {
        Ok(metadata) => is_dir_of(path, uid) && metadata.mode() & 0o022 == 0,
        Err(e) => e.kind() == ErrorKind::NotFound,
    }
}

/// Replaces `path` with a new file. Does not follow symlinks.
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

/// A partial blob on disk.
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
