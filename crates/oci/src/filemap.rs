//! Content of a layer to be written: a sorted map from path to entry.

use std::collections::BTreeMap;
use std::fs::FileType;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use common::{Class, Error, Result};

/// Source of a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Bytes in memory.
    Bytes(Vec<u8>),
    /// A file of the host, read while the layer is written.
    Host(PathBuf),
}

/// One entry of a layer. Owner is always 0:0, modification time that of the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A regular file.
    File {
        /// Its content.
        source: Source,
        /// Permission bits.
        mode: u32,
        /// Extended attributes, name to value, written as PAX `SCHILY.xattr.*` records.
        xattrs: BTreeMap<String, Vec<u8>>,
    },
    /// A directory.
    Dir {
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link; the target is written as given and never followed.
    Symlink {
        /// Target.
        target: String,
    },
}

/// Sorted paths and their entries. Paths are relative, without `.` or `..`, separated by single slashes.
///
/// # Invariants
/// Every parent of a path is in the map and is a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileMap(BTreeMap<String, Entry>);

impl FileMap {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `entry` at `path`; missing parents become directories of mode 0755. A directory may be added again to set its mode.
    ///
    /// # Errors
    /// [`Class::BadInput`] when the path is not relative and plain, already exists, or has a parent that is not a directory.
    pub fn insert(&mut self, path: &str, entry: Entry) -> Result<()> {
        check_path(path)?;
        let taken = |what: &str| Err(Error::new(Class::BadInput, format!("cannot add {path} to the layer: {what}")));
        for (end, _) in path.match_indices('/') {
            match self.0.get(&path[..end]) {
                None => _ = self.0.insert(path[..end].to_owned(), Entry::Dir { mode: 0o755 }),
                Some(Entry::Dir { .. }) => {}
                Some(_) => return taken(&format!("{} is not a directory", &path[..end])),
            }
        }
        match (self.0.get(path), &entry) {
            (None, _) | (Some(Entry::Dir { .. }), Entry::Dir { .. }) => {}
            (Some(_), _) => return taken("the path already exists"),
        }
        self.0.insert(path.to_owned(), entry);
        Ok(())
    }

    /// Adds a file with content `bytes`.
    pub fn bytes(&mut self, path: &str, bytes: impl Into<Vec<u8>>, mode: u32) -> Result<()> {
        self.insert(path, Entry::File { source: Source::Bytes(bytes.into()), mode, xattrs: BTreeMap::new() })
    }

    /// Adds the host's file `source`.
    pub fn host(&mut self, path: &str, source: &Path, mode: u32) -> Result<()> {
        self.insert(path, Entry::File { source: Source::Host(source.to_owned()), mode, xattrs: BTreeMap::new() })
    }

    /// Adds the tree of the host's directory `root` at `prefix` (empty: the image's root).
    ///
    /// Modes are normalised, so that they do not depend on the host's umask: 0755 for directories and files with any execute bit,
    /// 0644 for other files. Symbolic links are kept, never followed.
    pub fn tree(&mut self, prefix: &str, root: &Path) -> Result<()> {
        if !prefix.is_empty() {
            self.insert(prefix, Entry::Dir { mode: 0o755 })?;
        }
        for item in fs_err::read_dir(root)? {
            let item = item?;
            let Some(name) = item.file_name().to_str().map(str::to_owned) else {
                return Err(Error::new(Class::BadInput, "a file name is not UTF-8")
                    .file(item.path())
                    .hint("rename the file"));
            };
            let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            let meta = item.metadata()?;
            if meta.is_dir() {
                self.tree(&path, &item.path())?;
            } else if meta.is_symlink() {
                self.insert(&path, Entry::Symlink { target: link_target(&item.path())? })?;
            } else if meta.is_file() {
                let mode = if meta.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
                self.host(&path, &item.path(), mode)?;
            } else {
                return Err(special(&item.path(), meta.file_type()));
            }
        }
        Ok(())
    }

    /// Returns the entries sorted by path; a directory comes before its children.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Returns the entry at `path`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.0.get(path)
    }
}

fn link_target(path: &Path) -> Result<String> {
    let target = fs_err::read_link(path)?;
    target
        .into_os_string()
        .into_string()
        .map_err(|_| Error::new(Class::BadInput, "a link target is not UTF-8").file(path))
}

fn special(path: &Path, kind: FileType) -> Error {
    let kind = match kind {
        k if k.is_fifo() => "a named pipe",
        k if k.is_socket() => "a socket",
        _ => "a device",
    };
    Error::new(Class::BadInput, "unsupported file type: images take files, directories and symbolic links only")
        .file(path)
        .why(format!("it is {kind}"))
        .hint("remove it from the tree")
}

fn check_path(path: &str) -> Result<()> {
    if common::path::is_plain(path) {
        return Ok(());
    }
    Err(Error::new(Class::BadInput, format!("invalid path {path:?} in an image"))
        .why("it must be relative, without empty parts, '.', '..' or NUL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_parents_and_keeps_order() {
        let mut map = FileMap::new();
        map.bytes("b/c/d", "x", 0o644).unwrap();
        map.bytes("b.txt", "y", 0o600).unwrap();
        map.insert("b", Entry::Dir { mode: 0o700 }).unwrap();
        let paths: Vec<_> = map.iter().map(|(p, _)| p).collect();
        assert_eq!(paths, ["b", "b.txt", "b/c", "b/c/d"]);
        assert_eq!(map.get("b"), Some(&Entry::Dir { mode: 0o700 }));
        assert_eq!(map.get("b/c"), Some(&Entry::Dir { mode: 0o755 }));
    }

    #[test]
    fn rejects_paths_that_are_not_plain() {
        for bad in ["", "/", "/etc", "a//b", "a/", "./a", "a/../b", "..", "a\0b"] {
            let error = FileMap::new().bytes(bad, "", 0o644).unwrap_err();
            assert_eq!(error.class(), Class::BadInput, "{bad:?}");
        }
    }

    #[test]
    fn rejects_duplicate_paths() {
        let mut map = FileMap::new();
        map.bytes("a", "x", 0o644).unwrap();
        for bad in ["a", "a/b"] {
            assert!(map.bytes(bad, "", 0o644).is_err(), "{bad}");
        }
        assert!(map.insert("a", Entry::Dir { mode: 0o755 }).is_err());
    }

    #[test]
    fn walks_a_tree_without_following_links() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        std::fs::write(dir.path().join("bin/tool"), "x").unwrap();
        std::fs::set_permissions(dir.path().join("bin/tool"), std::fs::Permissions::from_mode(0o4710)).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        let mut map = FileMap::new();
        map.tree("usr", dir.path()).unwrap();
        let paths: Vec<_> = map.iter().map(|(p, _)| p).collect();
        assert_eq!(paths, ["usr", "usr/bin", "usr/bin/tool", "usr/out"]);
        assert!(matches!(map.get("usr/bin/tool"), Some(Entry::File { mode: 0o755, .. })));
        assert_eq!(map.get("usr/out"), Some(&Entry::Symlink { target: "/etc".into() }));
    }

    #[test]
    fn rejects_special_files() {
        let dir = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("sock")).unwrap();
        let error = FileMap::new().tree("", dir.path()).unwrap_err();
        assert_eq!(error.class(), Class::BadInput);
        assert!(error.to_string().contains("a socket") && error.to_string().contains("sock"), "{error}");
    }
}
