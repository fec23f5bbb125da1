//! An image with its artifacts from a registry into a layout, put in place when it is whole. What an interrupted pull brought is kept beside
//! the destination and used by the next one. A lock beside it makes pulls to one destination come one after another.

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
use crate::stage::Stage;

/// What a pull brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Digest of the image or index.
    pub digest: Sha256,
    /// How many signatures, attestations and bills of materials came along.
    pub artifacts: usize,
    /// Bytes of configurations, layers and artifacts.
    pub bytes: u64,
}

/// Pulls `reference` into a new layout at `out`, replacing a layout that is there.
///
/// # Errors
/// [`common::Class::BadInput`] when the registry has no such image, its documents cannot be used, `out` is something else than a layout, or somebody
/// else made what stands beside it for an unfinished pull;
/// [`common::Class::Verification`] when a document or blob is not what its name says; [`common::Class::Infrastructure`] otherwise. `out` is then as it was.
pub fn pull(client: &Client<'_>, sink: &dyn Sink, reference: &Reference, out: &Path) -> Result<Pulled> {
    let _lock = Lock::take(out, sink)?;
    check_replaceable(out)?;
    let repository = Repository::of(reference);
    let wanted = fetch::wanted(reference)?;
    let label = format!("pull {reference}");
    let began = client.options.clock.now();
    sink.emit(&Event::StageStarted { stage: &label });
    let beside = atomic::beside(out, "pull");
    let stage = Stage::open(&beside)?;
    let access = Access { repository: &repository, push: false, from: None };
    let fetch = Fetch { client, access, stage: &stage, sink, label: &label, keep_layers: true };
    let fetched = fetch.run(&wanted, &[signed_name(reference)]).inspect_err(|_| stage.remove_if_empty())?;
    stage.keep_only(&fetched.all)?;
    atomic::replace_dir(&beside, out)?;
    let took = client.options.clock.now().saturating_sub(began);
    sink.emit(&Event::StageFinished { stage: &label, cached: false, took });
    Ok(Pulled { digest: fetched.root.sha256()?, artifacts: fetched.artifacts.len(), bytes: fetched.bytes })
}

/// The name with its tag, which is what signatures hold; a digest beside it says only which image is meant.
fn signed_name(reference: &Reference) -> String {
    match reference.tag() {
        Some(tag) => format!("{}/{}:{tag}", reference.registry(), reference.repository()),
        None => reference.to_string(),
    }
}

/// What only one pull to a destination has.
struct Lock {
    path: PathBuf,
    /// Its end is the lock's.
    _file: File,
}

impl Lock {
    /// Waits until no other pull writes to `out`.
    fn take(out: &Path, sink: &dyn Sink) -> Result<Self> {
        let path = atomic::beside(out, "pull.lock");
        let io = |e: &std::io::Error| Error::io("cannot lock the destination of a pull", &path, e);
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent)?;
        }
        loop {
            let Some(file) = open_lock(&path).map_err(|e| io(&e))? else { continue };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let message = format!("another pull to {} is under way; waiting for its end", out.display());
                    sink.emit(&Event::Note { message: &message });
                    file.lock().map_err(|e| io(&e))?;
                }
                Err(TryLockError::Error(e)) if has_no_locks(&e) => {
                    let message = "this file system has no locks: see that no other pull writes to the same place";
                    sink.emit(&Event::Warning { message });
                }
                Err(TryLockError::Error(e)) => return Err(io(&e)),
            }
            // Whoever had it has removed it at its end; the name may stand for a newer one.
            let ours = file.metadata().map_err(|e| io(&e))?;
            if path.symlink_metadata().is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the lock itself ends. One that an interrupt leaves does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Opens the file, or makes it; none where it went away in between.
fn open_lock(path: &Path) -> std::io::Result<Option<File>> {
    use std::io::ErrorKind::{AlreadyExists, NotFound};
    match OpenOptions::new().write(true).create_new(true).mode(0o644).open(path) {
        Err(e) if e.kind() == AlreadyExists => {}
        made => return made.map(Some),
    }
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(std::io::Error::new(AlreadyExists, "what has this name is no file")),
        Err(e) if e.kind() == NotFound => return Ok(None),
        Err(e) => return Err(e),
    }
    // A lock needs no leave to write, which another user's file may not give.
    match File::open(path) {
        Err(e) if e.kind() == NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// NFS without its lock daemon, and cluster file systems that are mounted without.
fn has_no_locks(e: &std::io::Error) -> bool {
    /// What Linux calls `ENOLCK`.
    const NO_LOCKS: i32 = 37;
    e.kind() == std::io::ErrorKind::Unsupported || e.raw_os_error() == Some(NO_LOCKS)
}
