//! The output directory: everything a build gives, with the digest of everything it read.

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

/// `build.json`.
#[derive(Debug, Serialize)]
pub struct Record {
    /// The kernel profile.
    pub profile: String,
    /// The boot preset.
    pub preset: String,
    /// The base: `testbed` is not Talos.
    pub base: String,
    /// Kernel release string.
    pub release: String,
    /// Who signed the modules: `development` keys are this machine's own.
    pub keys: String,
    /// SHA-256 of the certificate that modules verify with.
    pub module_certificate: Sha256,
    /// SHA-256 of the public key that images verify with (DER `SubjectPublicKeyInfo`).
    pub image_key: Sha256,
    /// SHA-256 of each input by name.
    pub inputs: BTreeMap<String, String>,
    /// Versions of the toolchain's packages that compile, link, compress and sign.
    pub tools: BTreeMap<String, String>,
    /// Key of each stage: the SHA-256 of all that it read.
    pub stages: BTreeMap<&'static str, String>,
    /// Digest of each image's manifest by name.
    pub images: BTreeMap<String, Sha256>,
    /// SHA-256 of each output file by path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, Sha256>,
    /// Seconds per stage; 0 for what was there. The only part that differs from build to build.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub seconds: BTreeMap<&'static str, f64>,
}

/// Puts `files` (name in the output, content) into `out` together with the record and the digests.
/// `out` appears whole or stays as it was; one that already is the same build is left alone.
///
/// # Errors
/// [`Class::BadInput`] when `out` is something else than an output of ours; what the file system reports.
pub fn write(out: &Path, files: &[(String, Content)], mut record: Record, stages: &[&Finished]) -> Result<bool> {
    let identity = identity(&record)?;
    let existing = std::fs::read_to_string(out.join(".identity")).ok();
    if existing.as_deref() == Some(identity.as_str()) {
        return Ok(false);
    }
    refuse_foreign(out)?;
    let part = atomic::beside(out, "part");
    atomic::empty_dir(&part)?;
    for (name, content) in files {
        match content {
            Content::Path(from) => copy(from, &part.join(name))?,
            Content::Text(text) => atomic::write(&part.join(name), text)?,
        }
    }
    record.outputs = digests(&part, &part)?.into_iter().collect();
    for stage in stages {
        record.seconds.insert(stage.stage, (stage.took.as_secs_f64() * 1000.0).round() / 1000.0);
    }
    let json = serde_json::to_string_pretty(&record).map_err(|e| unwritable(&e))?;
    atomic::write(&part.join(RECORD), json + "\n")?;
    write_sums(&part)?;
    atomic::write(&part.join(".identity"), identity)?;
    atomic::replace_dir(&part, out)?;
    Ok(true)
}

/// Lets `sign` write layouts and documents anew into a copy of the output `out`, and puts it in place with the record and the digests
/// brought up to date for the key that signs images now. The next build writes the output anew.
///
/// # Errors
/// [`Class::BadInput`] when `out` is no output of ours; what `sign` reports, and the file system; the output is as it was then.
pub fn rewrite(
    out: &Path,
    key: &PublicKey,
    sign: impl FnOnce(&Path) -> Result<OrPending<()>>,
) -> Result<OrPending<()>> {
    // A name such as `.` has nothing beside it.
    let out = &std::fs::canonicalize(out).map_err(|e| Error::io("cannot find an output", out, &e))?;
    refuse_foreign(out)?;
    let part = atomic::beside(out, "part");
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
    let io = |e: &std::io::Error| Error::io("cannot read an output", out, e);
    for entry in std::fs::read_dir(out).map_err(|e| io(&e))? {
        let path = entry.map_err(|e| io(&e))?.path();
        let name = path.file_name().unwrap_or_default();
        let layout = path.join("oci-layout").is_file();
        if !layout && ![RECORD, SUMS, ".identity"].iter().any(|made| name == *made) {
            copy(&path, &part.join(name))?;
        }
    }
    if let Err(pending) = sign(part)? {
        return Ok(Err(pending));
    }
    if let Ok(text) = std::fs::read_to_string(out.join(RECORD)) {
        let mut record: serde_json::Value = serde_json::from_str(&text).map_err(|e| {
            Error::new(Class::BadInput, "the record of the build is malformed").file(out.join(RECORD)).why(e)
        })?;
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

/// The record without what differs from build to build.
fn identity(record: &Record) -> Result<String> {
    serde_json::to_string(record).map(|json| Sha256::of(json).to_string()).map_err(|e| unwritable(&e))
}

fn unwritable(err: &serde_json::Error) -> Error {
    Error::new(Class::Infrastructure, "cannot write the record of the build").why(err)
}

fn refuse_foreign(out: &Path) -> Result<()> {
    let empty = std::fs::read_dir(out).map_or(true, |mut entries| entries.next().is_none());
    if empty || out.join(RECORD).is_file() {
        return Ok(());
    }
    Err(Error::new(Class::BadInput, "a directory to write anew holds something else")
        .file(out)
        .why(format!("it is not empty and has no {RECORD}, so it is not from an earlier build"))
        .hint("name the output directory of a build, or a new one"))
}

/// Copies a file or a tree; a link to the cache would let a change of an output change the cache.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let io = |e: &std::io::Error| Error::io("cannot write an output", to, e);
    if !from.is_dir() {
        return std::fs::copy(from, to).map(|_| ()).map_err(|e| io(&e));
    }
    std::fs::create_dir_all(to).map_err(|e| io(&e))?;
    for entry in std::fs::read_dir(from).map_err(|e| Error::io("cannot list a stage", from, &e))? {
        let entry = entry.map_err(|e| io(&e))?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn digests(root: &Path, dir: &Path) -> Result<Vec<(String, Sha256)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io("cannot list the outputs", dir, &e))? {
        let path = entry.map_err(|e| Error::io("cannot list the outputs", dir, &e))?.path();
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
    fn writes_files_record_and_sums_and_leaves_an_equal_build_alone() {
        let dir = std::env::temp_dir().join(format!("solana-talos-output-{}", std::process::id()));
        atomic::empty_dir(&dir).unwrap();
        let (from, out) = (dir.join("from"), dir.join("out"));
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
        atomic::remove_dir(&dir).unwrap();
    }

    #[test]
    fn never_replaces_what_is_not_ours() {
        let dir = std::env::temp_dir().join(format!("solana-talos-foreign-{}", std::process::id()));
        atomic::write(&dir.join("thesis.txt"), "years").unwrap();
        let error = write(&dir, &[], record("1"), &[]).unwrap_err();
        assert_eq!(error.class(), Class::BadInput);
        assert!(dir.join("thesis.txt").exists());
        atomic::remove_dir(&dir).unwrap();
    }
}
