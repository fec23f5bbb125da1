//! Bootstraps the root filesystem once per lock and keeps it as a stage.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use common::process;
use common::sandbox::{Run, Sandbox};
use common::stage::{Cache, Input, Stage};
use common::{Class, Error, Result, Sha256, atomic};
use lock::{List, Lock};

use crate::download::{Fetcher, Origin, Wanted};
use crate::packages::Versions;
use crate::{SUITE, repository};

/// Makes the root filesystem.
pub const STAGE: Stage = Stage::recipe("toolchain");

/// Bumped when the way the root filesystem is made changes.
const RECIPE: &str = "3";
/// The directory of the locked packages, beside the root filesystem that is made and inside it while it is made.
const LOCKED: &str = "locked";

/// What every run of mmdebstrap is told, whether it resolves or installs.
pub(crate) const COMMON: [&str; 8] = [
    "--variant=apt",
    "--architectures=amd64",
    r#"--aptopt=APT::Install-Recommends "false""#,
    // A half-made tree is thrown away whole, so dpkg need not sync every file.
    "--dpkgopt=force-unsafe-io",
    // Manual pages, translations and docs of 400 packages are a third of the tree.
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
];

/// Gives apt the locked packages and nothing else. The lock's digests are the trust; no signature is added by a key made up on the spot.
const SOURCES: &str = r#"--setup-hook=
echo "deb [trusted=yes] file:$1/locked ./" >"$1/etc/apt/sources.list"
rm -f "$1"/etc/apt/sources.list.d/*"#;

/// What is only there for the installation. The root filesystem names no archive: nothing is ever installed into it.
const CLEAN: &str = r#"--customize-hook=
rm -r "$1/locked"
echo '# Made of the packages that solana-talos.lock names.' >"$1/etc/apt/sources.list""#;

/// A bootstrapped toolchain.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// Runs programs in it.
    pub sandbox: Sandbox,
    /// What is installed in it.
    pub versions: Versions,
    /// Digest of the locked versions of everything but the judges.
    pub identity: Sha256,
    /// Key of its stage: every package file by digest.
    pub key: Sha256,
}

/// The toolchain of `lock`; made, of packages out of the store or fetched into it, if it is not in the cache.
///
/// # Errors
/// [`Class::MissingTool`] without mmdebstrap, [`Class::Infrastructure`] when a package cannot be had, [`Class::Verification`] when what is
/// installed is not what the lock says.
pub fn bootstrap(lock: &Lock, fetcher: &Fetcher<'_>, cache: &Cache<'_>) -> Result<Toolchain> {
    let fetcher = Input::unkeyed("it brings the packages by the digests that the lock has", fetcher);
    let stage = cache.run(STAGE, (inputs(lock), fetcher), |work, ((_, _, lock), fetcher)| {
        common::sandbox::ready()?;
        fetcher.fetch(&wanted(&lock))?;
        let (locked, tar) = (work.dir().join(LOCKED), work.dir().join("rootfs.tar"));
        repository::write(&locked, &lock.package, fetcher.store())?;
        let (mut installing, lines) = (Installing::new(lock.package.len()), work.lines());
        host("mmdebstrap", &mmdebstrap_arguments(&lock, &locked, &tar), &mut |line| lines(&installing.line(line)))?;
        atomic::remove_dir(&locked)?;
        work.lines()("unpacking the root filesystem");
        unpack(work.dir(), &tar, work.lines())?;
        check(&lock, &Sandbox::new(work.dir().join("rootfs")))?;
        atomic::write(&work.dir().join("versions"), Versions::of(&lock, |_| true).to_string())
    })?;
    let versions = Versions::of(lock, |_| true);
    let identity = Versions::of(lock, |list| list == List::Packages).digest();
    Ok(Toolchain { sandbox: Sandbox::new(stage.dir.join("rootfs")), versions, identity, key: stage.key })
}

/// Every package of the toolchain, as something to fetch.
#[must_use]
pub fn wanted(lock: &Lock) -> Vec<Wanted> {
    let file = |p: &lock::Package| Wanted {
        name: format!("{} {}", p.name, p.version),
        sha256: p.sha256,
        origin: Origin::DebianPool(p.path.clone()),
    };
    lock.package.iter().map(file).collect()
}

/// Forgets the bootstrapped toolchain, so that the next [`bootstrap`] makes it anew.
///
/// # Errors
/// [`Class::Infrastructure`] when it cannot be removed.
pub fn forget(lock: &Lock, cache: &Cache<'_>) -> Result<()> {
    match cache.find(STAGE, &inputs(lock))? {
        Some(stage) => atomic::remove_dir(&stage.dir),
        None => Ok(()),
    }
}

/// Looks again at a toolchain that was made earlier: what dpkg has installed, and the files that outputs hold byte for byte.
///
/// # Errors
/// [`Class::Verification`] naming what is not as locked.
pub fn verify(lock: &Lock, sandbox: &Sandbox) -> Result<()> {
    check(lock, sandbox)
}

fn check(lock: &Lock, sandbox: &Sandbox) -> Result<()> {
    let wrong = |why: String| {
        Error::new(Class::Verification, "the toolchain is not what the lock says")
            .why(why)
            .hint("make it anew with `solana-talos toolchain refresh`; if it stays, the lock contradicts itself: `solana-talos update`")
    };
    let text = sandbox.output(&Run::new(["dpkg-query", "-W", "-f", "${Package} ${Version}\\n"]))?;
    let differences = Versions::parse(&String::from_utf8_lossy(&text))?.differences(&Versions::of(lock, |_| true));
    if !differences.is_empty() {
        return Err(wrong(differences.join("\n")));
    }
    for file in &lock.file {
        let found = Sha256::of_file(&sandbox.rootfs().join(&file.path))?;
        if found != file.sha256 {
            return Err(wrong(format!("{}: its sha256 is {found}, the lock says {}", file.path, file.sha256)));
        }
    }
    Ok(())
}

/// Of the lock: its packages. Files that are checked after the installation come with those.
fn inputs(lock: &Lock) -> (Input<String>, Input<String>, Input<&Lock>) {
    let line = |p: &lock::Package| format!("{} {} {} {}\n", p.name, p.version, p.architecture, p.sha256);
    let packages = Sha256::of(lock.package.iter().map(line).collect::<String>()).to_string();
    (Input::text("suite", SUITE), Input::text("recipe", RECIPE), Input::known_by([("packages", packages)], lock))
}

/// mmdebstrap's arguments; the hooks it performs itself, such as `copy-in`, reach the files of a user whose home nobody else may enter.
fn mmdebstrap_arguments(lock: &Lock, locked: &Path, tar: &Path) -> Vec<String> {
    let names: Vec<_> = lock.package.iter().map(|p| p.name.as_str()).collect();
    let mut arguments: Vec<String> = COMMON.map(str::to_owned).into();
    // Shows what apt and dpkg print.
    arguments.push("--verbose".to_owned());
    arguments.push(format!("--setup-hook=copy-in {} /", quoted(locked)));
    arguments.extend([SOURCES.into(), CLEAN.into(), format!("--include={}", names.join(","))]);
    arguments.extend([SUITE.into(), tar.display().to_string()]);
    arguments
}

/// Counts packages in the output of dpkg.
struct Installing {
    packages: usize,
    unpacked: BTreeSet<String>,
    ready: usize,
}

impl Installing {
    fn new(packages: usize) -> Self {
        Self { packages, unpacked: BTreeSet::new(), ready: 0 }
    }

    /// The line, or what it says about how far the installation is.
    fn line<'l>(&mut self, line: &'l str) -> Cow<'l, str> {
        let package = |prefix| Some(line.strip_prefix(prefix)?.split([' ', ':']).next()?.to_owned());
        let all = self.packages;
        if let Some(name) = package("Unpacking ") {
            // The essential ones are unpacked twice.
            let text = |done| format!("unpacking packages, {done} of {all}: {name}");
            self.unpacked.insert(name.clone());
            return Cow::Owned(text(self.unpacked.len()));
        }
        if let Some(name) = package("Setting up ") {
            self.ready += 1;
            return Cow::Owned(format!("setting up packages, {} of {all}: {name}", self.ready));
        }
        Cow::Borrowed(line)
    }
}

/// For mmdebstrap, which splits its own hooks as a shell would.
pub(crate) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
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

pub(crate) fn host(program: &str, arguments: &[String], line: &mut dyn FnMut(&str)) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).env("SOURCE_DATE_EPOCH", "0").env("LC_ALL", "C");
    let ended = process::stream(command, line).map_err(|e| crate::missing(program, program, &e))?;
    if ended.status.success() {
        return Ok(());
    }
    Err(Error::new(Class::Infrastructure, format!("{program} failed with {} while making the toolchain", ended.status))
        .why(ended.tail)
        .hint("check the free disk space, and the network if this was an update; then run the same command again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> Lock {
        lock::read(Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()).unwrap()
    }

    #[test]
    fn names_no_archive_and_takes_every_package() {
        let lock = committed();
        let args = mmdebstrap_arguments(&lock, Path::new("/it's/locked"), Path::new("/x.tar"));
        assert!(args.contains(&r"--setup-hook=copy-in '/it'\''s/locked' /".to_owned()), "{args:?}");
        let include = args.iter().find_map(|a| a.strip_prefix("--include=")).unwrap();
        assert_eq!(include.split(',').count(), lock.package.len());
        assert!(!args.iter().any(|a| a.contains("://")), "{args:?}");
        assert_eq!(&args[args.len() - 2..], ["trixie", "/x.tar"]);
    }

    #[test]
    fn packages_are_counted() {
        let mut installing = Installing::new(305);
        let mut said = |line| installing.line(line).into_owned();
        assert_eq!(said("Unpacking libc6:amd64 (2.41-12) ..."), "unpacking packages, 1 of 305: libc6");
        assert_eq!(said("Unpacking libc6:amd64 (2.41-12) over (2.41-12) ..."), "unpacking packages, 1 of 305: libc6");
        assert_eq!(said("Unpacking bash (5.2) ..."), "unpacking packages, 2 of 305: bash");
        assert_eq!(said("Setting up bash (5.2) ..."), "setting up packages, 1 of 305: bash");
        assert_eq!(said("Setting up"), "Setting up");
    }

    #[test]
    fn a_missing_program_says_what_to_install() {
        let error = host("no-such-program", &[], &mut |_| ()).unwrap_err();
        assert_eq!(error.class(), Class::MissingTool);
        assert!(error.to_string().contains("install the package no-such-program"), "{error}");
    }

    #[test]
    fn the_key_is_of_the_files_and_the_identity_of_what_makes_outputs() {
        let lock = committed();
        let (mut bytes, mut judge) = (lock.clone(), lock.clone());
        bytes.package[0].sha256 = Sha256::of("other");
        let key = |lock| format!("{:?}", inputs(lock));
        assert_ne!(key(&lock), key(&bytes));
        let cosign = judge.package.iter_mut().find(|p| p.list == List::Judges).unwrap();
        cosign.version.push_str("+b1");
        let identity = |lock| Versions::of(lock, |list| list == List::Packages).digest();
        assert_eq!(identity(&lock), identity(&judge));
        assert_ne!(key(&lock), key(&judge));
    }
}
