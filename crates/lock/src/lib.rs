//! `solana-talos.lock`: every input of a build by digest.
//!
//! `solana-talos update` resolves the edited sources (`kernel-config/pin.toml`, `crates/toolchain/*.list`, the two `Cargo.toml`) and writes the
//! lock. A build never resolves: a lock that does not match the sources is an error.

mod changes;
mod crates;
mod entry;
mod model;

pub use changes::changes;
pub use crates::{Crate, parse_cargo_lock};
pub use entry::{Entry, Kind};
pub use model::{BaseImage, Blob, CargoLock, File, Kernel, List, Lock, Package};

use std::path::Path;

use common::{Class, Error, Result, Sha256, atomic};

/// Name of the lock in the project.
pub const FILE: &str = "solana-talos.lock";
/// The project's `Cargo.lock` files: those of the tool and of the guest.
pub const CARGO_LOCKS: [&str; 2] = ["Cargo.lock", "tests/guest/Cargo.lock"];

/// Hint for a lock that does not match the project.
const RECORD: &str = "run `solana-talos update --offline` and commit the lock";

/// The lock with the crates of its `Cargo.lock` files.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The lock.
    pub lock: Lock,
    /// The crates of all `Cargo.lock` files, without duplicates.
    pub crates: Vec<Crate>,
}

impl Inputs {
    /// Reads the lock of `project` and its `Cargo.lock` files.
    ///
    /// # Errors
    /// [`Class::BadInput`] for a malformed file, [`Class::Verification`] for a digest mismatch of a `Cargo.lock`.
    pub fn open(project: &Path) -> Result<Self> {
        let lock = read(project)?;
        let mut crates = Vec::new();
        for recorded in &lock.cargo {
            let (text, digest) = read_cargo_lock(project, &recorded.lock)?;
            if digest != recorded.sha256 {
                let what = format!("digest mismatch for {} in {FILE}", recorded.lock);
                return Err(Error::new(Class::Verification, what)
                    .file(project.join(&recorded.lock))
                    .why(format!("got {digest}\nexpected {}", recorded.sha256))
                    .hint(RECORD));
            }
            crates.extend(parse_cargo_lock(&recorded.lock, &text)?);
        }
        Ok(Self { lock, crates: deduplicated(crates) })
    }

    /// Returns every input of a build, in a fixed order.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.lock.entries().chain(self.crates.iter().map(Crate::entry))
    }
}

/// Reads the lock of `project`, without the crates.
///
/// # Errors
/// [`Class::BadInput`] if it is missing or malformed.
pub fn read(project: &Path) -> Result<Lock> {
    let path = project.join(FILE);
    let text = fs_err::read_to_string(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::new(Class::BadInput, "the lock of the project is missing")
            .file(&path)
            .hint(format!("restore {FILE} from version control, or run `solana-talos update`")),
        _ => e.into(),
    })?;
    Lock::parse(FILE, &text)
}

/// Writes the lock of `project`; returns whether it changed.
pub fn write(project: &Path, lock: &Lock) -> Result<bool> {
    let (path, text) = (project.join(FILE), lock.to_string());
    if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    atomic::write(&path, text).map(|()| true)
}

/// Reads the `Cargo.lock` files of `project` and their crates.
///
/// # Errors
/// [`Class::BadInput`] if one is malformed.
pub fn cargo_locks(project: &Path) -> Result<(Vec<CargoLock>, Vec<Crate>)> {
    let (mut locks, mut crates) = (Vec::new(), Vec::new());
    for name in CARGO_LOCKS {
        let (text, sha256) = read_cargo_lock(project, name)?;
        crates.extend(parse_cargo_lock(name, &text)?);
        locks.push(CargoLock { lock: name.to_owned(), sha256 });
    }
    Ok((locks, deduplicated(crates)))
}

fn deduplicated(mut crates: Vec<Crate>) -> Vec<Crate> {
    crates.sort();
    crates.dedup();
    crates
}

fn read_cargo_lock(project: &Path, name: &str) -> Result<(String, Sha256)> {
    let text = fs_err::read_to_string(project.join(name))?;
    let digest = Sha256::of(&text);
    Ok((text, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
    }

    #[test]
    fn the_committed_lock_is_canonical() {
        let text = std::fs::read_to_string(project().join(FILE)).unwrap();
        let lock = Lock::parse(FILE, &text).unwrap();
        assert_eq!(lock.to_string(), text);
        assert!(lock.package.iter().any(|p| p.name == "clang-19" && p.list == List::Packages));
        assert!(lock.package.iter().any(|p| p.name == "cosign" && p.list == List::ReferenceTools));
        assert!(lock.file.iter().any(|f| f.path.ends_with("linuxx64.efi.stub")), "the stub is not pinned");
    }

    #[test]
    fn the_entries_of_the_committed_lock_are_unique() {
        let lock = read(project()).unwrap();
        let (_, crates) = cargo_locks(project()).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for entry in (Inputs { lock, crates }).entries() {
            assert!(seen.insert(entry.uri.clone()), "{} is duplicated", entry.uri);
        }
        assert!(seen.len() > 400, "{}", seen.len());
    }

    #[test]
    fn a_changed_cargo_lock_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in CARGO_LOCKS {
            atomic::write(&dir.path().join(name), "version = 4\n").unwrap();
        }
        let mut lock = read(project()).unwrap();
        lock.cargo = cargo_locks(dir.path()).unwrap().0;
        assert!(write(dir.path(), &lock).unwrap() && !write(dir.path(), &lock).unwrap());
        assert!(Inputs::open(dir.path()).unwrap().crates.is_empty());
        atomic::write(&dir.path().join("Cargo.lock"), "version = 4\n\n").unwrap();
        let error = Inputs::open(dir.path()).unwrap_err();
        assert_eq!(error.class(), Class::Verification);
        assert!(error.to_string().contains("update --offline"), "{error}");
    }

    #[test]
    fn the_error_of_a_missing_lock_has_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let error = read(dir.path()).unwrap_err();
        assert_eq!(error.class(), Class::BadInput);
        assert!(error.to_string().contains("solana-talos update"), "{error}");
    }
}
