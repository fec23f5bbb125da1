//! Stages: a stage's key is the hash of everything it reads, and a stage whose key is known is not run again.
//!
//! A stage works in `<root>/unfinished/<stage>-<key>` and is renamed to `<root>/stages/<stage>-<key>` when it is done, so a killed build leaves
//! nothing half-written under a final name, and the next run goes on from the last finished stage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::atomic;
use crate::digest::{Hasher, Sha256};
use crate::error::{Error, Result};
use crate::event::{Event, Sink};

/// File in a finished stage that holds its fingerprint.
const FINGERPRINT: &str = "fingerprint.json";

/// File in a finished stage that says how long it took when it ran, in seconds.
const SECONDS: &str = "seconds";

/// Everything a stage reads, by name.
#[derive(Clone, Debug, Serialize)]
pub struct Fingerprint {
    stage: &'static str,
    inputs: BTreeMap<String, String>,
}

impl Fingerprint {
    /// Of the stage called `stage`.
    #[must_use]
    pub fn new(stage: &'static str) -> Self {
        Self { stage, inputs: BTreeMap::new() }
    }

    /// Adds an input that is short enough to stand for itself, such as a version or another stage's key.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.inputs.insert(name.to_owned(), value.into());
        self
    }

    /// Adds every file below `dir` (paths, modes' execute bits and bytes).
    ///
    /// # Errors
    /// [`crate::Class::Infrastructure`] when a file cannot be read.
    pub fn with_tree(self, name: &str, dir: &Path) -> Result<Self> {
        Ok(self.with(name, hash_tree(dir)?.to_string()))
    }

    /// The key: SHA-256 of the canonical JSON.
    #[must_use]
    pub fn key(&self) -> Sha256 {
        Sha256::of(self.json())
    }

    /// Name of the stage.
    #[must_use]
    pub fn stage(&self) -> &'static str {
        self.stage
    }

    fn json(&self) -> String {
        // Serialising strings in a sorted map cannot fail; an empty text would only cost a cache hit.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn directory_name(&self) -> String {
        format!("{}-{}", self.stage, &self.key().to_string()[..16])
    }
}

/// Digest of a directory's files by relative path, execute bit and content; symlinks by target. A missing directory counts as empty.
///
/// # Errors
/// [`crate::Class::Infrastructure`] when something cannot be read.
pub fn hash_tree(dir: &Path) -> Result<Sha256> {
    let mut files = BTreeMap::new();
    collect(dir, dir, &mut files)?;
    let mut hasher = Hasher::default();
    for (path, line) in files {
        hasher.update(format!("{path}\0{line}\n").as_bytes());
    }
    Ok(hasher.finish().0)
}

fn collect(root: &Path, dir: &Path, files: &mut BTreeMap<String, String>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| Error::io("cannot list a directory", dir, &e))?,
    };
    for entry in entries {
        let path = entry.map_err(|e| Error::io("cannot list a directory", dir, &e))?.path();
        let meta = path.symlink_metadata().map_err(|e| Error::io("cannot look at a file", &path, &e))?;
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if meta.is_dir() {
            // A member's build outputs are no inputs.
            if entry_is_ignored(&path) {
                continue;
            }
            collect(root, &path, files)?;
        } else if meta.is_symlink() {
            let target = std::fs::read_link(&path).map_err(|e| Error::io("cannot read a link", &path, &e))?;
            files.insert(name, format!("-> {}", target.display()));
        } else {
            let exec = meta.permissions().mode() & 0o111 != 0;
            files.insert(name, format!("{exec} {}", Sha256::of_file(&path)?));
        }
    }
    Ok(())
}

fn entry_is_ignored(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "target")
}

/// A finished stage.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The stage's directory; read-only by agreement.
    pub dir: PathBuf,
    /// The stage's key, to be an input of later stages.
    pub key: Sha256,
    /// Name of the stage.
    pub stage: &'static str,
    /// Whether it was found done.
    pub cached: bool,
    /// Time it took in this run.
    pub took: Duration,
}

/// What happens to a directory that an interrupted run left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// Start again from an empty directory.
    Discard,
    /// Go on in it: make knows what is done.
    Resume,
}

/// The directory of finished stages.
#[derive(Clone, Copy)]
pub struct Cache<'a> {
    root: &'a Path,
    sink: &'a dyn Sink,
}

impl std::fmt::Debug for Cache<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("root", &self.root).finish_non_exhaustive()
    }
}

impl<'a> Cache<'a> {
    /// Stages below `root`, telling `sink` what they do.
    #[must_use]
    pub fn new(root: &'a Path, sink: &'a dyn Sink) -> Self {
        Self { root, sink }
    }

    /// Where events go.
    #[must_use]
    pub fn sink(&self) -> &'a dyn Sink {
        self.sink
    }

    /// The finished stage of that fingerprint, if it is there.
    #[must_use]
    pub fn find(&self, fingerprint: &Fingerprint) -> Option<Finished> {
        let dir = self.root.join("stages").join(fingerprint.directory_name());
        let known = std::fs::read_to_string(dir.join(FINGERPRINT)).is_ok_and(|text| text == fingerprint.json());
        known.then(|| Finished {
            dir,
            key: fingerprint.key(),
            stage: fingerprint.stage,
            cached: true,
            took: Duration::ZERO,
        })
    }

    /// Gives the stage's directory, running `work` in a fresh one (or the one an interrupted run left) if its key is not known yet.
    /// Two runs of one stage wait for each other.
    ///
    /// # Errors
    /// What `work` reports, or [`crate::Class::Infrastructure`].
    pub fn run(
        &self,
        fingerprint: &Fingerprint,
        leftover: Leftover,
        work: impl FnOnce(&Path, &mut dyn FnMut(&str)) -> Result<()>,
    ) -> Result<Finished> {
        let stage = fingerprint.stage;
        let name = fingerprint.directory_name();
        let dir = self.root.join("unfinished").join(&name);
        std::fs::create_dir_all(&dir).map_err(|e| Error::io("cannot make a stage's directory", &dir, &e))?;
        let _lock = lock(&self.root.join("unfinished").join(format!("{name}.lock")))?;
        if let Some(finished) = self.find(fingerprint) {
            let _ = std::fs::remove_dir(&dir);
            self.sink.emit(&Event::StageFinished { stage, cached: true, took: Duration::ZERO });
            return Ok(finished);
        }
        if leftover == Leftover::Discard {
            atomic::empty_dir(&dir)?;
        } else {
            std::fs::create_dir_all(&dir).map_err(|e| Error::io("cannot make a stage's directory", &dir, &e))?;
        }
        let start = Instant::now();
        self.sink.emit(&Event::StageStarted { stage });
        work(&dir, &mut |line| self.sink.emit(&Event::Output { stage, line }))?;
        let took = start.elapsed();
        atomic::write(&dir.join(SECONDS), format!("{:.3}\n", took.as_secs_f64()))?;
        atomic::write(&dir.join(FINGERPRINT), fingerprint.json())?;
        let done = self.root.join("stages").join(&name);
        atomic::replace_dir(&dir, &done)?;
        self.sink.emit(&Event::StageFinished { stage, cached: false, took });
        Ok(Finished { dir: done, key: fingerprint.key(), stage, cached: false, took })
    }
}

/// Takes an exclusive lock that the kernel drops when this process ends, however it ends.
fn lock(path: &Path) -> Result<std::fs::File> {
    let file = std::fs::File::create(path).map_err(|e| Error::io("cannot make a lock file", path, &e))?;
    file.lock().map_err(|e| Error::io("cannot take a lock", path, &e))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;
    use crate::event::Silent;

    fn run(root: &Path, input: &str, leftover: Leftover, work: impl FnOnce(&Path) -> Result<()>) -> Result<Finished> {
        Cache::new(root, &Silent).run(&Fingerprint::new("demo").with("input", input), leftover, |dir, _| work(dir))
    }

    #[test]
    fn a_known_key_is_not_run_again() {
        let root = tempfile::tempdir().unwrap();
        let first = run(root.path(), "a", Leftover::Discard, |dir| atomic::write(&dir.join("out"), "1")).unwrap();
        let again = run(root.path(), "a", Leftover::Discard, |_| panic!("ran again")).unwrap();
        assert!(!first.cached && again.cached && first.dir == again.dir);
        assert_eq!(std::fs::read_to_string(again.dir.join("out")).unwrap(), "1");
        let other = run(root.path(), "b", Leftover::Discard, |_| Ok(())).unwrap();
        assert!(!other.cached && other.key != first.key);
    }

    #[test]
    fn a_failed_stage_leaves_nothing_final_and_can_go_on() {
        let root = tempfile::tempdir().unwrap();
        let fail = |dir: &Path| {
            atomic::write(&dir.join("half"), "x")?;
            Err(Error::new(Class::BuildFailed, "no"))
        };
        assert!(run(root.path(), "a", Leftover::Resume, fail).is_err());
        assert!(!root.path().join("stages").exists());
        run(root.path(), "a", Leftover::Resume, |dir| {
            assert!(dir.join("half").exists());
            Ok(())
        })
        .unwrap();
        assert!(run(root.path(), "b", Leftover::Discard, fail).is_err());
        run(root.path(), "b", Leftover::Discard, |dir| {
            assert!(!dir.join("half").exists());
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_trees_hash_sees_names_bytes_and_the_execute_bit() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sub/a");
        atomic::write(&file, "1").unwrap();
        let mut seen = vec![hash_tree(dir.path()).unwrap()];
        atomic::write(&file, "2").unwrap();
        seen.push(hash_tree(dir.path()).unwrap());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        seen.push(hash_tree(dir.path()).unwrap());
        std::fs::rename(&file, dir.path().join("sub/b")).unwrap();
        seen.push(hash_tree(dir.path()).unwrap());
        let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), 4);
    }
}
