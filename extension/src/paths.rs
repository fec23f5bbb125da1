//! Checks which files an extension image contains (siderolabs/talos v1.10.3, pkg/machinery/extensions: load.go, validate.go).

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use common::{Class, Error, Result};
use contract::Extension;

use crate::violation::Violation;

/// Kind of a [`Found`] entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// Anything else.
    Special,
}

/// An entry of an extension image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Path in the image, relative to its root.
    pub path: String,
    /// Kind of entry.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Path on the host.
    pub host: PathBuf,
}

/// Lists everything below `dir`, sorted by path, without following links; `prefix` (empty or `some/dir/`) is prepended to every path.
pub fn walk(dir: &Path, prefix: &str) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for item in fs_err::read_dir(dir)? {
        let item = item?;
        let Some(name) = item.file_name().to_str().map(str::to_owned) else {
            return Err(Error::new(Class::UntrustedData, "file name is not UTF-8")
                .file(item.path())
                .hint("rename the file"));
        };
        let meta = item.metadata()?;
        let kind = match meta.file_type() {
            kind if kind.is_dir() => Kind::Dir,
            kind if kind.is_symlink() => Kind::Symlink,
            kind if kind.is_file() => Kind::File,
            _ => Kind::Special,
        };
        let path = format!("{prefix}{name}");
        if kind == Kind::Dir {
            found.extend(walk(&item.path(), &format!("{path}/"))?);
        }
        found.push(Found { path, kind, mode: meta.permissions().mode() & 0o7777, host: item.path() });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Checks kinds, modes and paths. The root must contain `manifest.yaml` and `rootfs/` and nothing else.
#[must_use]
pub fn check(found: &[Found], talos: &Extension) -> Vec<Violation> {
    let mut violations: Vec<_> = found.iter().flat_map(|entry| check_one(entry, talos)).collect();
    for (name, kind) in [("manifest.yaml", Kind::File), ("rootfs", Kind::Dir)] {
        if !found.iter().any(|entry| entry.path == name && entry.kind == kind) {
            let what = if kind == Kind::Dir { "directory" } else { "file" };
            violations.push(Violation::new(name, format!("{what} is missing"), "add it at the root of the image"));
        }
    }
    violations
}

fn check_one(entry: &Found, talos: &Extension) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut add = |problem: &str, fix: String| violations.push(Violation::new(&entry.path, problem, fix));
    if entry.kind == Kind::Special {
        add(
            "a device, socket or named pipe is not allowed",
            "use only files, directories and symbolic links".to_owned(),
        );
    }
    // Talos intends this check but tests bits that are never set. The mode of a symbolic link is meaningless.
    if entry.kind != Kind::Symlink && entry.mode & 0o002 != 0 {
        add("world-writable", format!("chmod o-w (mode {:o})", entry.mode));
    }
    match entry.path.strip_prefix("rootfs") {
        Some("") => {}
        Some(path) if path.starts_with('/') => {
            if entry.kind != Kind::Dir && !talos.allows(path) {
                add("Talos does not allow files here", format!("move it below one of {}", talos.allowed.join(", ")));
            }
        }
        _ if entry.path == "manifest.yaml" => {}
        _ => add("only manifest.yaml and rootfs/ are allowed here", "move it below rootfs/, or remove it".to_owned()),
    }
    violations
}
