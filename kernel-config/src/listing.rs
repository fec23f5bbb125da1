//! Digests of all files in a tree, in the format of sha256sum(1).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Class, Error, Result, Sha256};

/// Digest of each regular file of a tree, by its path below the tree's root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing(BTreeMap<String, Sha256>);

impl Listing {
    /// Hashes all files below `dir` on `threads` threads.
    pub fn of(dir: &Path, threads: usize) -> Result<Self> {
        let files = Entries::of(dir)?.files;
        let digests = each(&files, threads, |name| Sha256::of_file(&dir.join(name)))?;
        Ok(Self(files.into_iter().zip(digests).collect()))
    }

    /// Parses a printed [`Listing`].
    ///
    /// # Errors
    /// [`Class::Verification`] for a malformed line.
    pub fn parse(text: &str) -> Result<Self> {
        let entry = |line: &str| {
            let (digest, name) = line.split_once("  ./").ok_or_else(|| malformed(line))?;
            Ok((name.to_owned(), digest.parse().map_err(|_| malformed(line))?))
        };
        Ok(Self(text.lines().map(entry).collect::<Result<_>>()?))
    }

    /// Returns the SHA-256 of the printed listing.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        Sha256::of(self.to_string())
    }

    /// Returns the paths of the files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns the digest of one file.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Sha256> {
        self.0.get(name).copied()
    }

    /// Returns the files whose content differs from `earlier`; `None` when a file was added or removed.
    #[must_use]
    pub fn changes_since(&self, earlier: &Self) -> Option<Vec<String>> {
        let pairs = || self.0.iter().zip(&earlier.0);
        let same_names = self.0.len() == earlier.0.len() && pairs().all(|(now, then)| now.0 == then.0);
        let changed = pairs().filter(|(now, then)| now.1 != then.1).map(|(now, _)| now.0.clone());
        same_names.then(|| changed.collect())
    }
}

/// In the format of `find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum`.
impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, digest)| writeln!(f, "{digest}  ./{name}"))
    }
}

fn malformed(line: &str) -> Error {
    Error::new(Class::Verification, "a list of digests is malformed").why(line)
}

/// Relative paths of everything below a directory, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Entries {
    pub(crate) dirs: Vec<String>,
    pub(crate) files: Vec<String>,
    pub(crate) links: Vec<String>,
}

impl Entries {
    pub(crate) fn of(dir: &Path) -> Result<Self> {
        let mut entries = Self::default();
        entries.add(dir, "")?;
        for kind in [&mut entries.dirs, &mut entries.files, &mut entries.links] {
            kind.sort_unstable();
        }
        Ok(entries)
    }

    fn add(&mut self, dir: &Path, prefix: &str) -> Result<()> {
        for entry in fs_err::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                return Err(Error::new(Class::Verification, "file name is not UTF-8").file(entry.path()));
            };
            let (name, kind) = (format!("{prefix}{name}"), entry.file_type()?);
            if kind.is_dir() {
                self.add(&entry.path(), &format!("{name}/"))?;
                self.dirs.push(name);
            } else if kind.is_symlink() {
                self.links.push(name);
            } else {
                self.files.push(name);
            }
        }
        Ok(())
    }
}

/// Runs `work` for each of `names` on `threads` threads and returns the results in order.
pub(crate) fn each<T: Send>(
    names: &[String],
    threads: usize,
    work: impl Fn(&str) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = names.get(at) else { return Ok(done) };
            done.push((at, work(name)?));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(worker)).collect();
        let results = workers.into_iter().map(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        Ok::<_, Error>(results.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect::<Vec<_>>())
    })?;
    all.sort_unstable_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, value)| value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(files: &[(&str, &str)]) -> Listing {
        Listing(files.iter().map(|(name, text)| ((*name).to_owned(), Sha256::of(text))).collect())
    }

    #[test]
    fn prints_the_format_of_sha256sum() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("b/x", "1"), ("b-c", "2"), ("a", "3")] {
            common::atomic::write(&dir.path().join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let script = "cd \"$1\"; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum";
        let output = std::process::Command::new("sh").args(["-ec", script, "sh"]).arg(dir.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let listing = Listing::of(dir.path(), 2).unwrap();
        assert_eq!(listing.to_string(), text);
        assert_eq!(listing.digest(), Sha256::of(&text));
        assert_eq!(Listing::parse(&text).unwrap(), listing);
        assert!(Listing::parse("0  ./a\n").is_err());
    }

    #[test]
    fn finds_changed_files_unless_files_were_added_or_removed() {
        let earlier = listing(&[("a", "1"), ("b", "2")]);
        assert_eq!(listing(&[("a", "1"), ("b", "3")]).changes_since(&earlier), Some(vec!["b".to_owned()]));
        assert_eq!(earlier.changes_since(&earlier), Some(Vec::new()));
        for other in [&[("a", "1")][..], &[("a", "1"), ("b", "2"), ("c", "3")], &[("a", "1"), ("c", "2")]] {
            assert_eq!(listing(other).changes_since(&earlier), None);
        }
    }

    #[test]
    fn an_error_on_one_thread_is_the_result() {
        let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        assert_eq!(each(&names, 3, |name| Ok(name.len())).unwrap().iter().sum::<usize>(), 190);
        let error = each(&names, 3, |name| if name == "50" { Err(malformed(name)) } else { Ok(()) }).unwrap_err();
        assert!(error.to_string().contains("50"), "{error}");
    }
}
