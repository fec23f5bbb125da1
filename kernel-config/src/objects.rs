//! Object trees of earlier compiles, kept so that a compile of a slightly different source only compiles what changed.
//!
//! make compares modification times, but in an unpacked source these are the times of unpacking. So content decides here: a kept
//! tree comes with the digest of every source file that it was compiled from. Objects are copied with one time, later than that of
//! every source file, and only files whose digests differ are shown to make with a later one. The kernel's dependency files say what
//! depends on a changed file, so only changes of files that they cover are compiled this way; see `is_tracked`. After any other
//! change (toolchain, option, makefile) the kernel is compiled from scratch.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::{Class, Error, Result, Sha256, atomic};
use fs_err as fs;

use crate::listing::{Entries, Listing, each};

/// Number of trees to keep, for all profiles together.
const KEPT: usize = 3;

/// With more changed files than this, the source is another kernel version and is compiled from scratch.
const MAX_CHANGES: usize = 100;

/// Time between objects and changed files: above the resolution of file times (10 ms at HZ=100).
const STEP: Duration = Duration::from_millis(20);

/// File with the digests of the source that the objects were compiled from.
const SOURCE: &str = "source.sha256";
/// File with the digests of the objects.
const OBJECTS: &str = "objects.sha256";

/// The object tree that is kept for one toolchain, configuration, certificate and `make` line.
#[derive(Clone, Debug)]
pub struct Objects {
    dir: PathBuf,
    threads: usize,
}

impl Objects {
    /// The tree below `root` of the compiles that differ only in the source; `group` is the digest of their other inputs.
    #[must_use]
    pub fn new(root: &Path, group: &Sha256, threads: usize) -> Self {
        Self { dir: root.join(&group.to_string()[..16]), threads }
    }

    /// Returns the digests of the tree `source`.
    pub fn listing(&self, source: &Path) -> Result<Listing> {
        Listing::of(source, self.threads)
    }

    /// Copies the kept objects to `obj`, and the files of the tree `source` (with the digests `listing`) that changed since to
    /// `changed`. make continues in `obj` when the files of `changed` replace those of `source`.
    ///
    /// Returns the paths of the changed files, or `None` when no kept objects match.
    ///
    /// # Errors
    /// [`Class::Verification`] when a kept file is damaged. After any error `obj` and `changed` are incomplete.
    pub fn restore(&self, source: &Path, listing: &Listing, obj: &Path, changed: &Path) -> Result<Option<Vec<String>>> {
        if !self.dir.is_dir() {
            return Ok(None);
        }
        let lock = lock_file(&self.dir)?;
        lock.lock_shared()?;
        let earlier = Listing::parse(&fs::read_to_string(self.dir.join(SOURCE))?)?;
        let Some(changes) = listing.changes_since(&earlier).filter(|changes| is_worth_it(changes)) else {
            return Ok(None);
        };
        let compiled = SystemTime::now();
        if newest(source, listing, self.threads)? >= compiled {
            return Ok(None); // The clock was set back.
        }
        self.copy_objects(obj, compiled)?;
        for name in &changes {
            copy(&source.join(name), &changed.join(name), listing.get(name), compiled + STEP)?;
        }
        std::thread::sleep(2 * STEP); // make must write with later times.
        Ok(resolves(obj, changed, &changes)?.then_some(changes))
    }

    fn copy_objects(&self, obj: &Path, time: SystemTime) -> Result<()> {
        let from = self.dir.join("obj");
        let digests = Listing::parse(&fs::read_to_string(self.dir.join(OBJECTS))?)?;
        let entries = Entries::of(&from)?;
        if !digests.names().eq(entries.files.iter().map(String::as_str)) {
            return Err(Error::new(Class::Verification, "kept objects are incomplete").file(&from));
        }
        make_dirs_and_links(&entries, &from, obj)?;
        each(&entries.files, self.threads, |name| copy(&from.join(name), &obj.join(name), digests.get(name), time))?;
        Ok(())
    }

    /// Keeps the tree `obj`, compiled from a source with the digests `listing`, in place of an earlier one. Kept files are hard links:
    /// a later write to one makes [`Objects::restore`] fail.
    pub fn keep(&self, listing: &Listing, obj: &Path) -> Result<()> {
        let new = self.dir.with_extension("new");
        fs::create_dir_all(&self.dir)?;
        let lock = lock_file(&self.dir)?;
        lock.lock()?;
        atomic::empty_dir(&new)?;
        let (kept, entries) = (new.join("obj"), Entries::of(obj)?);
        make_dirs_and_links(&entries, obj, &kept)?;
        for name in entries.files.iter().filter(|name| !is_linked(name)) {
            fs::hard_link(obj.join(name), kept.join(name))?;
        }
        fs::write(new.join(OBJECTS), Listing::of(&kept, self.threads)?.to_string())?;
        fs::write(new.join(SOURCE), listing.to_string())?;
        // No sync: every file is compared with its digest before use.
        atomic::remove_dir(&self.dir)?;
        fs::rename(&new, &self.dir)?;
        drop(lock);
        prune(self.dir.parent().unwrap_or(&self.dir))
    }
}

fn lock_file(dir: &Path) -> Result<std::fs::File> {
    Ok(fs::File::create(dir.with_extension("lock"))?.into_parts().0)
}

/// Removes all but the [`KEPT`] newest trees and those in use.
fn prune(root: &Path) -> Result<()> {
    let mut trees = Vec::new();
    for dir in fs::read_dir(root)? {
        let dir = dir?.path();
        if dir.is_dir() {
            let whole = fs::metadata(dir.join(SOURCE)).and_then(|file| file.modified());
            trees.push((whole.unwrap_or(SystemTime::UNIX_EPOCH), dir));
        }
    }
    trees.sort_unstable();
    let surplus = trees.len().saturating_sub(KEPT);
    for (_, dir) in &trees[..surplus] {
        let lock = lock_file(dir)?;
        if lock.try_lock().is_ok() {
            atomic::remove_dir(dir)?;
        }
    }
    Ok(())
}

fn is_worth_it(changes: &[String]) -> bool {
    changes.len() <= MAX_CHANGES && changes.iter().all(|name| is_tracked(name))
}

/// Returns whether make rebuilds everything that depends on the source file `name`: compilers record the C, assembly and Rust files
/// that they read (Documentation/kbuild/makefiles.rst, "if_changed_dep"), and nothing is built from documentation. Scripts, host
/// tools, makefiles and tables are read by many rules that do not list them.
fn is_tracked(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match name.split('/').next() {
        Some("scripts" | "tools") => false,
        Some("Documentation") => matches!(extension, "rst" | "txt"),
        _ => matches!(extension, "c" | "h" | "S" | "rs"),
    }
}

/// Returns whether `name` is linked from all objects. Such files are large, change with every object, and are linked in seconds.
fn is_linked(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    matches!(file, "vmlinux" | "vmlinux.o" | "vmlinux.unstripped" | "vmlinux.bin" | "bzImage")
        || file.starts_with(".tmp_vmlinux")
        || file.starts_with("vmlinux.bin.")
        || file.ends_with(".ko")
}

/// Returns the latest modification time of a file in `source`.
fn newest(source: &Path, listing: &Listing, threads: usize) -> Result<SystemTime> {
    let names: Vec<String> = listing.names().map(str::to_owned).collect();
    let times = each(&names, threads, |name| Ok(fs::symlink_metadata(source.join(name))?.modified()?))?;
    Ok(times.into_iter().max().unwrap_or(SystemTime::UNIX_EPOCH))
}

/// Returns whether the file system's times are fine enough to order objects and changed files.
fn resolves(obj: &Path, changed: &Path, changes: &[String]) -> Result<bool> {
    let compiled = fs::metadata(obj.join(".config"))?.modified()?;
    changes.iter().try_fold(true, |fine, name| Ok(fine && fs::metadata(changed.join(name))?.modified()? > compiled))
}

fn make_dirs_and_links(entries: &Entries, from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for name in &entries.dirs {
        fs::create_dir_all(to.join(name))?;
    }
    for name in &entries.links {
        fs_err::os::unix::fs::symlink(fs::read_link(from.join(name))?, to.join(name))?;
    }
    Ok(())
}

/// Copies a file with its mode and the modification time `time`.
fn copy(from: &Path, to: &Path, digest: Option<Sha256>, time: SystemTime) -> Result<()> {
    let bytes = fs::read(from)?;
    if digest != Some(Sha256::of(&bytes)) {
        return Err(Error::new(Class::Verification, "digest mismatch for a kept file").file(from));
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(to, bytes)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    fs::File::open(to)?.set_modified(time)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependency_files_cover_c_assembly_and_rust() {
        for name in ["mm/hugetlb.c", "rust/kernel/psi.rs", "arch/x86/lib/memcpy_64.S", "Documentation/mm/hugetlb.rst"] {
            assert!(is_tracked(name), "{name}");
        }
        for name in
            ["Makefile", "mm/Kconfig", "scripts/mod/modpost.c", "tools/objtool/check.c", "rust/bindgen_parameters"]
        {
            assert!(!is_tracked(name), "{name}");
        }
        assert!(!is_tracked("Documentation/Makefile") && !is_tracked("arch/x86/entry/syscalls/syscall_64.tbl"));
    }

    #[test]
    fn files_linked_from_all_objects_are_not_kept() {
        for name in ["vmlinux", ".tmp_vmlinux1.o", "arch/x86/boot/compressed/vmlinux.bin.zst", "fs/fat/fat.ko"] {
            assert!(is_linked(name), "{name}");
        }
        for name in ["vmlinux.a", "arch/x86/kernel/vmlinux.lds", ".vmlinux.cmd", "fs/fat/fat.o", "fs/fat/fat.mod.c"] {
            assert!(!is_linked(name), "{name}");
        }
    }

    #[test]
    fn the_newest_trees_and_those_in_use_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let obj = dir.path().join("obj");
        fs::create_dir(&obj).unwrap();
        let root = dir.path().join("objects");
        let keep =
            |at: usize| Objects::new(&root, &Sha256::of(at.to_string()), 1).keep(&Listing::default(), &obj).unwrap();
        let trees = || fs::read_dir(&root).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
        let used = Objects::new(&root, &Sha256::of("0"), 1);
        for at in 0..KEPT {
            keep(at);
            std::thread::sleep(STEP);
        }
        let lock = lock_file(&used.dir).unwrap();
        lock.lock_shared().unwrap();
        keep(KEPT);
        assert_eq!(trees(), KEPT + 1);
        drop(lock);
        keep(KEPT);
        assert!(trees() == KEPT && !used.dir.exists());
    }

    #[test]
    fn many_changes_are_compiled_from_scratch() {
        let changes = |count: usize| (0..count).map(|n| format!("mm/{n}.c")).collect::<Vec<_>>();
        assert!(is_worth_it(&changes(MAX_CHANGES)) && !is_worth_it(&changes(MAX_CHANGES + 1)));
    }
}
