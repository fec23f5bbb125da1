//! Fetches crates into the store, and vendors them from there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::sandbox::{Run, Sandbox};
use common::stage::{Cache, Finished, Input, Stage};
use common::store::Store;
use common::{Class, Error, Result, Sha256, atomic};
use lock::Crate;

use crate::download::{Fetcher, offline};

/// The vendored crates.
pub const STAGE: Stage = Stage::ours("crates", env!("CARGO_PKG_NAME"));

/// Maximum unpacked size of a crate; the largest of ours has 40 MB.
const LARGEST: u64 = 1 << 30;

/// Brings every crate into the store, from the cargo homes `homes` or with `cargo fetch` in the toolchain. `workspaces` are directories.
/// Returns the number of new crates.
///
/// # Errors
/// [`Class::Infrastructure`] if the registry cannot be reached, or with `--offline`.
pub fn fetch(
    sandbox: &Sandbox,
    fetcher: &Fetcher<'_>,
    crates: &[Crate],
    workspaces: &[PathBuf],
    homes: &[PathBuf],
    line: &mut dyn FnMut(&str),
) -> Result<usize> {
    let mut missing = Vec::new();
    for wanted in crates {
        if fetcher.store().find(&wanted.sha256)?.is_none() {
            missing.push(wanted);
        }
    }
    let all = missing.len();
    let mut missing = import(fetcher.store(), &missing, homes)?;
    if missing.is_empty() {
        return Ok(all);
    }
    if fetcher.is_offline() {
        return Err(offline(missing.iter().map(|c| c.name.as_str())));
    }
    let home = tempfile::tempdir()?;
    for workspace in workspaces {
        let run = Run::new(["cargo", "fetch", "--locked", "--manifest-path", "/build/workspace/Cargo.toml"])
            .env("CARGO_HOME", "/build/cargo")
            .read(workspace, "/build/workspace")
            .write(home.path(), "/build/cargo")
            .with_network();
        sandbox.run(&run, line).map_err(|e| {
            Error::new(Class::Infrastructure, "cannot fetch the crates")
                .why(e)
                .hint("check the network; without network use `solana-talos bundle load` or --mirror DIR")
        })?;
        missing = import(fetcher.store(), &missing, &[home.path().to_owned()])?;
    }
    match missing.first() {
        None => Ok(all),
        Some(first) => Err(Error::new(Class::Verification, "cargo did not download a crate of Cargo.lock")
            .why(format!("{} (sha256 {}) is missing", first.directory(), first.sha256))),
    }
}

/// Stores the crates found in the caches of `homes` with the right digest, and returns the missing ones.
fn import<'c>(store: &Store, missing: &[&'c Crate], homes: &[PathBuf]) -> Result<Vec<&'c Crate>> {
    let caches: Vec<PathBuf> = homes.iter().flat_map(|home| subdirectories(&home.join("registry/cache"))).collect();
    let mut left = Vec::new();
    for &wanted in missing {
        let file = format!("{}.crate", wanted.directory());
        let found = caches
            .iter()
            .map(|dir| dir.join(&file))
            .find(|path| path.is_file() && Sha256::of_file(path).is_ok_and(|digest| digest == wanted.sha256));
        match found {
            Some(path) => drop(store.insert(&path, &wanted.sha256)?),
            None => left.push(wanted),
        }
    }
    Ok(left)
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).map_or_else(|_| Vec::new(), |all| all.flatten().map(|entry| entry.path()).collect())
}

/// Makes a stage whose directory `vendor` contains `crates`, unpacked from the store.
///
/// # Errors
/// [`Class::Infrastructure`] if one is missing, [`Class::Verification`] if one is malformed.
pub fn vendor(cache: &Cache<'_>, store: &Store, crates: &[Crate]) -> Result<Finished> {
    let list: BTreeMap<_, _> = crates.iter().map(|c| (c.directory(), c.sha256.to_string())).collect();
    let list: String = list.iter().map(|(name, digest)| format!("{name} {digest}\n")).collect();
    let crates = Input::known_by([("crates", Sha256::of(list).to_string())], crates);
    let store = Input::unkeyed("it contains the crates by their digests", store);
    cache.run(STAGE, (crates, store), |work, (crates, store)| {
        let vendor = work.empty_dir("vendor")?;
        for wanted in *crates {
            let file = store.find(&wanted.sha256)?.ok_or_else(|| offline(std::iter::once(wanted.name.as_str())))?;
            unpack(&file, wanted, &vendor)?;
        }
        Ok(())
    })
}

/// Unpacks a `.crate` file: a gzip tar of one directory, `<name>-<version>`.
fn unpack(file: &Path, wanted: &Crate, vendor: &Path) -> Result<()> {
    use std::io::Read as _;
    let bad = |why: String| {
        Error::new(Class::Verification, format!("the stored crate {} is malformed", wanted.directory()))
            .file(file)
            .why(why)
    };
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs_err::File::open(file)?).take(LARGEST));
    archive.set_preserve_mtime(false);
    for entry in archive.entries()? {
        let mut entry = entry.map_err(|e| bad(e.to_string()))?;
        let path = entry.path().map_err(|e| bad(e.to_string()))?.into_owned();
        let kind = entry.header().entry_type();
        if !path.starts_with(wanted.directory()) || !(kind.is_file() || kind.is_dir()) {
            return Err(bad(format!("unexpected member {}", path.display())));
        }
        // False for a path outside the directory.
        if !entry.unpack_in(vendor).map_err(|e| bad(e.to_string()))? {
            return Err(bad(format!("unexpected member {}", path.display())));
        }
    }
    // cargo requires this file in a vendored crate; the files were verified with the crate's digest.
    let note = format!(r#"{{"files":{{}},"package":"{}"}}"#, wanted.sha256);
    atomic::write(&vendor.join(wanted.directory()).join(".cargo-checksum.json"), note)
}

#[cfg(test)]
mod tests {
    use common::event::Silent;
    use common::stage::Sources;

    use super::*;

    /// A `.crate` file with one file at `path`.
    fn crate_file(path: &str) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        let name = &mut header.as_gnu_mut().unwrap().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(2);
        header.set_mode(0o644);
        header.set_cksum();
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut archive = tar::Builder::new(gzip);
        archive.append(&header, &b"hi"[..]).unwrap();
        archive.into_inner().unwrap().finish().unwrap()
    }

    fn unpacked(path: &str) -> Result<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let bytes = crate_file(path);
        let wanted = Crate { name: "demo".into(), version: "1.0.0".into(), sha256: Sha256::of(&bytes) };
        std::fs::write(dir.path().join(wanted.sha256.to_string()), &bytes).unwrap();
        let store = Store::new(dir.path().join("store"), vec![dir.path().to_owned()]);
        let cache = Cache::new(dir.path(), &Silent, Sources::new(concat!(env!("CARGO_PKG_NAME"), " x")));
        let stage = vendor(&cache, &store, &[wanted])?;
        let note = std::fs::read_to_string(stage.dir.join("vendor/demo-1.0.0/.cargo-checksum.json")).unwrap();
        assert!(note.contains(&Sha256::of(&bytes).to_string()), "{note}");
        Ok(std::fs::read(stage.dir.join("vendor/demo-1.0.0/src/lib.rs")).unwrap())
    }

    #[test]
    fn a_crate_is_unpacked_with_its_checksum_file() {
        assert_eq!(unpacked("demo-1.0.0/src/lib.rs").unwrap(), b"hi");
    }

    #[test]
    fn a_crate_with_paths_outside_its_directory_is_refused() {
        for path in ["other-1.0.0/src/lib.rs", "demo-1.0.0/../../evil", "/demo-1.0.0/x", "../demo-1.0.0/x"] {
            let error = unpacked(path).unwrap_err();
            assert_eq!(error.class(), Class::Verification, "{path}: {error}");
        }
    }

    #[test]
    fn a_crate_is_imported_from_cargo_only_with_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("store"), Vec::new());
        let cache = dir.path().join("home/registry/cache/index-1");
        let demo = Crate { name: "demo".into(), version: "1.0.0".into(), sha256: Sha256::of("good") };
        atomic::write(&cache.join("demo-1.0.0.crate"), "bad").unwrap();
        let homes = [dir.path().join("home")];
        assert_eq!(import(&store, &[&demo], &homes).unwrap(), [&demo]);
        atomic::write(&cache.join("demo-1.0.0.crate"), "good").unwrap();
        assert!(import(&store, &[&demo], &homes).unwrap().is_empty());
        assert!(store.path(&demo.sha256).is_file());
    }
}
