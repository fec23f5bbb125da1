//! Compares two output directories, or any two files.

use std::collections::BTreeSet;
use std::path::Path;

use common::{Class, Error, Result, Sha256};
use fs_err as fs;
use oci::Limits;
use serde::Serialize;
use serde_json::Value;

use super::layout::{meaning, mismatch};
use super::{Difference, How, Side, bytes};
use formats::budget::FILE_MAX;

/// The build record; its `seconds` differ from build to build, and so does its line in `SHA256SUMS`.
const RECORD: &str = "build.json";
const SUMS: &str = "SHA256SUMS";
/// Metadata of the other outputs: differs wherever another output does, so it is compared last.
const LAST: [&str; 3] = [RECORD, SUMS, ".identity"];
/// Largest build record; usual ones have some kilobytes.
const RECORD_MAX: u64 = 64 << 20;

/// One output in both directories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Name in the directory.
    pub name: String,
    /// Digest in the first: of a file, or of a layout's index, which references everything else by digest.
    pub first: Option<Sha256>,
    /// Digest in the second.
    pub second: Option<Sha256>,
    /// First difference.
    pub difference: Option<Difference>,
}

/// Compares the output directories `first` and `second`, every file byte by byte; of `build.json` all but `seconds`.
///
/// The build record and checksums come last.
///
/// # Errors
/// [`Class::BadInput`] when one is not a directory.
pub fn outputs(first: &Path, second: &Path) -> Result<Vec<Row>> {
    let mut names: Vec<_> = names(first, second)?.into_iter().collect();
    names.sort_by_key(|name| LAST.iter().position(|last| last == name));
    names.into_iter().map(|name| row(&name, &first.join(&name), &second.join(&name))).collect()
}

fn names(first: &Path, second: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for dir in [first, second] {
        let entries =
            fs::read_dir(dir).map_err(|e| Error::new(Class::BadInput, "cannot list the directory").file(dir).why(e))?;
        for entry in entries {
            names.insert(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn row(name: &str, first: &Path, second: &Path) -> Result<Row> {
    let both = (digest(name, first)?, digest(name, second)?);
    let difference = match both {
        (Some(_), None) => Some(Difference::new(How::Only { r#in: Side::First })),
        (None, Some(_)) => Some(Difference::new(How::Only { r#in: Side::Second })),
        _ => member(name, first, second)?,
    };
    let difference = difference.map(|difference| difference.inside("output", name));
    Ok(Row { name: name.to_owned(), first: both.0, second: both.1, difference })
}

fn member(name: &str, first: &Path, second: &Path) -> Result<Option<Difference>> {
    match (first.is_dir(), second.is_dir()) {
        (true, true) => layouts(first, second, Limits::SYSTEM),
        (false, false) if [RECORD, SUMS].contains(&name) => {
            Ok(bytes(&reproducible(name, first)?, &reproducible(name, second)?))
        }
        (false, false) => files(first, second),
        (dir, _) => Ok(Some(kinds(dir))),
    }
}

/// Returns the difference of a directory and a file; `first` is the directory, or else the second.
fn kinds(first: bool) -> Difference {
    let kind = |dir| if dir { "a directory" } else { "a file" }.to_owned();
    Difference::new(How::Value { first: kind(first), second: kind(!first) })
}

/// Returns the part of the build record or of `SHA256SUMS` that is the same in every build.
fn reproducible(name: &str, path: &Path) -> Result<Vec<u8>> {
    if path.metadata().is_ok_and(|meta| meta.len() > RECORD_MAX) {
        return Err(Error::new(Class::UntrustedData, "build record is too large").file(path));
    }
    let text = fs::read_to_string(path)?;
    if name == SUMS {
        let other = |line: &&str| !line.ends_with(&format!("  {RECORD}"));
        return Ok(text.lines().filter(other).map(|line| format!("{line}\n")).collect::<String>().into());
    }
    let malformed = |e| Error::new(Class::UntrustedData, "build record is malformed").file(path).why(e);
    let mut record: Value = serde_json::from_str(&text).map_err(malformed)?;
    if let Some(record) = record.as_object_mut() {
        record.remove("seconds");
    }
    serde_json::to_vec_pretty(&record).map_err(malformed)
}

fn digest(name: &str, path: &Path) -> Result<Option<Sha256>> {
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    if [RECORD, SUMS].contains(&name) && path.is_file() {
        return reproducible(name, path).map(|bytes| Some(Sha256::of(bytes)));
    }
    if !path.is_dir() {
        return Sha256::of_file(path).map(Some);
    }
    let index = path.join("index.json");
    if index.is_file() { Sha256::of_file(&index).map(Some) } else { common::stage::hash_tree(path).map(Some) }
}

/// Compares two directories file by file. If both are layouts and differ, they are compared by content: images by name, then artifacts,
/// then the index. For damaged layouts and unreferenced blobs the file that differs is reported.
pub fn layouts(first: &Path, second: &Path, limits: Limits) -> Result<Option<Difference>> {
    let Some(file) = differing(first, second)? else { return Ok(None) };
    if [first, second].iter().all(|dir| dir.join("oci-layout").is_file())
        && let Ok(Some(difference)) = meaning(first, second, limits)
    {
        return Ok(Some(difference));
    }
    Ok(Some(file))
}

/// Returns the first file below two directories that differs.
fn differing(first: &Path, second: &Path) -> Result<Option<Difference>> {
    for name in names(first, second)? {
        let (a, b) = (first.join(&name), second.join(&name));
        let only = |side| Some(Difference::new(How::Only { r#in: side }));
        let difference = match (a.symlink_metadata(), b.symlink_metadata()) {
            (Ok(_), Err(_)) => only(Side::First),
            (Err(_), _) => only(Side::Second),
            (Ok(x), Ok(y)) if x.is_dir() && y.is_dir() => {
                if let Some(difference) = differing(&a, &b)? {
                    return Ok(Some(difference.inside("directory", name)));
                }
                None
            }
            (Ok(x), Ok(y)) if x.is_dir() != y.is_dir() => Some(kinds(x.is_dir())),
            (Ok(_), Ok(_)) => files(&a, &b)?,
        };
        if let Some(difference) = difference {
            return Ok(Some(difference.inside("file", name)));
        }
    }
    Ok(None)
}

/// Returns the first difference of two files. They are streamed; only files that differ and have at most [`FILE_MAX`] bytes are read into
/// memory.
pub fn files(first: &Path, second: &Path) -> Result<Option<Difference>> {
    let (mut a, mut b) = (fs::File::open(first)?, fs::File::open(second)?);
    let Some(at) = mismatch(&mut a, &mut b)? else { return Ok(None) };
    let lengths = (a.metadata()?.len(), b.metadata()?.len());
    if lengths.0.max(lengths.1) > FILE_MAX {
        return Ok(Some(Difference::new(How::Bytes { at, lengths })));
    }
    Ok(bytes(&fs::read(first)?, &fs::read(second)?))
}
