//! `solana-talos.lock`: every input of a build by digest.
//!
//! `solana-talos update` resolves the edited sources (`kernel-config/pin.toml`, `crates/toolchain/*.list`, the two `Cargo.toml`, `imager/base/go/*/go.mod`) and writes the
//! lock. A build never resolves: a lock that does not match the sources is an error.

mod changes;
mod crates;
mod entry;
mod model;
mod modules;

pub use changes::changes;
pub use crates::{Crate, parse_cargo_lock};
pub use entry::{Entry, Kind};
pub use model::{BaseImage, Blob, CargoLock, File, GoSums, Kernel, List, Lock, Package};
pub use modules::{ModuleFile, go_sums_text, parse_go_sums};

use std::path::Path;

use common::{Class, Error, Result, Sha256, atomic};

/// Name of the lock in the project.
pub const FILE: &str = "solana-talos.lock";
/// The project's `Cargo.lock` files: those of the tool and of the guest.
pub const CARGO_LOCKS: [&str; 2] = ["Cargo.lock", "tests/guest/Cargo.lock"];

/// The project's lists of Go module files: a list for each `go.mod`, and that of the Go toolchain.
pub const GO_SUMS: [&str; 4] = [
    "imager/base/go/cni/modules.sums",
    "imager/base/go/containerd/modules.sums",
    "imager/base/go/talos/modules.sums",
    "imager/base/go/toolchain/modules.sums",
];

/// Hint for a lock that does not match the project.
const RECORD: &str = "run `solana-talos update --offline` and commit the lock";

/// The lock with what the project's files in it list.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The lock.
    pub lock: Lock,
    /// The crates of all `Cargo.lock` files, without duplicates.
    pub crates: Vec<Crate>,
    /// The Go module files of all lists, without duplicates.
    pub modules: Vec<ModuleFile>,
}

impl Inputs {
    /// Reads the lock of `project`, its `Cargo.lock` files and its lists of Go module files.
    ///
    /// # Errors
    /// [`Class::BadInput`] for a malformed file, [`Class::Verification`] for a digest mismatch of one that the lock records.
    pub fn open(project: &Path) -> Result<Self> {
        let lock = read(project)?;
        let (mut crates, mut modules) = (Vec::new(), Vec::new());
        for recorded in &lock.cargo {
            let text = read_recorded(project, &recorded.lock, &recorded.sha256)?;
            crates.extend(parse_cargo_lock(&recorded.lock, &text)?);
        }
        for recorded in &lock.go {
            let text = read_recorded(project, &recorded.sums, &recorded.sha256)?;
            modules.extend(parse_go_sums(&recorded.sums, &text)?);
        }
        Ok(Self { lock, crates: deduplicated(crates), modules: deduplicated(modules) })
    }

    /// Drops what only installers with Talos's own programs need.
    #[must_use]
    pub fn without_talos(self) -> Self {
        Self { modules: Vec::new(), ..self }
    }

    /// Returns every input of a build, in a fixed order.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.lock
            .entries()
            .chain(self.crates.iter().map(Crate::entry))
            .chain(self.modules.iter().map(ModuleFile::entry))
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
        let (text, sha256) = read_text(project, name)?;
        crates.extend(parse_cargo_lock(name, &text)?);
        locks.push(CargoLock { lock: name.to_owned(), sha256 });
    }
    Ok((locks, deduplicated(crates)))
}

/// Reads the lists of Go module files of `project`, and the files that they list.
///
/// # Errors
/// [`Class::BadInput`] if one is malformed.
pub fn go_sums(project: &Path) -> Result<(Vec<GoSums>, Vec<ModuleFile>)> {
    let (mut lists, mut modules) = (Vec::new(), Vec::new());
    for name in GO_SUMS {
        let (text, sha256) = read_text(project, name)?;
        modules.extend(parse_go_sums(name, &text)?);
        lists.push(GoSums { sums: name.to_owned(), sha256 });
    }
    Ok((lists, deduplicated(modules)))
}

fn deduplicated<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list.dedup();
    list
}

/// Reads a file of the project that the lock records with the digest `expected`.
fn read_recorded(project: &Path, name: &str, expected: &Sha256) -> Result<String> {
    let (text, digest) = read_text(project, name)?;
    if digest == *expected {
        return Ok(text);
    }
    Err(Error::new(Class::Verification, format!("digest mismatch for {name} in {FILE}"))
        .file(project.join(name))
        .why(format!("got {digest}\nexpected {expected}"))
        .hint(RECORD))
}

fn read_text(project: &Path, name: &str) -> Result<(String, Sha256)> {
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
        let (_, modules) = go_sums(project()).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for entry in (Inputs { lock, crates, modules }).entries() {
            assert!(seen.insert(entry.uri.clone()), "{} is duplicated", entry.uri);
        }
        assert!(seen.len() > 1000, "{}", seen.len());
    }

    /// go.sum has two lines for each version, the zip's and the go.mod's.
    #[test]
    fn every_list_of_module_files_has_what_its_go_sum_has() {
        let read = |name: &str| std::fs::read_to_string(project().join(name)).unwrap();
        let of_tests = ["etcd", "kubernetes"].map(|module| format!("tests/kubernetes/{module}/modules.sums"));
        let all = GO_SUMS.into_iter().chain(of_tests.iter().map(String::as_str));
        for list in all.filter(|list| !list.contains("/toolchain/")) {
            let files = parse_go_sums(list, &read(list)).unwrap().into_iter().map(|file| file.module());
            let listed: std::collections::BTreeSet<_> = files.collect();
            let go_sum = read(&list.replace("modules.sums", "go.sum"));
            let version = |line: &str| {
                let (module, rest) = line.split_once(' ').unwrap();
                let version = rest.split(' ').next().unwrap();
                (format!("{module}@{}", version.trim_end_matches("/go.mod")), !version.ends_with("/go.mod"))
            };
            assert_eq!(listed, go_sum.lines().map(version).collect(), "{list}");
        }
    }

    #[test]
    fn a_changed_list_of_module_files_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in GO_SUMS {
            atomic::write(&dir.path().join(name), "").unwrap();
        }
        let mut lock = read(project()).unwrap();
        (lock.cargo, lock.go) = (Vec::new(), go_sums(dir.path()).unwrap().0);
        write(dir.path(), &lock).unwrap();
        assert!(Inputs::open(dir.path()).unwrap().modules.is_empty());
        let list = format!("{}  golang.org/x/sys/@v/v0.33.0.zip\n", Sha256::of("zip"));
        atomic::write(&dir.path().join(GO_SUMS[0]), list).unwrap();
        let error = Inputs::open(dir.path()).unwrap_err();
        assert_eq!(error.class(), Class::Verification);
        assert!(
            error.to_string().contains("cni/modules.sums") && error.to_string().contains("update --offline"),
            "{error}"
        );
        lock.go = go_sums(dir.path()).unwrap().0;
        write(dir.path(), &lock).unwrap();
        let inputs = Inputs::open(dir.path()).unwrap();
        assert!(inputs.entries().any(|entry| entry.uri == "pkg:golang/golang.org/x/sys@v0.33.0"));
        assert!(!inputs.without_talos().entries().any(|entry| entry.kind == Kind::GoModule));
    }

    #[test]
    fn a_changed_cargo_lock_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in CARGO_LOCKS {
            atomic::write(&dir.path().join(name), "version = 4\n").unwrap();
        }
        let mut lock = read(project()).unwrap();
        (lock.cargo, lock.go) = (cargo_locks(dir.path()).unwrap().0, Vec::new());
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
