//! Crates out of the store: a vendored directory that cargo takes in place of the registry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::sandbox::{Run, Sandbox};
use common::stage::{Cache, Finished, Input, Stage};
use common::store::Store;
use common::{Class, Error, Result, Sha256, atomic};
use lock::Crate;

use crate::download::{Fetcher, offline};

/// Unpacks crates.
pub const STAGE: Stage = Stage::ours("crates", env!("CARGO_PKG_NAME"));

/// A crate unpacked is never larger; the largest of ours has 40 MB.
const LARGEST: u64 = 1 << 30;

/// Brings every crate into the store: out of `homes`, which are cargo's (its downloads lie there under their checksums' names), or with
/// cargo of the toolchain from the registry. `manifests` are the workspaces, by their directory.
///
/// # Errors
/// [`Class::Infrastructure`] when the registry cannot be reached or must not be asked.
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
    let mut missing = take(fetcher.store(), &missing, homes)?;
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
                .hint("check the network; without one: `solana-talos bundle load`, or --mirror DIR")
        })?;
        missing = take(fetcher.store(), &missing, &[home.path().to_owned()])?;
    }
    match missing.first() {
        None => Ok(all),
        Some(first) => Err(Error::new(Class::Verification, "cargo did not bring what Cargo.lock names").why(format!(
            "{} (sha256 {}) is not among its downloads",
            first.directory(),
            first.sha256
        ))),
    }
}

/// Stores what is among the downloads of `homes` with the right digest, and gives the rest.
fn take<'c>(store: &Store, missing: &[&'c Crate], homes: &[PathBuf]) -> Result<Vec<&'c Crate>> {
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

/// A stage whose directory `vendor` holds `crates`, unpacked out of the store.
///
/// # Errors
/// [`Class::Infrastructure`] when one is missing, [`Class::Verification`] when one is no crate.
pub fn vendor(cache: &Cache<'_>, store: &Store, crates: &[Crate]) -> Result<Finished> {
    let list: BTreeMap<_, _> = crates.iter().map(|c| (c.directory(), c.sha256.to_string())).collect();
    let list: String = list.iter().map(|(name, digest)| format!("{name} {digest}\n")).collect();
    let crates = Input::known_by([("crates", Sha256::of(list).to_string())], crates);
    let store = Input::unkeyed("it gives the crates by their digests", store);
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
        Error::new(Class::Verification, format!("the stored file of {} is no crate", wanted.directory()))
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
            return Err(bad(format!("it holds {}", path.display())));
        }
        // `unpack_in` refuses what would leave the directory.
        if !entry.unpack_in(vendor).map_err(|e| bad(e.to_string()))? {
            return Err(bad(format!("it holds {}", path.display())));
        }
    }
    // cargo's note on a vendored crate: the digest that Cargo.lock names; its files were checked with it.
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
    fn a_crate_is_unpacked_with_its_note() {
        assert_eq!(unpacked("demo-1.0.0/src/lib.rs").unwrap(), b"hi");
    }

    #[test]
    fn a_crate_that_leaves_its_directory_is_refused() {
        for path in ["other-1.0.0/src/lib.rs", "demo-1.0.0/../../evil", "/demo-1.0.0/x", "../demo-1.0.0/x"] {
            let error = unpacked(path).unwrap_err();
            assert_eq!(error.class(), Class::Verification, "{path}: {error}");
        }
    }

    #[test]
    fn a_crate_comes_out_of_cargos_downloads_only_with_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("store"), Vec::new());
        let cache = dir.path().join("home/registry/cache/index-1");
        let demo = Crate { name: "demo".into(), version: "1.0.0".into(), sha256: Sha256::of("good") };
        atomic::write(&cache.join("demo-1.0.0.crate"), "bad").unwrap();
        let homes = [dir.path().join("home")];
        assert_eq!(take(&store, &[&demo], &homes).unwrap(), [&demo]);
        atomic::write(&cache.join("demo-1.0.0.crate"), "good").unwrap();
        assert!(take(&store, &[&demo], &homes).unwrap().is_empty());
        assert!(store.path(&demo.sha256).is_file());
    }
}
