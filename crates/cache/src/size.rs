//! Disk space of files and directories.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use common::Result;

/// Bytes in a block of `st_blocks` (`stat(2)`).
const BLOCK: u64 = 512;

/// Measures disk space; a file with several names counts once.
#[derive(Debug, Default)]
pub struct Meter {
    linked: HashSet<(u64, u64)>,
}

impl Meter {
    /// Returns the bytes on disk of `path` and what is in it. Symlinks are not followed; files that are removed during the walk count as 0 bytes.
    pub fn bytes(&mut self, path: &Path) -> Result<u64> {
        let meta = match fs_err::symlink_metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(0),
            meta => meta?,
        };
        if !meta.is_dir() && meta.nlink() > 1 && !self.linked.insert((meta.dev(), meta.ino())) {
            return Ok(0);
        }
        let own = meta.blocks() * BLOCK;
        if !meta.is_dir() {
            return Ok(own);
        }
        let entries = match fs_err::read_dir(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        entries.map(|entry| self.bytes(&entry?.path())).try_fold(own, |sum, bytes| Ok(sum + bytes?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_links_count_once_and_symlinks_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::write(at("a/b/file"), vec![1; 100_000]).unwrap();
        let one = Meter::default().bytes(&at("a")).unwrap();
        assert!((100_000..200_000).contains(&one), "{one}");
        std::fs::hard_link(at("a/b/file"), at("a/again")).unwrap();
        std::os::unix::fs::symlink("/usr", at("a/usr")).unwrap();
        let more = Meter::default().bytes(&at("a")).unwrap() - one;
        assert!(more < 8192, "{more}");
        assert_eq!(Meter::default().bytes(&at("missing")).unwrap(), 0);
    }
}
