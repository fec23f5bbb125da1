//! A Debian archive of exactly the locked packages, for apt to install from: `Packages` and the files beside it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use common::store::Store;
use common::{Class, Error, Result, atomic, process};
use lock::Package;

/// Fields of the index that are ours to say.
const OURS: [&str; 3] = ["Filename:", "Size:", "SHA256:"];

/// Lays out `packages` in `dir`. Their digests in the index are the lock's, so that apt checks each file once more.
///
/// # Errors
/// [`Class::Verification`] when a file is another package than the lock says, [`Class::Infrastructure`] when one is missing.
pub fn write(dir: &Path, packages: &[Package], store: &Store) -> Result<()> {
    atomic::empty_dir(dir)?;
    let mut index = String::new();
    for package in packages {
        let Some(file) = store.find(&package.sha256)? else {
            return Err(crate::download::offline(std::iter::once(package.name.as_str())));
        };
        let name = dir.join(file_name(package));
        // The store may be on another file system.
        fs_err::hard_link(&file, &name).or_else(|_| fs_err::copy(&file, &name).map(drop))?;
        index.push_str(&paragraph(package, &control(&file)?)?);
    }
    atomic::write(&dir.join("Packages"), index)
}

/// The control file of a package (deb(5)).
fn control(file: &Path) -> Result<String> {
    let mut command = Command::new("dpkg-deb");
    command.arg("--field").arg(file).env("LC_ALL", "C");
    let (text, ended) = process::output(command).map_err(|e| crate::missing("dpkg-deb", "dpkg", &e))?;
    if !ended.status.success() {
        return Err(Error::new(Class::Verification, "a stored file is no Debian package").file(file).why(ended.tail));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The package's paragraph of the index.
fn paragraph(package: &Package, control: &str) -> Result<String> {
    let field = |name: &str| control.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    for (name, locked) in
        [("Package", &package.name), ("Version", &package.version), ("Architecture", &package.architecture)]
    {
        let found = field(name).unwrap_or("");
        if found != locked {
            return Err(Error::new(
                Class::Verification,
                format!("the package {} is not what the lock says", package.name),
            )
            .why(format!("its {name} is {found:?}, the lock says {locked:?}"))
            .hint("the lock contradicts itself: take the committed one, or make it anew with `solana-talos update`"));
        }
    }
    let mut text = String::new();
    for line in control.lines().filter(|line| !line.is_empty() && !OURS.iter().any(|ours| line.starts_with(ours))) {
        let _ = writeln!(text, "{line}");
    }
    let (name, size, digest) = (file_name(package), package.size, package.sha256);
    let _ = writeln!(text, "Filename: ./{name}\nSize: {size}\nSHA256: {digest}\n");
    Ok(text)
}

/// No name of a package in it: versions hold characters that apt reads as escapes in a path.
fn file_name(package: &Package) -> String {
    format!("{}.deb", package.sha256)
}

#[cfg(test)]
mod tests {
    use common::Sha256;
    use lock::List;

    use super::*;

    fn package() -> Package {
        Package {
            name: "clang".into(),
            version: "1:19.0-63".into(),
            architecture: "amd64".into(),
            list: List::Packages,
            path: "pool/clang.deb".into(),
            sha256: Sha256::of("clang"),
            size: 5,
        }
    }

    #[test]
    fn the_index_says_what_the_lock_says() {
        let control = "Package: clang\nVersion: 1:19.0-63\nSHA256: forged\nArchitecture: amd64\nDepends: x,\n y\n";
        let text = paragraph(&package(), control).unwrap();
        assert_eq!(
            text,
            format!(
                "Package: clang\nVersion: 1:19.0-63\nArchitecture: amd64\nDepends: x,\n y\n\
                 Filename: ./{0}.deb\nSize: 5\nSHA256: {0}\n\n",
                Sha256::of("clang")
            )
        );
    }

    #[test]
    fn another_package_under_the_digest_is_refused() {
        let error = paragraph(&package(), "Package: gcc\nVersion: 1:19.0-63\nArchitecture: amd64\n").unwrap_err();
        assert_eq!(error.class(), Class::Verification);
        assert!(error.to_string().contains("its Package is \"gcc\""), "{error}");
    }

    #[test]
    fn a_package_that_is_not_in_the_store_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("store"), Vec::new());
        let error = write(&dir.path().join("repository"), &[package()], &store).unwrap_err();
        assert!(error.to_string().contains("clang"), "{error}");
    }
}
