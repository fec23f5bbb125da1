//! Bootstraps the root filesystem once per package list and keeps it as a stage.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use common::event::Event;
use common::process;
use common::sandbox::{Run, Sandbox};
use common::stage::{Cache, Fingerprint, Leftover};
use common::{Class, Error, Result, Sha256, atomic};

use crate::packages::{Drift, Versions, parse_list};

/// Debian suite of the toolchain.
const SUITE: &str = "trixie";
/// Bumped when the way the root filesystem is made changes.
const RECIPE: &str = "2";

/// Adds Debian's backports from the archive that is in use, whatever its address, and installs packages from them.
const BACKPORTS: &str = r#"--customize-hook=
sed -n 's/ trixie main$/ trixie-backports main/p' "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/backports.list"
chroot "$1" apt-get update -q
chroot "$1" apt-get install -q -y --no-install-recommends"#;

/// A bootstrapped toolchain.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// Runs programs in it.
    pub sandbox: Sandbox,
    /// What is installed in it.
    pub versions: Versions,
    /// Digest of the installed versions of everything but the judges.
    pub identity: Sha256,
    /// How that differs from `packages.lock`.
    pub drift: Drift,
}

/// The toolchain described by `packages.list`, `judges.list` and `packages.lock` in `dir`; bootstrapped if it is not in the cache.
///
/// # Errors
/// [`Class::MissingTool`] without mmdebstrap, [`Class::Infrastructure`] when the archive cannot be reached.
pub fn bootstrap(dir: &Path, cache: &Cache<'_>) -> Result<Toolchain> {
    let packages = packages(dir)?;
    let locked = read_with(&dir.join("packages.lock"), Versions::parse)?;
    let fingerprint = fingerprint(&packages);
    let stage = cache.run(&fingerprint, Leftover::Discard, |work, line| {
        common::sandbox::ready()?;
        let tar = work.join("rootfs.tar");
        host("mmdebstrap", &mmdebstrap_arguments(packages.iter().map(String::as_str), &tar), line)?;
        unpack(work, &tar, line)?;
        let sandbox = Sandbox::new(work.join("rootfs"));
        let versions = sandbox.output(&Run::new(["dpkg-query", "-W", "-f", "${Package} ${Version}\\n"]))?;
        atomic::write(&work.join("versions"), Versions::parse(&String::from_utf8_lossy(&versions))?.to_string())
    })?;
    let versions = Versions::parse(&read(&stage.dir.join("versions"))?)?;
    let drift = versions.drift_from(&locked);
    if !drift.is_none() {
        cache.sink().emit(&Event::Warning {
            message: &format!("toolchain: {drift}; outputs may differ from the recorded ones (`solana-talos toolchain refresh` makes it anew, `toolchain update` records what is installed)"),
        });
    }
    let identity = versions.identity(&judges(dir)?);
    Ok(Toolchain { sandbox: Sandbox::new(stage.dir.join("rootfs")), versions, identity, drift })
}

/// Forgets the bootstrapped toolchain, so that the next [`bootstrap`] takes what the archive has today.
///
/// # Errors
/// [`Class::Infrastructure`] when it cannot be removed.
pub fn forget(dir: &Path, cache: &Cache<'_>) -> Result<()> {
    match cache.find(&fingerprint(&packages(dir)?)) {
        Some(stage) => atomic::remove_dir(&stage.dir),
        None => Ok(()),
    }
}

/// Everything to be installed.
fn packages(dir: &Path) -> Result<BTreeSet<String>> {
    let mut packages = read_with(&dir.join("packages.list"), parse_list)?;
    packages.append(&mut judges(dir)?);
    Ok(packages)
}

/// What is no part of any output.
fn judges(dir: &Path) -> Result<BTreeSet<String>> {
    read_with(&dir.join("judges.list"), parse_list)
}

/// The recorded versions are no part of it: they are checked after the fact, since an archive offers only its newest.
fn fingerprint(packages: &BTreeSet<String>) -> Fingerprint {
    Fingerprint::new("toolchain")
        .with("suite", SUITE)
        .with("recipe", RECIPE)
        .with("packages", packages.iter().cloned().collect::<Vec<_>>().join(" "))
}

/// mmdebstrap's arguments; without a mirror it takes Debian's own with updates and security.
fn mmdebstrap_arguments<'a>(packages: impl Iterator<Item = &'a str>, tar: &Path) -> Vec<String> {
    let (backports, include): (Vec<_>, Vec<_>) = packages.partition(|name| name.contains('/'));
    vec![
        "--variant=apt".into(),
        "--architectures=amd64".into(),
        r#"--aptopt=APT::Install-Recommends "false""#.into(),
        r#"--aptopt=Acquire::Retries "3""#.into(),
        // A half-made tree is thrown away whole, so dpkg need not sync every file.
        "--dpkgopt=force-unsafe-io".into(),
        // Manual pages, translations and docs of 400 packages are a third of the tree.
        "--dpkgopt=path-exclude=/usr/share/man/*".into(),
        "--dpkgopt=path-exclude=/usr/share/locale/*".into(),
        "--dpkgopt=path-exclude=/usr/share/doc/*".into(),
        "--dpkgopt=path-include=/usr/share/doc/*/copyright".into(),
        format!("{BACKPORTS} {}", backports.join(" ")),
        format!("--include={}", include.join(",")),
        SUITE.into(),
        tar.display().to_string(),
    ]
}

/// Unpacks as the calling user, so that a rootless build owns its toolchain; device nodes come from the sandbox.
fn unpack(work: &Path, tar: &Path, line: &mut dyn FnMut(&str)) -> Result<()> {
    let rootfs = work.join("rootfs");
    atomic::empty_dir(&rootfs)?;
    let arguments = [
        "-xf",
        &tar.display().to_string(),
        "-C",
        &rootfs.display().to_string(),
        "--exclude=./dev/*",
        "--no-same-owner",
    ];
    host("tar", &arguments.map(str::to_owned), line)?;
    std::fs::remove_file(tar).map_err(|e| Error::io("cannot remove a temporary file", tar, &e))?;
    let mount_point = rootfs.join("build");
    std::fs::create_dir_all(&mount_point).map_err(|e| Error::io("cannot make a mount point", &mount_point, &e))
}

fn host(program: &str, arguments: &[String], line: &mut dyn FnMut(&str)) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).env("SOURCE_DATE_EPOCH", "0").env("LC_ALL", "C");
    let ended = process::stream(command, line).map_err(|e| {
        Error::new(Class::MissingTool, format!("cannot start {program}"))
            .why(e)
            .hint(format!("install the package {program}; `./x` does it for you"))
    })?;
    if ended.status.success() {
        return Ok(());
    }
    Err(Error::new(Class::Infrastructure, format!("{program} failed with {} while making the toolchain", ended.status))
        .why(ended.tail)
        .hint("check the network and the free disk space, then run the same command again"))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::io("cannot read the toolchain's description", path, &e))
}

fn read_with<T>(path: &Path, parse: impl Fn(&str) -> Result<T>) -> Result<T> {
    parse(&read(path)?).map_err(|e| e.file(path).hint("correct the file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_no_mirror_and_takes_every_package() {
        let args = mmdebstrap_arguments(["clang", "khc/trixie-backports", "lld"].into_iter(), Path::new("/x.tar"));
        assert!(args.iter().any(|a| a.ends_with("--no-install-recommends khc/trixie-backports")), "{args:?}");
        assert!(args.contains(&"--include=clang,lld".to_owned()));
        assert!(!args.iter().any(|a| a.contains("://")), "{args:?}");
        assert_eq!(&args[args.len() - 2..], ["trixie", "/x.tar"]);
    }

    #[test]
    fn a_missing_program_says_what_to_install() {
        let error = host("no-such-program", &[], &mut |_| ()).unwrap_err();
        assert_eq!(error.class(), Class::MissingTool);
        assert!(error.to_string().contains("install the package no-such-program"), "{error}");
    }

    #[test]
    fn the_committed_list_is_readable() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let packages = packages(dir).unwrap();
        let locked = Versions::parse(&read(&dir.join("packages.lock")).unwrap()).unwrap();
        for package in &packages {
            let package = package.split('/').next().unwrap();
            assert!(
                locked.get(package).is_some(),
                "{package} is not in packages.lock: run `solana-talos toolchain update`"
            );
        }
    }
}
