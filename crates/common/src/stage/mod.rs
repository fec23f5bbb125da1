//! Stages: cached build steps. A stage's key is the hash of everything it reads; a stage with a known key is not run again.
//!
//! The work of a stage is a function that captures nothing: it reads [`Input`]s, and an input is a value together with its entry in the key,
//! so no input can be missing from the key. If our own code produces the output, the digest of its sources is an entry too ([`Stage::ours`]).
//!
//! A stage works in `<root>/unfinished/<stage>-<key>` and is renamed to `<root>/stages/<stage>-<key>` when it is done, so a killed build leaves
//! no incomplete result, and the next run continues after the last finished stage.

mod cached;
mod input;
mod look;
mod sources;
mod tree;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::atomic;
use crate::digest::Sha256;
use crate::error::{Error, Result};
use crate::event::{Event, Sink};
use crate::sandbox::{Failed, Run, Sandbox};

pub use cached::{Cached, lock_file};
pub use input::{Input, Inputs};
pub use look::Look;
pub use sources::Sources;
pub use tree::hash_tree;

/// File in a finished stage that holds its fingerprint.
const FINGERPRINT: &str = "fingerprint.json";

/// File in a finished stage with its run time in seconds.
const SECONDS: &str = "seconds";

/// Number of key digits in the name of a stage's directory.
const DIGITS: usize = 16;

/// A kind of stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    name: &'static str,
    /// Our crate whose code produces the output.
    maker: Option<&'static str>,
    resumes: bool,
}

impl Stage {
    /// A stage whose output is produced by programs of the toolchain. Their command lines are inputs; our own code only starts them.
    #[must_use]
    pub const fn recipe(name: &'static str) -> Self {
        Self { name, maker: None, resumes: false }
    }

    /// A stage whose output is produced by code of the package `maker` and its dependencies: a change of their sources runs it again.
    #[must_use]
    pub const fn ours(name: &'static str, maker: &'static str) -> Self {
        Self { name, maker: Some(maker), resumes: false }
    }

    /// Continues in the directory of an interrupted run, as make can. Other stages start in an empty one.
    #[must_use]
    pub const fn resuming(self) -> Self {
        Self { resumes: true, ..self }
    }

    /// Returns its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the package whose code makes the output, if ours does.
    #[must_use]
    pub const fn maker(&self) -> Option<&'static str> {
        self.maker
    }

    /// Returns whether the cache directory `name` belongs to this stage.
    #[must_use]
    pub fn owns(&self, name: &str) -> bool {
        let key = name.strip_prefix(self.name).and_then(|rest| rest.strip_prefix('-'));
        key.is_some_and(|key| key.len() == DIGITS && key.bytes().all(|digit| digit.is_ascii_hexdigit()))
    }
}

/// Everything a stage reads, by name.
#[derive(Clone, Debug, Serialize)]
struct Fingerprint {
    stage: &'static str,
    inputs: BTreeMap<String, String>,
}

impl Fingerprint {
    /// Adds an entry; a repeated name gets a suffix.
    fn add(&mut self, name: &str, text: &str) {
        let mut name = name.to_owned();
        while self.inputs.contains_key(&name) {
            name.push('+');
        }
        self.inputs.insert(name, text.to_owned());
    }

    /// Returns the key: the SHA-256 of the canonical JSON.
    fn key(&self) -> Sha256 {
        Sha256::of(self.json())
    }

    fn json(&self) -> String {
        // Serialising a map of strings cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn directory_name(&self) -> String {
        format!("{}-{}", self.stage, &self.key().to_string()[..DIGITS])
    }
}

/// A finished stage.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The stage's directory; read-only by convention.
    pub dir: PathBuf,
    /// The stage's key, an input of later stages.
    pub key: Sha256,
    /// Name of the stage.
    pub stage: &'static str,
    /// Whether it was a cache hit.
    pub cached: bool,
    /// Run time; zero for a cache hit.
    pub took: Duration,
}

/// The environment of a stage's function, besides its inputs.
pub struct Work<'w> {
    dir: &'w Path,
    lines: &'w mut dyn FnMut(&str),
}

impl fmt::Debug for Work<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl<'w> Work<'w> {
    /// Returns the directory that becomes the stage's result.
    #[must_use]
    pub fn dir(&self) -> &'w Path {
        self.dir
    }

    /// Creates an empty directory in [`Work::dir`].
    pub fn empty_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        atomic::empty_dir(&dir)?;
        Ok(dir)
    }

    /// Returns the receiver for output lines of the stage's programs.
    pub fn lines(&mut self) -> &mut dyn FnMut(&str) {
        self.lines
    }

    /// Runs a program of the toolchain; see [`Sandbox::run`].
    pub fn run(&mut self, sandbox: &Sandbox, run: &Run) -> Result<()> {
        sandbox.run(run, self.lines)
    }

    /// As [`Work::run`]; the inner error is that the program failed.
    pub fn try_run(&mut self, sandbox: &Sandbox, run: &Run) -> Result<Result<(), Failed>> {
        sandbox.try_run(run, self.lines)
    }
}

/// The cache of finished stages.
#[derive(Clone, Copy)]
pub struct Cache<'a> {
    root: &'a Path,
    sink: &'a dyn Sink,
    sources: Sources,
    look: Option<&'a Look>,
}

impl fmt::Debug for Cache<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("root", &self.root).finish_non_exhaustive()
    }
}

impl<'a> Cache<'a> {
    /// Creates a cache in `root`; events go to `sink`; `sources` are the digests of our own code.
    #[must_use]
    pub fn new(root: &'a Path, sink: &'a dyn Sink, sources: Sources) -> Self {
        Self { root, sink, sources, look: None }
    }

    /// Looks stages up instead of running them: one that is not cached is an error, and noted in `look`.
    #[must_use]
    pub fn looking(self, look: &'a Look) -> Self {
        Self { look: Some(look), ..self }
    }

    /// Returns the root directory, for files that save time and never reach an output, such as objects of earlier compiles.
    #[must_use]
    pub fn root(&self) -> &'a Path {
        self.root
    }

    /// Returns the receiver of events.
    #[must_use]
    pub fn sink(&self) -> &'a dyn Sink {
        self.sink
    }

    /// Returns the finished stage with those inputs, if it is cached.
    pub fn find(&self, stage: Stage, inputs: &impl Inputs) -> Result<Option<Finished>> {
        Ok(self.look_up(&self.fingerprint(stage, inputs)?))
    }

    /// Returns whether [`Cache::run`] would run the stage, for inputs that are only fetched then.
    ///
    /// # Errors
    /// If it would, and this cache only looks stages up.
    pub fn would_run(&self, stage: Stage, inputs: &impl Inputs) -> Result<bool> {
        let found = self.find(stage, inputs)?;
        match self.look {
            Some(look) => look.note(stage.name, found).map(|_| false),
            None => Ok(found.is_none()),
        }
    }

    /// Returns the key of `stage` with those inputs.
    pub fn key(&self, stage: Stage, inputs: &impl Inputs) -> Result<Sha256> {
        Ok(self.fingerprint(stage, inputs)?.key())
    }

    fn fingerprint(&self, stage: Stage, inputs: &impl Inputs) -> Result<Fingerprint> {
        let mut fingerprint = Fingerprint { stage: stage.name, inputs: BTreeMap::new() };
        inputs.enter(&mut |name, text| fingerprint.add(name, text));
        if let Some(maker) = stage.maker {
            fingerprint.add("sources", self.sources.of(maker)?);
        }
        Ok(fingerprint)
    }

    fn look_up(&self, fingerprint: &Fingerprint) -> Option<Finished> {
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

    /// Returns the finished stage; runs `work` if it is not cached. Concurrent runs of one stage wait for each other.
    ///
    /// `work` cannot capture anything, so it can only read its inputs:
    ///
    /// ```compile_fail,E0308
    /// # use common::{event::Silent, stage::{Cache, Input, Sources, Stage}};
    /// let (dir, path) = (std::env::temp_dir(), std::path::PathBuf::from("/etc/hostname"));
    /// let cache = Cache::new(&dir, &Silent, Sources::new(""));
    /// let file = Input::file("file", &path).unwrap();
    /// cache.run(Stage::recipe("demo"), file, |work, _| common::atomic::write(&work.dir().join("out"), std::fs::read(&path)?));
    /// ```
    ///
    /// Through its input it can:
    ///
    /// ```no_run
    /// # use common::{event::Silent, stage::{Cache, Input, Sources, Stage}};
    /// let (dir, path) = (std::env::temp_dir(), std::path::PathBuf::from("/etc/hostname"));
    /// let cache = Cache::new(&dir, &Silent, Sources::new(""));
    /// let file = Input::file("file", &path).unwrap();
    /// cache.run(Stage::recipe("demo"), file, |work, file| common::atomic::write(&work.dir().join("out"), std::fs::read(&*file)?));
    /// ```
    pub fn run<I: Inputs>(
        &self,
        stage: Stage,
        inputs: I,
        work: fn(&mut Work<'_>, I) -> Result<()>,
    ) -> Result<Finished> {
        let Ok(done) = self.execute(stage, inputs, |dir, inputs| work(dir, inputs).map(Ok::<(), Infallible>))?;
        Ok(done)
    }

    /// As [`Cache::run`] for a stage that may have to wait: if `work` returns an inner `Err`, the stage is not finished, and that is returned.
    ///
    /// # Errors
    /// What `work` reports, or [`crate::Class::Infrastructure`].
    pub fn try_run<I: Inputs, P>(
        &self,
        stage: Stage,
        inputs: I,
        work: fn(&mut Work<'_>, I) -> Result<std::result::Result<(), P>>,
    ) -> Result<std::result::Result<Finished, P>> {
        self.execute(stage, inputs, work)
    }

    fn execute<I: Inputs, P>(
        &self,
        stage: Stage,
        inputs: I,
        work: impl FnOnce(&mut Work<'_>, I) -> Result<std::result::Result<(), P>>,
    ) -> Result<std::result::Result<Finished, P>> {
        let fingerprint = self.fingerprint(stage, &inputs)?;
        let (stage, resumes) = (stage.name, stage.resumes);
        if let Some(look) = self.look {
            return look.note(stage, self.look_up(&fingerprint)).map(Ok);
        }
        let name = fingerprint.directory_name();
        let dir = self.root.join("unfinished").join(&name);
        fs_err::create_dir_all(&dir)?;
        let mut lines = |line: &str| self.sink.emit(&Event::Output { stage, line });
        let _lock = lock(&lock_file(self.root, &name), &mut lines)?;
        if let Some(finished) = self.look_up(&fingerprint) {
            let _ = std::fs::remove_dir(&dir);
            self.sink.emit(&Event::StageFinished { stage, cached: true, took: Duration::ZERO });
            return Ok(Ok(finished));
        }
        if resumes {
            fs_err::create_dir_all(&dir)?;
        } else {
            atomic::empty_dir(&dir)?;
        }
        let start = Instant::now();
        self.sink.emit(&Event::StageStarted { stage });
        if let Err(unfinished) = work(&mut Work { dir: &dir, lines: &mut lines }, inputs)? {
            return Ok(Err(unfinished));
        }
        let took = start.elapsed();
        atomic::write(&dir.join(SECONDS), format!("{:.3}\n", took.as_secs_f64()))?;
        atomic::write(&dir.join(FINGERPRINT), fingerprint.json())?;
        let done = self.root.join("stages").join(&name);
        atomic::replace_dir(&dir, &done)?;
        self.sink.emit(&Event::StageFinished { stage, cached: false, took });
        Ok(Ok(Finished { dir: done, key: fingerprint.key(), stage, cached: false, took }))
    }
}

/// Takes an exclusive lock, which the kernel releases when this process ends. Says so if it has to wait. Creating the file again sets its
/// modification time; see [`lock_file`].
fn lock(path: &Path, line: &mut dyn FnMut(&str)) -> Result<std::fs::File> {
    let file = fs_err::File::create(path)?.into_file();
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        line("waiting for another process that runs this stage");
    }
    file.lock().map_err(|e| Error::io("cannot take lock", path, &e))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
