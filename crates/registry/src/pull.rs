//! Pulls an image with its artifacts into a layout. The staging directory next to the destination survives an interrupted pull and replaces the
//! destination at the end. A lock file next to it serializes pulls to the same destination.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use common::event::{Event, Sink};
use common::{Error, Result, Sha256, atomic};
use oci::Reference;
use oci::types::Named as _;
use oci::writer::check_replaceable;

use crate::client::{Access, Client, Repository};
use crate::fetch::{self, Fetch};
use crate::staging::StagingDir;

/// Result of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Digest of the image or index.
    pub digest: Sha256,
    /// Number of signatures, attestations and SBOMs.
    pub artifacts: usize,
    /// Size of configs, layers and artifacts.
    pub bytes: u64,
}

/// Pulls `reference` into a new layout at `out`, replacing an existing layout.
///
/// # Errors
/// [`common::Class::BadInput`] if the registry has no such image, `out` is not a layout, or another user owns the staging directory;
/// [`common::Class::UntrustedData`] for malformed documents; [`common::Class::Verification`] for a digest mismatch;
/// [`common::Class::Infrastructure`] otherwise. `out` is unchanged on error.
pub fn pull(client: &Client<'_>, sink: &dyn Sink, reference: &Reference, out: &Path) -> Result<Pulled> {
    let _lock = Lock::take(out, sink)?;
    check_replaceable(out)?;
    let repository = Repository::of(reference);
    let wanted = fetch::tag_or_digest(reference)?;
    let label = format!("pull {reference}");
    let began = client.options.clock.now();
    sink.emit(&Event::StageStarted { stage: &label });
    let staging = atomic::sibling(out, "pull");
    let stage = StagingDir::open(&staging)?;
    let access = Access { repository: &repository, push: false, from: None };
    let fetch = Fetch { client, access, stage: &stage, sink, label: &label, keep_layers: true };
    let fetched = fetch.run(&wanted, &[signed_name(reference)]).inspect_err(|_| stage.remove_if_empty())?;
    stage.keep_only(&fetched.all)?;
    atomic::replace_dir(&staging, out)?;
    let took = client.options.clock.now().saturating_sub(began);
    sink.emit(&Event::StageFinished { stage: &label, cached: false, took });
    Ok(Pulled { digest: fetched.root.sha256()?, artifacts: fetched.artifacts.len(), bytes: fetched.bytes })
}

/// Returns the name in signatures: with the tag, without the digest.
fn signed_name(reference: &Reference) -> String {
    match reference.tag() {
        Some(tag) => format!("{}/{}:{tag}", reference.registry(), reference.repository()),
        None => reference.to_string(),
    }
}

/// Lock file of a destination.
struct Lock {
    path: PathBuf,
    /// Closing it releases the lock.
    _file: File,
}

impl Lock {
    /// Waits for other pulls to `out`.
    fn take(out: &Path, sink: &dyn Sink) -> Result<Self> {
        let path = atomic::sibling(out, "pull.lock");
        let io = |e: &std::io::Error| Error::io("cannot lock the destination of a pull", &path, e);
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent)?;
        }
        loop {
            let Some(file) = open_lock(&path).map_err(|e| io(&e))? else { continue };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let message = format!("another pull to {} is running; waiting for it", out.display());
                    sink.emit(&Event::Remark { message: &message });
                    file.lock().map_err(|e| io(&e))?;
                }
                Err(TryLockError::Error(e)) if has_no_locks(&e) => {
                    let message = "this file system does not support locks: make sure that no other pull writes to the same destination";
                    sink.emit(&Event::Warning { message });
                }
                Err(TryLockError::Error(e)) => return Err(io(&e)),
            }
            // The previous holder has removed its file; another pull may have created a new one.
            let ours = file.metadata().map_err(|e| io(&e))?;
            if path.symlink_metadata().is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the lock is released. A file left by an interrupted pull is harmless.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Opens or creates the file; `None` if it was removed in between.
fn open_lock(path: &Path) -> std::io::Result<Option<File>> {
    use std::io::ErrorKind::{AlreadyExists, NotFound};
    match OpenOptions::new().write(true).create_new(true).mode(0o644).open(path) {
        Err(e) if e.kind() == AlreadyExists => {}
        made => return made.map(Some),
    }
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(std::io::Error::new(AlreadyExists, "the path is not a regular file")),
        Err(e) if e.kind() == NotFound => return Ok(None),
        Err(e) => return Err(e),
    }
    // Read-only: another user's file may not be writable, and a lock does not need it.
    match File::open(path) {
        Err(e) if e.kind() == NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// True for NFS without its lock daemon, and cluster file systems mounted without locks.
fn has_no_locks(e: &std::io::Error) -> bool {
    const ENOLCK: i32 = 37;
    e.kind() == std::io::ErrorKind::Unsupported || e.raw_os_error() == Some(ENOLCK)
}
