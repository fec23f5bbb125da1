//! Loads an untrusted bundle into the store: each blob is hashed while it streams, and only files of the store are written.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use common::digest::Hasher;
use common::store::Store;
use common::{Class, Error, Result, Sha256};
use oci::types::{DOCUMENT_LIMIT, Descriptor, Manifest, Named as _};

use crate::layout::{bad, blob_path, digest_of, read_index, read_manifest};

/// Result of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Number of new inputs.
    pub stored: usize,
    /// Number of inputs that were already in the store.
    pub known: usize,
    /// Size of all inputs.
    pub bytes: u64,
}

/// Loads the bundle at `path`, a tar or a directory, into `store`; `scratch` is a directory on the same file system.
/// Inputs stored before an error are verified, so a retry continues there.
///
/// # Errors
/// [`common::Class::BadInput`] if there is none at `path`; [`common::Class::Verification`] if the bundle is truncated, a blob is missing or
/// has another digest or size, or a tar has a member that is not part of a layout or not in the manifest;
/// [`common::Class::Infrastructure`] for I/O errors.
pub fn load(path: &Path, store: &Store, scratch: &Path) -> Result<Loaded> {
    if !path.exists() || path.is_dir() && !path.join("oci-layout").exists() {
        let why = if path.exists() { "it is a directory without a file oci-layout" } else { "it does not exist" };
        return Err(Error::new(Class::BadInput, "not a bundle")
            .file(path)
            .why(why)
            .hint("give the file or directory that `solana-talos bundle create` wrote"));
    }
    fs_err::create_dir_all(scratch)?;
    if path.is_dir() { from_directory(path, store, scratch) } else { from_tar(path, store, scratch) }
        .map_err(|e| e.file(path))
}

/// The blobs of the manifest that have not been loaded yet.
struct Expected<'a> {
    store: &'a Store,
    scratch: &'a Path,
    left: BTreeMap<Sha256, Descriptor>,
    loaded: Loaded,
}

impl<'a> Expected<'a> {
    fn new(manifest: &Manifest, store: &'a Store, scratch: &'a Path) -> Result<Self> {
        let left = manifest.layers().iter().map(|layer| Ok((layer.sha256()?, layer.clone()))).collect::<Result<_>>()?;
        Ok(Self { store, scratch, left, loaded: Loaded::default() })
    }

    /// Loads one blob from `reader`.
    fn take(&mut self, digest: &Sha256, size: u64, reader: impl Read) -> Result<()> {
        let Some(layer) = self.left.remove(digest) else {
            return Err(bad(format!("{} is not in the manifest, or duplicated", blob_path(digest))));
        };
        if layer.size() != size {
            return Err(bad(format!("wrong size of {}: got {size} bytes, expected {}", name(&layer), layer.size())));
        }
        let mut part = tempfile::NamedTempFile::new_in(self.scratch)?;
        let (found, bytes) = copy(reader.take(size), part.as_file_mut(), self.scratch)?;
        if bytes != size {
            return Err(bad(format!("truncated within {}", name(&layer))));
        }
        if found != *digest {
            return Err(bad(format!("digest mismatch for {}: got {found}, expected {digest}", name(&layer))));
        }
        self.loaded.bytes += bytes;
        if self.store.path(digest).is_file() {
            self.loaded.known += 1;
        } else {
            self.store.insert(part.path(), digest)?;
            self.loaded.stored += 1;
        }
        Ok(())
    }

    fn finish(self) -> Result<Loaded> {
        match self.left.values().next() {
            None => Ok(self.loaded),
            Some(first) => Err(bad(format!("{} inputs are missing, among them {}", self.left.len(), name(first)))),
        }
    }
}

/// Returns the input's name for a message, quoted because it is untrusted.
fn name(layer: &Descriptor) -> String {
    layer.annotation(crate::TITLE).map_or_else(|| layer.digest().to_string(), |title| format!("{title:?}"))
}

/// Copies and hashes in one pass.
fn copy(mut reader: impl Read, out: &mut std::fs::File, scratch: &Path) -> Result<(Sha256, u64)> {
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 1 << 17]);
    loop {
        let read = reader.read(&mut buffer).map_err(|e| unreadable(&e))?;
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..read]);
        out.write_all(&buffer[..read])
            .map_err(|e| Error::io("cannot write the temporary file of the store", scratch, &e))?;
    }
}

/// Returns the error of a failed read: infrastructure if the system reported it, else a malformed bundle.
fn unreadable(e: &io::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(e);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if let Some(io) = io.filter(|io| io.raw_os_error().is_some()) {
            return Error::new(Class::Infrastructure, "cannot read the bundle").why(io);
        }
        // `io::Error::source` skips the wrapped error; `get_ref` returns it.
        cause = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    bad(e.to_string())
}

/// Reads the file three times: index, manifest, blobs. The order of members does not matter.
fn from_tar(path: &Path, store: &Store, scratch: &Path) -> Result<Loaded> {
    // Without fs-err, which hides the OS error from `unreadable`.
    let (mut file, _) = fs_err::File::open(path)?.into_parts();
    let length = file.metadata()?.len();
    let mut index = None;
    each(&file, length, |at, entry, _| {
        if at == "index.json" {
            index = Some(document(entry)?);
        }
        Ok(())
    })?;
    let named = read_index(&index.ok_or_else(|| bad("index.json is missing".to_owned()))?)?;
    let mut manifest = None;
    file.rewind()?;
    each(&file, length, |at, entry, _| {
        if digest_of(at).is_some_and(|digest| named.is(digest)) {
            manifest = Some(document(entry)?);
        }
        Ok(())
    })?;
    let manifest = read_manifest(&manifest.ok_or_else(|| bad("the manifest is missing".to_owned()))?, &named)?;
    let (config, mut lock) = (manifest.config(), None);
    let mut expected = Expected::new(&manifest, store, scratch)?;
    file.rewind()?;
    each(&file, length, |at, entry, size| match digest_of(at) {
        Some(digest) if config.is(digest) => {
            lock = Some(document(entry)?);
            Ok(())
        }
        Some(digest) if named.is(digest) => Ok(()),
        Some(digest) => expected.take(&digest, size, entry),
        None => Ok(()),
    })?;
    check_lock(&lock.ok_or_else(|| bad("the lock is missing".to_owned()))?, config)?;
    expected.finish()
}

/// Verifies the lock in the bundle. It is informative: a build uses the project's lock.
fn check_lock(bytes: &[u8], named: &Descriptor) -> Result<()> {
    if named.is(Sha256::of(bytes)) && bytes.len() as u64 == named.size() {
        return Ok(());
    }
    Err(bad(format!("digest mismatch: the lock is not {}", named.digest())))
}

/// Reads a document up to the size limit.
fn document(entry: &mut dyn Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).map_err(|e| unreadable(&e))?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        return Err(bad(format!("a document has more than {DOCUMENT_LIMIT} bytes")));
    }
    Ok(bytes)
}

/// Calls `take` with each file, its path and size; fails for members that are not part of a layout. `length` is the size of the archive.
fn each(file: &std::fs::File, length: u64, mut take: impl FnMut(&str, &mut dyn Read, u64) -> Result<()>) -> Result<()> {
    let mut archive = tar::Archive::new(file);
    // Raw: GNU long names and pax records can have any size, and a layout needs none.
    for entry in archive.entries_with_seek().map_err(|e| unreadable(&e))?.raw(true) {
        let mut entry = entry.map_err(|e| unreadable(&e))?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let size = entry.size();
        let kind = entry.header().entry_type();
        let plain = path.strip_prefix("./").unwrap_or(&path);
        if kind.is_dir() && matches!(plain.trim_end_matches('/'), "" | "." | "blobs" | "blobs/sha256") {
            continue;
        }
        let known = matches!(plain, "oci-layout" | "index.json") || digest_of(plain).is_some();
        if !known || !kind.is_file() {
            return Err(bad(format!("{path:?} ({kind:?}) is not part of an OCI layout")));
        }
        if entry.raw_file_position().checked_add(size).is_none_or(|end| end > length) {
            return Err(bad(format!("truncated within {path:?}")));
        }
        take(plain, &mut entry, size)?;
    }
    Ok(())
}

/// Opens only files in the manifest, and no symlinks.
fn from_directory(path: &Path, store: &Store, scratch: &Path) -> Result<Loaded> {
    let named = read_index(&document(&mut open(&path.join("index.json"))?.0)?)?;
    let manifest = document(&mut open(&path.join(blob_path(&named.sha256()?)))?.0)?;
    let manifest = read_manifest(&manifest, &named)?;
    let lock = document(&mut open(&path.join(blob_path(&manifest.config().sha256()?)))?.0)?;
    check_lock(&lock, manifest.config())?;
    let mut expected = Expected::new(&manifest, store, scratch)?;
    for digest in expected.left.keys().copied().collect::<Vec<_>>() {
        let (file, size) = open(&path.join(blob_path(&digest)))?;
        expected.take(&digest, size, file)?;
    }
    expected.finish()
}

fn open(path: &PathBuf) -> Result<(std::fs::File, u64)> {
    let meta = fs_err::symlink_metadata(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => bad(format!("{} is missing", path.display())),
        _ => e.into(),
    })?;
    if !meta.is_file() {
        return Err(bad(format!("{} is not a regular file", path.display())));
    }
    Ok((fs_err::File::open(path)?.into_parts().0, meta.len()))
}
