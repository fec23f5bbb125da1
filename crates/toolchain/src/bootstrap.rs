//! Bootstraps the root filesystem, a stage keyed by the lock's packages.

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
/// Directory of the locked packages: in the stage, and in the root filesystem during the installation.
const LOCKED: &str = "locked";

/// Arguments of every run of mmdebstrap.
pub(crate) const COMMON: [&str; 8] = [
    "--variant=apt",
    "--architectures=amd64",
    r#"--aptopt=APT::Install-Recommends "false""#,
    // An incomplete tree is discarded, so dpkg need not sync every file.
    "--dpkgopt=force-unsafe-io",
    // Manual pages, translations and docs are a third of the tree.
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
];

/// Configures the locked packages as apt's only source. They are trusted by the lock's digests, so the index needs no signature.
const SOURCES: &str = r#"--setup-hook=
echo "deb [trusted=yes] file:$1/locked ./" >"$1/etc/apt/sources.list"
rm -f "$1"/etc/apt/sources.list.d/*"#;

/// Removes the sources of the installation: nothing is ever installed into the root filesystem afterwards.
const CLEAN: &str = r#"--customize-hook=
rm -r "$1/locked"
echo '# Made of the packages that solana-talos.lock names.' >"$1/etc/apt/sources.list""#;

/// A bootstrapped toolchain.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// Runs programs in it.
    pub sandbox: Sandbox,
    /// Installed packages.
    pub versions: Versions,
    /// Digest of the locked versions of packages.list.
    pub identity: Sha256,
    /// Digest of the locked versions of packages.list and base.list.
    pub base_identity: Sha256,
    /// Key of its stage, with the digest of every package file.
    pub key: Sha256,
}

/// Returns the toolchain of `lock` from the cache, or makes it, fetching missing packages.
///
/// # Errors
/// [`Class::MissingTool`] without mmdebstrap, [`Class::Infrastructure`] if a package is not available, [`Class::Verification`] if the
/// installed packages do not match the lock.
pub fn bootstrap(lock: &Lock, fetcher: &Fetcher<'_>, cache: &Cache<'_>) -> Result<Toolchain> {
    let fetcher = Input::unkeyed("it fetches the packages by the lock's digests", fetcher);
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
        verify(&lock, &Sandbox::new(work.dir().join("rootfs")))?;
        atomic::write(&work.dir().join("versions"), Versions::of(&lock, |_| true).to_string())
    })?;
    let [identity, base_identity] = identities(lock);
    Ok(Toolchain {
        sandbox: Sandbox::new(stage.dir.join("rootfs")),
        versions: Versions::of(lock, |_| true),
        identity,
        base_identity,
        key: stage.key,
    })
}

fn identity(lock: &Lock, lists: &[List]) -> Sha256 {
    Versions::of(lock, |list| lists.contains(&list)).digest()
}

/// Returns the package files to fetch.
#[must_use]
pub fn wanted(lock: &Lock) -> Vec<Wanted> {
    let file = |p: &lock::Package| Wanted {
        name: format!("{} {}", p.name, p.version),
        sha256: p.sha256,
        origin: Origin::DebianPool(p.path.clone()),
    };
    lock.package.iter().map(file).collect()
}

/// Removes the toolchain from the cache; the next [`bootstrap`] makes it again.
pub fn forget(lock: &Lock, cache: &Cache<'_>) -> Result<()> {
    match cache.find(STAGE, &inputs(lock))? {
        Some(stage) => atomic::remove_dir(&stage.dir),
        None => Ok(()),
    }
}

/// Returns the key of the stage that makes the toolchain of `lock`.
pub fn key(lock: &Lock, cache: &Cache<'_>) -> Result<Sha256> {
    cache.key(STAGE, &inputs(lock))
}

/// Returns what the keys of other stages have of the toolchain of `lock`: [`Toolchain::identity`], or [`Toolchain::base_identity`].
#[must_use]
pub fn identities(lock: &Lock) -> [Sha256; 2] {
    [identity(lock, &[List::Packages]), identity(lock, &[List::Packages, List::Base])]
}

/// Verifies the installed packages, and the files that outputs contain unchanged.
///
/// # Errors
/// [`Class::Verification`] for a difference to the lock.
pub fn verify(lock: &Lock, sandbox: &Sandbox) -> Result<()> {
    let wrong = |why: String| {
        Error::new(Class::Verification, "the toolchain does not match the lock").why(why).hint(
            "run `solana-talos toolchain refresh`; if that fails too, the lock is inconsistent: `solana-talos update`",
        )
    };
    let text = sandbox.output(&Run::new(["dpkg-query", "-W", "-f", "${Package} ${Version}\\n"]))?;
    let differences = Versions::parse(&String::from_utf8_lossy(&text))?.differences(&Versions::of(lock, |_| true));
    if !differences.is_empty() {
        return Err(wrong(differences.join("\n")));
    }
    for file in &lock.file {
        let found = Sha256::of_file(&sandbox.rootfs().join(&file.path))?;
        if found != file.sha256 {
            return Err(wrong(format!("{}: got {found}, expected {}", file.path, file.sha256)));
        }
    }
    Ok(())
}

/// The keyed inputs: the packages of the lock, which contain its files. The list of a package is not part of the key.
fn inputs(lock: &Lock) -> (Input<String>, Input<String>, Input<&Lock>) {
    let line = |p: &lock::Package| format!("{} {} {} {}\n", p.name, p.version, p.architecture, p.sha256);
    let packages = Sha256::of(lock.package.iter().map(line).collect::<String>()).to_string();
    (Input::text("suite", SUITE), Input::text("recipe", RECIPE), Input::known_by([("packages", packages)], lock))
}

/// Returns mmdebstrap's arguments. Its built-in hooks, such as `copy-in`, can read files in a private home directory.
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

    /// Returns the progress that `line` reports, or the line itself.
    fn line<'l>(&mut self, line: &'l str) -> Cow<'l, str> {
        let package = |prefix| Some(line.strip_prefix(prefix)?.split([' ', ':']).next()?.to_owned());
        let all = self.packages;
        if let Some(name) = package("Unpacking ") {
            // Essential packages are unpacked twice.
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

/// Quotes a path for mmdebstrap, which splits its built-in hooks like a shell.
pub(crate) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// Unpacks as the calling user, so that a rootless build owns its toolchain; the sandbox provides device nodes.
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
    fs_err::remove_file(tar)?;
    Ok(fs_err::create_dir_all(rootfs.join("build"))?)
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
    fn installs_every_package_and_names_no_archive() {
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
        let mut shown = |line| installing.line(line).into_owned();
        assert_eq!(shown("Unpacking libc6:amd64 (2.41-12) ..."), "unpacking packages, 1 of 305: libc6");
        assert_eq!(shown("Unpacking libc6:amd64 (2.41-12) over (2.41-12) ..."), "unpacking packages, 1 of 305: libc6");
        assert_eq!(shown("Unpacking bash (5.2) ..."), "unpacking packages, 2 of 305: bash");
        assert_eq!(shown("Setting up bash (5.2) ..."), "setting up packages, 1 of 305: bash");
        assert_eq!(shown("Setting up"), "Setting up");
    }

    #[test]
    fn the_error_of_a_missing_program_names_its_package() {
        let error = host("no-such-program", &[], &mut |_| ()).unwrap_err();
        assert_eq!(error.class(), Class::MissingTool);
        assert!(error.to_string().contains("install the package no-such-program"), "{error}");
    }

    #[test]
    fn the_key_covers_all_files_and_the_identity_what_makes_outputs() {
        let lock = committed();
        let (mut bytes, mut other_list, mut tool) = (lock.clone(), lock.clone(), lock.clone());
        bytes.package[0].sha256 = Sha256::of("other");
        let key = |lock| format!("{:?}", inputs(lock));
        assert_ne!(key(&lock), key(&bytes));
        other_list.package[0].list = List::ReferenceTools;
        assert_eq!(key(&lock), key(&other_list));
        let newer = |lock: &mut Lock, list| {
            lock.package.iter_mut().find(|p| p.list == list).unwrap().version.push_str("+b1");
        };
        let lists = [List::Packages, List::Base];
        newer(&mut tool, List::ReferenceTools);
        assert_eq!(identity(&lock, &lists), identity(&tool, &lists));
        assert_ne!(key(&lock), key(&tool));
        newer(&mut tool, List::Base);
        assert_eq!(identity(&lock, &[List::Packages]), identity(&tool, &[List::Packages]));
        assert_ne!(identity(&lock, &lists), identity(&tool, &lists));
        newer(&mut tool, List::Packages);
        assert_ne!(identity(&lock, &[List::Packages]), identity(&tool, &[List::Packages]));
    }
}
