//! The digest of a directory.

use std::collections::BTreeMap;
use std::path::Path;

use crate::digest::{Hasher, Sha256};
use crate::error::Result;

/// Returns the digest of a directory: its files by relative path, execute bit and content, symlinks by target. A missing directory counts as
/// empty, and `target` directories are skipped.
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
    let entries = match fs_err::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let meta = fs_err::symlink_metadata(&path)?;
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if meta.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                collect(root, &path, files)?;
            }
        } else if meta.is_symlink() {
            files.insert(name, format!("-> {}", fs_err::read_link(&path)?.display()));
        } else {
            let exec = meta.permissions().mode() & 0o111 != 0;
            files.insert(name, format!("{exec} {}", Sha256::of_file(&path)?));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic;

    #[test]
    fn a_tree_digest_covers_names_contents_and_the_execute_bit() {
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
