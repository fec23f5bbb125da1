//! Files of the toolchain: links are followed inside it, and each file belongs to a package.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use common::{Class, Error, Result};
use fs_err as fs;

/// Links followed before a path is taken for a cycle, as in the kernel (path_resolution(7)).
const LINKS: usize = 40;

/// The toolchain's root filesystem.
#[derive(Debug)]
pub struct Debian {
    root: PathBuf,
    /// Package of each installed file.
    owners: BTreeMap<String, String>,
}

impl Debian {
    /// Reads the lists of installed files.
    pub fn open(root: &Path) -> Result<Self> {
        let mut owners = BTreeMap::new();
        for entry in fs::read_dir(root.join("var/lib/dpkg/info"))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(package) = name.strip_suffix(".list").and_then(|name| name.split(':').next()) else { continue };
            for line in fs::read_to_string(&path)?.lines() {
                owners.insert(line.trim_start_matches('/').to_owned(), package.to_owned());
            }
        }
        Ok(Self { root: root.to_owned(), owners })
    }

    /// Returns the host's path of the file or directory `path`, and its path in the toolchain, without links.
    ///
    /// # Errors
    /// [`Class::MissingTool`] if it is missing.
    pub fn find(&self, path: &str) -> Result<(PathBuf, String)> {
        let missing = |why: &str| {
            Error::new(Class::MissingTool, format!("{path} is not in the toolchain"))
                .why(why)
                .hint("correct the list of files, or add its package to crates/toolchain/base.list")
        };
        let resolved = self.resolve(path).ok_or_else(|| missing("too many links"))?;
        let host = self.root.join(&resolved);
        if !host.exists() {
            return Err(missing(&format!("there is no /{resolved}")));
        }
        Ok((host, resolved))
    }

    /// Returns whether `path` exists.
    pub fn has(&self, path: &str) -> bool {
        self.find(path).is_ok()
    }

    /// Follows links from the toolchain's root; `None` for a cycle.
    fn resolve(&self, path: &str) -> Option<String> {
        let mut left: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let (mut done, mut links) = (Vec::new(), 0);
        while let Some(part) = left.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => _ = done.pop(),
                _ => done.push(part),
            }
            let Ok(target) = std::fs::read_link(self.root.join(done.join("/"))) else { continue };
            links += 1;
            if links > LINKS {
                return None;
            }
            done.pop();
            if target.is_absolute() {
                done.clear();
            }
            left.extend(target.components().rev().filter_map(word));
        }
        Some(done.join("/"))
    }

    /// Returns the package of the file `resolved`.
    ///
    /// # Errors
    /// [`Class::BadInput`] if it is of no package, so that no version or licence is known.
    pub fn owner(&self, resolved: &str) -> Result<&str> {
        self.owners.get(resolved).map(String::as_str).ok_or_else(|| {
            Error::new(Class::BadInput, format!("/{resolved} of the toolchain belongs to no package"))
                .hint("list only files that packages contain: others have no version and no licence")
        })
    }

    /// Returns the licence texts of `packages`: (package, host's path).
    ///
    /// # Errors
    /// [`Class::MissingTool`] if a package has none.
    pub fn licences<'p>(&self, packages: &'p BTreeSet<String>) -> Result<Vec<(&'p str, PathBuf)>> {
        let file =
            |package: &'p String| Ok((package.as_str(), self.find(&format!("usr/share/doc/{package}/copyright"))?.0));
        packages.iter().map(file).collect()
    }
}

fn word(component: Component<'_>) -> Option<String> {
    match component {
        Component::ParentDir => Some("..".to_owned()),
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    }
}

#[cfg(test)]
pub mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Makes a toolchain of `files`, all of the package `demo`, in `root`.
    pub fn toolchain(root: &Path, files: &[(&str, &[u8])]) -> Debian {
        let mut list = String::new();
        for (path, bytes) in files.iter().chain(&[("usr/share/doc/demo/copyright", &b"MIT"[..])]) {
            let file = root.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
            list.push_str(&format!("/{path}\n"));
        }
        fs::create_dir_all(root.join("var/lib/dpkg/info")).unwrap();
        fs::write(root.join("var/lib/dpkg/info/demo:amd64.list"), list).unwrap();
        Debian::open(root).unwrap()
    }

    #[test]
    fn links_are_followed_inside_the_toolchain() {
        let dir = tempfile::tempdir().unwrap();
        let debian = toolchain(dir.path(), &[("usr/bin/kmod", b"k"), ("etc/alternatives/x", b"")]);
        symlink("/usr/bin/kmod", dir.path().join("usr/bin/modprobe")).unwrap();
        symlink("../../usr/bin/modprobe", dir.path().join("etc/alternatives/m")).unwrap();
        symlink("loop", dir.path().join("usr/bin/loop")).unwrap();
        let (host, path) = debian.find("etc/alternatives/m").unwrap();
        assert_eq!((host, path.as_str()), (dir.path().join("usr/bin/kmod"), "usr/bin/kmod"));
        assert_eq!(debian.owner(&path).unwrap(), "demo");
        assert!(debian.find("usr/bin/loop").unwrap_err().to_string().contains("too many links"));
    }

    #[test]
    fn a_missing_file_or_owner_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let debian = toolchain(dir.path(), &[("usr/bin/kmod", b"k")]);
        assert_eq!(debian.find("usr/bin/lvm").unwrap_err().class(), Class::MissingTool);
        fs::write(dir.path().join("usr/bin/made"), "by a script").unwrap();
        let error = debian.owner("usr/bin/made").unwrap_err().to_string();
        assert!(error.contains("/usr/bin/made of the toolchain belongs to no package"), "{error}");
        let error = debian.licences(&BTreeSet::from(["other".to_owned()])).unwrap_err().to_string();
        assert!(error.contains("usr/share/doc/other/copyright"), "{error}");
    }
}
