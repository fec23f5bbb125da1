//! The output directory, with a record of the inputs and outputs by digest.

use std::collections::BTreeMap;
use std::path::Path;

use common::stage::Finished;
use common::{Class, Error, Result, Sha256, atomic};
use keys::{OrPending, PublicKey};
use serde::Serialize;

use crate::outputs::Content;

/// Name of the record.
const RECORD: &str = "build.json";
/// Name of the list of digests, in the form `sha256sum -c` reads.
const SUMS: &str = "SHA256SUMS";
/// Name of the file with the identity of what the directory was written from.
const IDENTITY: &str = ".identity";

/// `build.json`.
#[derive(Debug, Serialize)]
pub struct Record {
    /// The kernel profile.
    pub profile: String,
    /// The boot preset.
    pub preset: String,
    /// Tag of the images.
    pub tag: String,
    /// The base: `testbed` is not Talos.
    pub base: String,
    /// Kernel release string.
    pub release: String,
    /// `development` if signed with development keys, else `given`.
    pub keys: String,
    /// SHA-256 of the certificate that verifies modules.
    pub module_certificate: Sha256,
    /// SHA-256 of the public key that verifies images (DER `SubjectPublicKeyInfo`).
    pub image_key: Sha256,
    /// SHA-256 of each input by name.
    pub inputs: BTreeMap<String, String>,
    /// Versions of the toolchain packages that compile, link, compress and sign.
    pub tools: BTreeMap<String, String>,
    /// Key of each stage: the SHA-256 of its inputs.
    pub stages: BTreeMap<&'static str, String>,
    /// Digest of each image's manifest by name.
    pub images: BTreeMap<String, Sha256>,
    /// SHA-256 of each output file by path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, Sha256>,
    /// Seconds per stage; 0 for a cache hit. The only part that differs between identical builds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub seconds: BTreeMap<&'static str, f64>,
}

/// Writes `files` (name in the output, content), the record and the digests to `out`.
///
/// The directory is replaced as a whole; one of an identical build is left unchanged. Returns whether it was written.
///
/// # Errors
/// [`Class::BadInput`] when `out` is not an output directory.
pub fn write(out: &Path, files: &[(String, Content)], mut record: Record, stages: &[&Finished]) -> Result<bool> {
    let identity = identity(&record)?;
    replace(out, RECORD, &identity, files, |part| {
        record.outputs = digests(part, part)?.into_iter().collect();
        for stage in stages {
            record.seconds.insert(stage.stage, (stage.took.as_secs_f64() * 1000.0).round() / 1000.0);
        }
        let json = serde_json::to_string_pretty(&record).map_err(|e| unwritable(&e))?;
        atomic::write(&part.join(RECORD), json + "\n")
    })
}

/// Replaces the output directory `out`, which must have the file `marker` unless it is empty, by `files`, what `finish` adds to them, and their
/// digests. A directory that was written with the same `identity` is left unchanged. Returns whether it was written.
pub(crate) fn replace(
    out: &Path,
    marker: &str,
    identity: &str,
    files: &[(String, Content)],
    finish: impl FnOnce(&Path) -> Result<()>,
) -> Result<bool> {
    if std::fs::read_to_string(out.join(IDENTITY)).is_ok_and(|existing| existing == identity) {
        return Ok(false);
    }
    check_replaceable(out, marker)?;
    let part = atomic::sibling(out, "part");
    atomic::empty_dir(&part)?;
    for (name, content) in files {
        match content {
            Content::Path(from) => copy(from, &part.join(name))?,
            Content::Text(text) => atomic::write(&part.join(name), text)?,
        }
    }
    finish(&part)?;
    write_sums(&part)?;
    atomic::write(&part.join(IDENTITY), identity)?;
    atomic::replace_dir(&part, out)?;
    Ok(true)
}

/// Replaces the output directory `out` with a copy in which `sign` has written all layouts and their documents again, and updates record
/// and digests for the image key `key`. On failure the output is unchanged. The next build writes the output again.
///
/// # Errors
/// [`Class::BadInput`] when `out` is not an output directory.
pub fn rewrite(
    out: &Path,
    key: &PublicKey,
    sign: impl FnOnce(&Path) -> Result<OrPending<()>>,
) -> Result<OrPending<()>> {
    // A path such as `.` has no sibling.
    let out = &fs_err::canonicalize(out)?;
    check_replaceable(out, RECORD)?;
    let part = atomic::sibling(out, "part");
    atomic::empty_dir(&part)?;
    let done = rewrite_into(out, &part, key, sign);
    if !matches!(done, Ok(Ok(()))) {
        atomic::remove_dir(&part)?;
        return done;
    }
    atomic::replace_dir(&part, out).map(Ok)
}

fn rewrite_into(
    out: &Path,
    part: &Path,
    key: &PublicKey,
    sign: impl FnOnce(&Path) -> Result<OrPending<()>>,
) -> Result<OrPending<()>> {
    for entry in fs_err::read_dir(out)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        let layout = path.join("oci-layout").is_file();
        if !layout && ![RECORD, SUMS, IDENTITY].iter().any(|made| name == *made) {
            copy(&path, &part.join(name))?;
        }
    }
    if let Err(pending) = sign(part)? {
        return Ok(Err(pending));
    }
    if let Ok(text) = std::fs::read_to_string(out.join(RECORD)) {
        let mut record: serde_json::Value = serde_json::from_str(&text)
            .map_err(|e| Error::new(Class::UntrustedData, "build record is malformed").file(out.join(RECORD)).why(e))?;
        let outputs: BTreeMap<_, _> = digests(part, part)?.into_iter().collect();
        record["outputs"] = serde_json::to_value(outputs).map_err(|e| unwritable(&e))?;
        record["image_key"] = serde_json::Value::String(key.fingerprint().to_string());
        let json = serde_json::to_string_pretty(&record).map_err(|e| unwritable(&e))?;
        atomic::write(&part.join(RECORD), json + "\n")?;
    }
    write_sums(part).map(Ok)
}

fn write_sums(part: &Path) -> Result<()> {
    let sums: String = digests(part, part)?.iter().map(|(path, digest)| format!("{digest}  {path}\n")).collect();
    atomic::write(&part.join(SUMS), sums)
}

/// Returns the digest of the record without outputs and times.
fn identity(record: &Record) -> Result<String> {
    serde_json::to_string(record).map(|json| Sha256::of(json).to_string()).map_err(|e| unwritable(&e))
}

fn unwritable(err: &serde_json::Error) -> Error {
    Error::new(Class::Infrastructure, "cannot write the build record").why(err)
}

/// Refuses to replace a directory that is neither empty nor an output directory.
fn check_replaceable(out: &Path, marker: &str) -> Result<()> {
    let empty = std::fs::read_dir(out).map_or(true, |mut entries| entries.next().is_none());
    if empty || out.join(marker).exists() {
        return Ok(());
    }
    Err(Error::new(Class::BadInput, "not an output directory")
        .file(out)
        .why(format!("it is not empty and has no {marker}; it would be replaced as a whole"))
        .hint("give the output directory of a build, or a new one"))
}

/// Copies a file or a tree. Not linked: a change of an output must not change the cache.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        fs_err::copy(from, to)?;
        return Ok(());
    }
    fs_err::create_dir_all(to)?;
    for entry in fs_err::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn digests(root: &Path, dir: &Path) -> Result<Vec<(String, Sha256)>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(digests(root, &path)?);
        } else {
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            found.push((name, Sha256::of_file(&path)?));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(release: &str) -> Record {
        Record {
            profile: "vm".into(),
            preset: "spec".into(),
            tag: "v1".into(),
            base: "testbed".into(),
            release: release.into(),
            keys: "development".into(),
            module_certificate: Sha256::of(""),
            image_key: Sha256::of(""),
            inputs: BTreeMap::new(),
            tools: BTreeMap::new(),
            stages: BTreeMap::new(),
            images: BTreeMap::new(),
            outputs: BTreeMap::new(),
            seconds: BTreeMap::new(),
        }
    }

    #[test]
    fn writes_files_record_and_sums_and_skips_an_identical_build() {
        let dir = tempfile::tempdir().unwrap();
        let (from, out) = (dir.path().join("from"), dir.path().join("out"));
        atomic::write(&from.join("tree/a"), "1").unwrap();
        let files =
            [("tree".to_owned(), Content::Path(from.join("tree"))), ("b".to_owned(), Content::Text("1".to_owned()))];
        assert!(write(&out, &files, record("1"), &[]).unwrap());
        let one = Sha256::of("1");
        let sums = std::fs::read_to_string(out.join(SUMS)).unwrap();
        assert!(sums.contains(&format!("{one}  b\n")) && sums.contains(&format!("{one}  tree/a\n")), "{sums}");
        assert!(sums.contains("  build.json\n") && !sums.contains("SHA256SUMS"));
        assert!(!write(&out, &files, record("1"), &[]).unwrap());
        assert!(write(&out, &files, record("2"), &[]).unwrap());
    }

    #[test]
    fn never_replaces_other_directories() {
        let dir = tempfile::tempdir().unwrap();
        atomic::write(&dir.path().join("thesis.txt"), "years").unwrap();
        let error = write(dir.path(), &[], record("1"), &[]).unwrap_err();
        assert_eq!(error.class(), Class::BadInput);
        assert!(dir.path().join("thesis.txt").exists());
    }
}
