//! Which entries an extension image may hold (siderolabs/talos v1.10.3, pkg/machinery/extensions: load.go, validate.go).

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
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Where it is on the host.
    pub host: PathBuf,
}

/// Everything below `dir`, sorted by path, links not followed; `prefix` (empty or `some/dir/`) goes before every path.
///
/// # Errors
/// What the file system reports, and [`Class::BadInput`] for a name that is not UTF-8.
pub fn walk(dir: &Path, prefix: &str) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for item in fs_err::read_dir(dir)? {
        let item = item?;
        let Some(name) = item.file_name().to_str().map(str::to_owned) else {
            return Err(Error::new(Class::BadInput, "a file name is not UTF-8")
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

/// The rules on kinds, modes and places. The root must hold `manifest.yaml` and `rootfs/` and nothing else.
#[must_use]
pub fn check(found: &[Found], talos: &Extension) -> Vec<Violation> {
    let mut broken: Vec<_> = found.iter().flat_map(|entry| check_one(entry, talos)).collect();
    for (name, kind) in [("manifest.yaml", Kind::File), ("rootfs", Kind::Dir)] {
        if !found.iter().any(|entry| entry.path == name && entry.kind == kind) {
            let what = if kind == Kind::Dir { "directory" } else { "file" };
            broken.push(Violation::new(name, format!("there is no such {what}"), "add it at the image's root"));
        }
    }
    broken
}

fn check_one(entry: &Found, talos: &Extension) -> Vec<Violation> {
    let mut broken = Vec::new();
    let mut say = |problem: &str, fix: String| broken.push(Violation::new(&entry.path, problem, fix));
    if entry.kind == Kind::Special {
        say("it is a device, socket or named pipe", "keep files, directories and symbolic links only".to_owned());
    }
    // Talos means to check this but looks at bits that are never set; the mode of a link says nothing.
    if entry.kind != Kind::Symlink && entry.mode & 0o002 != 0 {
        say("it is world-writable", format!("chmod o-w (mode {:o})", entry.mode));
    }
    match entry.path.strip_prefix("rootfs") {
        Some("") => {}
        Some(path) if path.starts_with('/') => {
            if entry.kind != Kind::Dir && !talos.allows(path) {
                say("Talos allows no file here", format!("move it below one of {}", talos.allowed.join(", ")));
            }
        }
        _ if entry.path == "manifest.yaml" => {}
        _ => say("the root holds manifest.yaml and rootfs/ only", "move it below rootfs/, or remove it".to_owned()),
    }
    broken
}
