//! Writes a reproducible bundle.

use std::fs::Permissions;
use std::io::{BufWriter, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use common::digest::Hasher;
use common::store::Store;
use common::{Class, Error, Result, Sha256, atomic};
use fs_err::File;
use lock::{Entry, Inputs};
use oci::tarball::header;

use crate::layout::{self, blob_path};

/// Writes the stored inputs of `inputs` to `dest`, a tar if it ends in `.tar`, else a directory.
/// Returns the number of inputs and their size in bytes.
///
/// # Errors
/// [`Class::Infrastructure`] if an input is not in the store or `dest` cannot be written; [`Class::Verification`] for a digest mismatch of
/// a stored file; [`Class::BadInput`] if `dest` exists and is not a layout.
pub fn create(dest: &Path, inputs: &Inputs, store: &Store) -> Result<(usize, u64)> {
    let lock = inputs.lock.to_string().into_bytes();
    let stored = find(inputs, store)?;
    let sized: Vec<_> = stored.iter().map(|(entry, size, _)| (entry.clone(), *size)).collect();
    let manifest = layout::manifest(&lock, &sized)?;
    let documents = [
        ("oci-layout".to_owned(), layout::VERSION.to_vec()),
        ("index.json".to_owned(), layout::index(&manifest)?),
        (blob_path(&Sha256::of(&manifest)), manifest),
        (blob_path(&Sha256::of(&lock)), lock),
    ];
    if dest.extension().is_some_and(|end| end == "tar") {
        tar(dest, &documents, &stored)?;
    } else {
        directory(dest, &documents, &stored)?;
    }
    Ok((stored.len(), stored.iter().map(|(_, size, _)| size).sum()))
}

type Stored = (Entry, u64, PathBuf);

/// Returns the inputs sorted by digest, without duplicates.
fn find(inputs: &Inputs, store: &Store) -> Result<Vec<Stored>> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for entry in inputs.entries().filter(Entry::is_stored) {
        let Some(path) = store.find(&entry.sha256)? else {
            missing.push(entry.name);
            continue;
        };
        let size = fs_err::metadata(&path)?.len();
        found.push((entry, size, path));
    }
    if let Some(first) = missing.first() {
        return Err(Error::new(Class::Infrastructure, "inputs are missing in the store")
            .why(format!("{} inputs, among them {first}", missing.len()))
            .hint("run `solana-talos fetch`; it needs a network"));
    }
    found.sort_by_key(|(entry, ..)| entry.sha256);
    found.dedup_by_key(|(entry, ..)| entry.sha256);
    Ok(found)
}

fn tar(dest: &Path, documents: &[(String, Vec<u8>)], stored: &[Stored]) -> Result<()> {
    let io = |e: &std::io::Error| Error::io("cannot write the bundle", dest, e);
    let parent = dest.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let part = tempfile::Builder::new().prefix(".part-").tempfile_in(parent).map_err(|e| io(&e))?;
    let mut archive = tar::Builder::new(BufWriter::with_capacity(1 << 18, part.as_file()));
    for (path, bytes) in documents {
        archive.append_data(&mut header(bytes.len() as u64), path, &bytes[..]).map_err(|e| io(&e))?;
    }
    for (entry, size, path) in stored {
        let mut stored = Hashing::open(path)?;
        archive.append_data(&mut header(*size), blob_path(&entry.sha256), &mut stored).map_err(|e| io(&e))?;
        stored.check(&entry.sha256, path)?;
    }
    archive.into_inner().and_then(|mut out| out.flush()).map_err(|e| io(&e))?;
    part.as_file().set_permissions(Permissions::from_mode(0o644)).map_err(|e| io(&e))?;
    part.as_file().sync_all().map_err(|e| io(&e))?;
    part.persist(dest).map_err(|e| io(&e.error))?;
    Ok(())
}

fn directory(dest: &Path, documents: &[(String, Vec<u8>)], stored: &[Stored]) -> Result<()> {
    let taken = dest.symlink_metadata().is_ok() && !dest.join("oci-layout").is_file();
    if taken && std::fs::read_dir(dest).map_or(true, |mut entries| entries.next().is_some()) {
        return Err(Error::new(Class::BadInput, "cannot write a bundle here")
            .file(dest)
            .why("the path exists and is not an OCI layout")
            .hint("choose another name"));
    }
    let part = atomic::sibling(dest, "part");
    atomic::empty_dir(&part)?;
    let filled = fill(&part, documents, stored);
    if filled.is_err() {
        atomic::remove_dir(&part)?;
    }
    filled.and_then(|()| atomic::replace_dir(&part, dest))
}

fn fill(dir: &Path, documents: &[(String, Vec<u8>)], stored: &[Stored]) -> Result<()> {
    for (path, bytes) in documents {
        atomic::write(&dir.join(path), bytes)?;
    }
    for (entry, _, from) in stored {
        let to = dir.join(blob_path(&entry.sha256));
        let (mut stored, mut file) = (Hashing::open(from)?, File::create(&to)?);
        std::io::copy(&mut stored, &mut file)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        stored.check(&entry.sha256, from)?;
    }
    Ok(())
}

/// Hashes a stored file while it is read.
struct Hashing {
    file: File,
    hasher: Hasher,
}

impl Hashing {
    fn open(path: &Path) -> Result<Self> {
        Ok(Self { file: File::open(path)?, hasher: Hasher::default() })
    }

    /// Fails if the digest is not `expected`.
    fn check(self, expected: &Sha256, path: &Path) -> Result<()> {
        let (found, bytes) = self.hasher.finish();
        if found == *expected {
            return Ok(());
        }
        Err(Error::new(Class::Verification, "digest mismatch for a file in the store")
            .file(path)
            .why(format!("got {found} ({bytes} bytes), expected {expected}"))
            .hint("remove it and run `solana-talos fetch`; no bundle was written"))
    }
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
