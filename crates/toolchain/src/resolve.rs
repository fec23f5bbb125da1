//! Resolves the package lists with a Debian archive: the only step that chooses versions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use common::{Class, Error, Result, Sha256};
use lock::{File, List, Package};

use crate::SUITE;
use crate::bootstrap::{COMMON, host, quoted};
use crate::packages::parse_list;

/// Files of packages that outputs contain unchanged: systemd's stub and boot loader, by package and path.
const FILES: [(&str, &str); 2] = [
    ("systemd-boot-efi", "usr/lib/systemd/boot/efi/linuxx64.efi.stub"),
    ("systemd-boot-efi", "usr/lib/systemd/boot/efi/systemd-bootx64.efi"),
];

/// Adds the backports of the archive in use, and installs packages from them.
const BACKPORTS: &str = r#"--customize-hook=
sed -n 's/ trixie main$/ trixie-backports main/p' "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/backports.list"
chroot "$1" apt-get update -q
chroot "$1" apt-get install -q -y --no-install-recommends"#;

/// Records the installed packages (`installed`), their index entries (`shown`), those that packages.list does not need (`beyond-packages`:
/// what apt would remove if only packages.list were installed), of these those that base.list does not need either (`beyond-base`), and the
/// digests of [`FILES`].
const RECORD: &str = r#"--customize-hook=
mkdir "$1/resolved"
chroot "$1" dpkg-query -W -f '${Package} ${Version} ${Architecture}\n' >"$1/resolved/installed"
cut -d' ' -f1,2 "$1/resolved/installed" | tr ' ' = | chroot "$1" xargs apt-cache show >"$1/resolved/shown"
cut -d' ' -f1 "$1/resolved/installed" | chroot "$1" xargs apt-mark auto >/dev/null
unneeded() {
    chroot "$1" apt-get -s -o APT::AutoRemove::RecommendsImportant=false -o APT::AutoRemove::SuggestsImportant=false autoremove |
        sed -n 's/^Remv \([^ ]*\).*/\1/p'
}
chroot "$1" apt-mark manual PACKAGES >/dev/null
unneeded "$1" >"$1/resolved/beyond-packages"
chroot "$1" apt-mark manual BASE >/dev/null
unneeded "$1" >"$1/resolved/beyond-base"
chroot "$1" sh -c 'cd / && sha256sum FILES' >"$1/resolved/files""#;

/// The lists of the toolchain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lists {
    packages: BTreeSet<String>,
    base: BTreeSet<String>,
    reference_tools: BTreeSet<String>,
}

impl Lists {
    /// Reads `packages.list`, `base.list` and `reference-tools.list` in `dir`.
    ///
    /// # Errors
    /// [`Class::BadInput`] for a malformed list.
    pub fn read(dir: &Path) -> Result<Self> {
        let list = |list: List| {
            let path = dir.join(format!("{list}.list"));
            parse_list(&fs_err::read_to_string(&path)?).map_err(|e| e.file(&path).hint("correct the file"))
        };
        let [packages, base, reference_tools] = [List::Packages, List::Base, List::ReferenceTools].map(list);
        Ok(Self { packages: packages?, base: base?, reference_tools: reference_tools? })
    }

    /// Fails unless `locked` contains every package of the lists.
    ///
    /// # Errors
    /// [`Class::Verification`] with the missing ones.
    pub fn check(&self, locked: &[Package]) -> Result<()> {
        let missing: Vec<_> = self.names().filter(|name| !locked.iter().any(|p| p.name == *name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::new(Class::Verification, "the lock is older than the toolchain's lists")
            .file(lock::FILE)
            .why(format!("it does not contain {}", missing.join(", ")))
            .hint("run `solana-talos update packages`; it needs a network"))
    }

    /// Returns the lines of all lists, each once.
    fn lines(&self) -> BTreeSet<&str> {
        [&self.packages, &self.base, &self.reference_tools].into_iter().flatten().map(String::as_str).collect()
    }

    /// Returns the names, without suites.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.lines().into_iter().map(without_suite)
    }
}

fn without_suite(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

/// The resolved lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Every package, sorted by name.
    pub packages: Vec<Package>,
    /// Files of packages that outputs contain unchanged.
    pub files: Vec<File>,
}

/// Installs the lists from Debian's archive into a temporary root filesystem and returns the installed packages. Works in `scratch`.
///
/// # Errors
/// [`Class::MissingTool`] without mmdebstrap, [`Class::Infrastructure`] if the archive cannot be reached.
pub fn resolve(lists: &Lists, scratch: &Path, line: &mut dyn FnMut(&str)) -> Result<Resolved> {
    host("mmdebstrap", &arguments(lists, scratch), line).map_err(|e| {
        Error::new(e.class(), "cannot resolve the toolchain's packages").why(&e).hint(
            "`update packages` needs a network and a Debian archive; a build does not: it uses the locked packages",
        )
    })?;
    let read = |name: &str| fs_err::read_to_string(scratch.join("resolved").join(name));
    let beyond = [read("beyond-packages")?, read("beyond-base")?];
    parse(&read("installed")?, &read("shown")?, &beyond, &read("files")?)
}

fn arguments(lists: &Lists, scratch: &Path) -> Vec<String> {
    let (other, include): (Vec<_>, Vec<_>) = lists.lines().into_iter().partition(|name| name.contains('/'));
    let words = |list: &BTreeSet<String>| list.iter().map(|name| without_suite(name)).collect::<Vec<_>>().join(" ");
    let files = FILES.map(|(_, path)| path).join(" ");
    let mut arguments: Vec<String> = COMMON.map(str::to_owned).into();
    arguments.push(r#"--aptopt=Acquire::Retries "3""#.into());
    if !other.is_empty() {
        arguments.push(format!("{BACKPORTS} {}", other.join(" ")));
    }
    let record = RECORD.replace("PACKAGES", &words(&lists.packages)).replace("BASE", &words(&lists.base));
    arguments.push(record.replace("FILES", &files));
    arguments.push(format!("--customize-hook=copy-out /resolved {}", quoted(scratch)));
    arguments.extend([format!("--include={}", include.join(",")), SUITE.into(), "/dev/null".into()]);
    arguments
}

/// Parses what [`RECORD`] wrote; `beyond` has the packages that packages.list does not need, then those that base.list does not need either.
fn parse(installed: &str, shown: &str, beyond: &[String; 2], files: &str) -> Result<Resolved> {
    let bad = |why: String| Error::new(Class::Verification, "the archive's index is malformed").why(why);
    let [beyond_packages, beyond_base] = beyond.each_ref().map(|text| text.lines().collect::<BTreeSet<_>>());
    let list = |name| match (beyond_packages.contains(name), beyond_base.contains(name)) {
        (false, _) => List::Packages,
        (true, false) => List::Base,
        (true, true) => List::ReferenceTools,
    };
    let paragraphs: Vec<_> = shown.split("\n\n").map(fields).collect();
    let mut packages = BTreeMap::new();
    for line in installed.lines() {
        let [name, version, architecture] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(bad(format!("unexpected output of dpkg-query: {line:?}")));
        };
        let has = |p: &&BTreeMap<&str, &str>, field, value| p.get(field).is_some_and(|found| *found == value);
        let paragraph = paragraphs.iter().find(|p| {
            has(p, "Package", name)
                && has(p, "Version", version)
                && has(p, "Architecture", architecture)
                && p.contains_key("SHA256")
        });
        let field = |field: &str| {
            let value = paragraph.and_then(|p| p.get(field));
            value.copied().ok_or_else(|| bad(format!("{name} {version} has no {field} in the archive's index")))
        };
        let package = Package {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            list: list(name),
            path: field("Filename")?.to_owned(),
            sha256: field("SHA256")?.parse()?,
            size: field("Size")?.parse().map_err(|e| bad(format!("{name}: invalid size: {e}")))?,
        };
        packages.insert(name.to_owned(), package);
    }
    let digest = |path: &str| -> Result<Sha256> {
        let line = files.lines().find_map(|line| line.strip_suffix(path)?.split_whitespace().next());
        line.ok_or_else(|| bad(format!("{path} is missing")))?.parse()
    };
    let file = |(package, path): (&str, &str)| -> Result<File> {
        Ok(File { package: package.to_owned(), path: path.to_owned(), sha256: digest(path)? })
    };
    let files = FILES.into_iter().map(file).collect::<Result<_>>()?;
    Ok(Resolved { packages: packages.into_values().collect(), files })
}

/// Returns the single-line fields of a paragraph (deb-control(5)).
fn fields(paragraph: &str) -> BTreeMap<&str, &str> {
    paragraph.lines().filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_once(": ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTALLED: &str = "bash 5.2-2+b10 amd64\ncosign 2.5.0 amd64\nudev 257 amd64\n";
    const SHOWN: &str = "\
Package: bash
Version: 5.3
Architecture: amd64
Filename: pool/main/b/bash_5.3.deb
Size: 1
SHA256: 0000000000000000000000000000000000000000000000000000000000000000

Package: bash
Version: 5.2-2+b10
Architecture: amd64
Description: shell
 Size: 9
Filename: pool/main/b/bash_5.2.deb
Size: 12
SHA256: 1111111111111111111111111111111111111111111111111111111111111111

Package: cosign
Version: 2.5.0
Architecture: amd64
Filename: pool/main/c/cosign.deb
Size: 3
SHA256: 2222222222222222222222222222222222222222222222222222222222222222

Package: udev
Version: 257
Architecture: amd64
Filename: pool/main/s/udev.deb
Size: 4
SHA256: 3333333333333333333333333333333333333333333333333333333333333333
";

    fn files() -> String {
        FILES.iter().map(|(_, path)| format!("{}  {path}\n", Sha256::of(path))).collect()
    }

    #[test]
    fn finds_installed_packages_in_the_index() {
        let beyond = ["cosign\nudev\n".to_owned(), "cosign\n".to_owned()];
        let resolved = parse(INSTALLED, SHOWN, &beyond, &files()).unwrap();
        let [bash, cosign, udev] = &resolved.packages[..] else { panic!("{resolved:?}") };
        assert_eq!((bash.path.as_str(), bash.size, bash.list), ("pool/main/b/bash_5.2.deb", 12, List::Packages));
        assert_eq!((cosign.name.as_str(), cosign.list), ("cosign", List::ReferenceTools));
        assert_eq!((udev.name.as_str(), udev.list), ("udev", List::Base));
        assert_eq!(resolved.files[0].sha256, Sha256::of(FILES[0].1));
    }

    #[test]
    fn what_the_archive_does_not_show_is_an_error() {
        let beyond = Default::default();
        let error =
            parse(INSTALLED, &SHOWN.replace("Version: 2.5.0", "Version: 2.6.0"), &beyond, &files()).unwrap_err();
        assert!(error.to_string().contains("cosign 2.5.0 has no"), "{error}");
        assert!(parse(INSTALLED, SHOWN, &beyond, "").unwrap_err().to_string().contains("linuxx64.efi.stub"));
    }

    #[test]
    fn the_committed_lists_are_locked() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let lists = Lists::read(dir).unwrap();
        let mut lock = lock::read(&dir.join("../..")).unwrap();
        lists.check(&lock.package).unwrap();
        lock.package.retain(|p| p.name != "clang");
        assert!(lists.check(&lock.package).unwrap_err().to_string().contains("does not contain clang"));
    }

    #[test]
    fn installs_every_package_and_names_no_archive() {
        let set = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        let lists = Lists {
            packages: set(&["clang", "kmod"]),
            base: set(&["kmod", "udev"]),
            reference_tools: set(&["cosign", "khc/trixie-backports"]),
        };
        let args = arguments(&lists, Path::new("/s"));
        assert!(args.contains(&"--include=clang,cosign,kmod,udev".to_owned()), "{args:?}");
        assert!(args.iter().any(|a| a.ends_with("--no-install-recommends khc/trixie-backports")), "{args:?}");
        assert!(args.iter().any(|a| a.contains("apt-mark manual clang kmod >")), "{args:?}");
        assert!(args.iter().any(|a| a.contains("apt-mark manual kmod udev >")), "{args:?}");
        assert!(!args.iter().any(|a| a.contains("://")), "{args:?}");
    }
}
