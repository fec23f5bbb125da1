//! Reads a directory of inputs that others made, each as what it looks like, and reports what cannot be taken and why.
//!
//! `inputs/` has small ones of every kind that was once read wrongly, with the report that is expected; `./x corpus DIR` reads any others.

mod kinds;

use std::fmt::{self, Write as _};
use std::path::Path;

use common::Result;

/// How far an input could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Completely.
    Taken,
    /// In part; the reasons.
    Partly(Vec<String>),
    /// Not at all; the reason.
    Refused(String),
    /// It is of no known kind.
    Unknown,
    /// The parser panicked: an error of ours.
    Panicked,
}

/// One input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Path relative to the directory.
    pub path: String,
    /// What it was read as.
    pub kind: &'static str,
    /// Result.
    pub outcome: Outcome,
}

/// Reads everything in the directory `dir`, sorted by path. OCI layouts and extensions are one input each.
pub fn read(dir: &Path) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    walk(dir, "", &mut inputs)?;
    Ok(inputs)
}

fn walk(dir: &Path, prefix: &str, inputs: &mut Vec<Input>) -> Result<()> {
    let mut entries = fs_err::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs_err::DirEntry::file_name);
    for entry in entries {
        let (host, path) = (entry.path(), format!("{prefix}{}", entry.file_name().to_string_lossy()));
        match kinds::of(&host) {
            None if host.is_dir() => walk(&host, &format!("{path}/"), inputs)?,
            None => inputs.push(Input { path, kind: "unknown", outcome: Outcome::Unknown }),
            Some((kind, read)) => inputs.push(Input { path, kind, outcome: outcome(read, &host) }),
        }
    }
    Ok(())
}

fn outcome(read: kinds::Read, path: &Path) -> Outcome {
    match std::panic::catch_unwind(|| read(path)) {
        Ok(Ok(problems)) if problems.is_empty() => Outcome::Taken,
        Ok(Ok(problems)) => Outcome::Partly(problems),
        Ok(Err(error)) => Outcome::Refused(reason(&error, path)),
        Err(_) => Outcome::Panicked,
    }
}

/// The error in one line, without the paths of this machine.
fn reason(error: &common::Error, path: &Path) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("file: ") && !line.starts_with("hint: "));
    let line = lines.map(|line| line.trim_start_matches("why: ")).collect::<Vec<_>>().join(": ");
    line.replace(&path.display().to_string(), "…")
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Partly(_) => "partly",
            Self::Refused(_) => "refused",
            Self::Unknown => "unknown",
            Self::Panicked => "PANICKED",
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {} ({})", self.outcome.word(), self.path, self.kind)?;
        match &self.outcome {
            Outcome::Partly(reasons) => reasons.iter().try_for_each(|reason| write!(f, "\n         {reason}")),
            Outcome::Refused(reason) => write!(f, "\n         {reason}"),
            _ => Ok(()),
        }
    }
}

/// Formats `inputs`, with a sum of each outcome.
#[must_use]
pub fn report(inputs: &[Input]) -> String {
    let mut out = String::new();
    let mut sums: Vec<(&str, usize)> =
        ["taken", "partly", "refused", "unknown", "PANICKED"].map(|word| (word, 0)).into();
    for input in inputs {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{input}");
        sums.iter_mut().filter(|(word, _)| *word == input.outcome.word()).for_each(|(_, sum)| *sum += 1);
    }
    let sums: Vec<_> = sums.iter().filter(|(_, sum)| *sum > 0).map(|(word, sum)| format!("{sum} {word}")).collect();
    let _ = writeln!(out, "{} inputs: {}", inputs.len(), sums.join(", "));
    out
}

/// Whether every input could be taken completely.
#[must_use]
pub fn all_taken(inputs: &[Input]) -> bool {
    inputs.iter().all(|input| input.outcome == Outcome::Taken)
}
