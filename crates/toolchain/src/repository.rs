//! A local Debian archive of exactly the locked packages, for apt: `Packages` and the package files.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use common::store::Store;
use common::{Class, Error, Result, atomic, process};
use lock::Package;

/// Fields of the index that are taken from the lock.
const FROM_LOCK: [&str; 3] = ["Filename:", "Size:", "SHA256:"];

/// Writes the archive of `packages` to `dir`. The index has the lock's digests, so apt verifies each file again.
///
/// # Errors
/// [`Class::Verification`] if a file is another package than locked, [`Class::Infrastructure`] if one is missing.
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

/// Returns the control file of a package (deb(5)).
fn control(file: &Path) -> Result<String> {
    let mut command = Command::new("dpkg-deb");
    command.arg("--field").arg(file).env("LC_ALL", "C");
    let (text, ended) = process::output(command).map_err(|e| crate::missing("dpkg-deb", "dpkg", &e))?;
    if !ended.status.success() {
        return Err(Error::new(Class::Verification, "a stored file is not a Debian package")
            .file(file)
            .why(ended.tail));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Returns the package's paragraph of the index.
fn paragraph(package: &Package, control: &str) -> Result<String> {
    let field = |name: &str| control.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    for (name, locked) in
        [("Package", &package.name), ("Version", &package.version), ("Architecture", &package.architecture)]
    {
        let found = field(name).unwrap_or("");
        if found != locked {
            let what = format!("the package {} does not match the lock", package.name);
            return Err(Error::new(Class::Verification, what)
                .why(format!("{name}: got {found:?}, expected {locked:?}"))
                .hint("the lock is inconsistent: restore the committed one, or run `solana-talos update`"));
        }
    }
    let mut text = String::new();
    for line in
        control.lines().filter(|line| !line.is_empty() && !FROM_LOCK.iter().any(|field| line.starts_with(field)))
    {
        let _ = writeln!(text, "{line}");
    }
    let (name, size, digest) = (file_name(package), package.size, package.sha256);
    let _ = writeln!(text, "Filename: ./{name}\nSize: {size}\nSHA256: {digest}\n");
    Ok(text)
}

/// Returns a name without the version, whose characters apt would read as escapes in a path.
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
    fn the_index_has_the_digests_of_the_lock() {
        let control = "Package: clang\nVersion: 1:19.0-63\nSHA256: wrong\nArchitecture: amd64\nDepends: x,\n y\n";
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
        assert!(error.to_string().contains("Package: got \"gcc\""), "{error}");
    }

    #[test]
    fn a_missing_package_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("store"), Vec::new());
        let error = write(&dir.path().join("repository"), &[package()], &store).unwrap_err();
        assert!(error.to_string().contains("clang"), "{error}");
    }
}
