//! The digest of a directory.

use std::collections::BTreeMap;
use std::path::Path;

use crate::digest::{Hasher, Sha256};
use crate::error::{Error, Result};

/// Digest of a directory's files by relative path, execute bit and content; symlinks by target. A missing directory counts as empty.
///
/// # Errors
/// [`crate::Class::Infrastructure`] when something cannot be read.
pub fn hash_tree(dir: &Path) -> Result<Sha256> {
    let mut files = BTreeMap::new();
    collect(dir, dir, &mut files)?;
    let mut hasher = Hasher::default();
    for (path, line) in files {
        hasher.update(format!("{path}\0{line}\n").as_bytes());
    }
    Ok(hasher.finish().0)
}

fn collect(root: &Path, dir: &Path, files: &mut BTreeMap<String, String>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| Error::io("cannot list a directory", dir, &e))?,
    };
    for entry in entries {
        let path = entry.map_err(|e| Error::io("cannot list a directory", dir, &e))?.path();
        let meta = path.symlink_metadata().map_err(|e| Error::io("cannot look at a file", &path, &e))?;
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if meta.is_dir() {
            // A member's build outputs are no inputs.
            if entry_is_ignored(&path) {
                continue;
            }
            collect(root, &path, files)?;
        } else if meta.is_symlink() {
            let target = std::fs::read_link(&path).map_err(|e| Error::io("cannot read a link", &path, &e))?;
            files.insert(name, format!("-> {}", target.display()));
        } else {
            let exec = meta.permissions().mode() & 0o111 != 0;
            files.insert(name, format!("{exec} {}", Sha256::of_file(&path)?));
        }
    }
    Ok(())
}

fn entry_is_ignored(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "target")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic;

    #[test]
    fn a_trees_hash_sees_names_bytes_and_the_execute_bit() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sub/a");
        atomic::write(&file, "1").unwrap();
        let mut seen = vec![hash_tree(dir.path()).unwrap()];
        atomic::write(&file, "2").unwrap();
        seen.push(hash_tree(dir.path()).unwrap());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        seen.push(hash_tree(dir.path()).unwrap());
        std::fs::rename(&file, dir.path().join("sub/b")).unwrap();
        seen.push(hash_tree(dir.path()).unwrap());
        let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), 4);
    }
}
