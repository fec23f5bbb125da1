//! Object trees of earlier compiles, kept so that the next compile of a slightly different source does only what changed.
//!
//! make decides by modification times, and those of an unpacked source say when it was unpacked, not when it was changed. So it is content that
//! decides here: a kept tree comes with the digest of every source file that it was compiled from. Objects are copied with one
//! time that is later than that of every source file, and only the files whose digests differ are shown to make with a later one.
//! What follows from a changed file is known to the kernel's own dependency files, so only changes of files that those cover are
//! built this way; see [`is_tracked`]. Whatever else changed, a toolchain, an option or a makefile, is compiled from scratch.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::{Class, Error, Result, Sha256, atomic};
use fs_err as fs;

use crate::listing::{Entries, Listing, each};

/// Trees that are kept, for all profiles together.
const KEPT: usize = 3;

/// More changed files than these are another version of the kernel, which is compiled from scratch.
const MAX_CHANGES: usize = 100;

/// Between the time of objects and the time of changed files: above the resolution of the kernel's clock for files (10 ms at HZ=100).
const STEP: Duration = Duration::from_millis(20);

/// Digests of the source that the objects were compiled from.
const SOURCE: &str = "source.sha256";
/// Digests of the objects.
const OBJECTS: &str = "objects.sha256";

/// The object tree that is kept for one toolchain, configuration, certificate and `make` line.
#[derive(Clone, Debug)]
pub struct Objects {
    dir: PathBuf,
    threads: usize,
}

impl Objects {
    /// Of the compiles that differ in nothing but the source, whose common inputs have the digest `group`; below the directory `root`.
    #[must_use]
    pub fn new(root: &Path, group: &Sha256, threads: usize) -> Self {
        Self { dir: root.join(&group.to_string()[..16]), threads }
    }

    /// Digests of the tree `source`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn listing(&self, source: &Path) -> Result<Listing> {
        Listing::of(source, self.threads)
    }

    /// Copies the kept objects to `obj`, and what changed since in the tree `source`, whose digests are `listing`, to `changed`.
    /// make goes on in `obj` when it sees the files of `changed` in place of those of `source`.
    ///
    /// Returns the paths of the changed files, or none where there are no objects that fit.
    ///
    /// # Errors
    /// When a file cannot be copied or is not what was kept. `obj` and `changed` are then of no use.
    pub fn restore(&self, source: &Path, listing: &Listing, obj: &Path, changed: &Path) -> Result<Option<Vec<String>>> {
        if !self.dir.is_dir() {
            return Ok(None);
        }
        let lock = self.lock_file()?;
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
        std::thread::sleep(2 * STEP); // What make writes is later still.
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

    /// Keeps the tree `obj`, which was compiled from a source of the digests `listing`, in place of an earlier one. The files stay where they are
    /// as well: kept ones are hard links to them. Whoever writes to one of them only makes [`Objects::restore`] refuse it.
    ///
    /// # Errors
    /// When a file cannot be linked or read.
    pub fn keep(&self, listing: &Listing, obj: &Path) -> Result<()> {
        let new = self.dir.with_extension("new");
        fs::create_dir_all(&self.dir)?;
        let lock = self.lock_file()?;
        lock.lock()?;
        atomic::empty_dir(&new)?;
        let (kept, entries) = (new.join("obj"), Entries::of(obj)?);
        make_dirs_and_links(&entries, obj, &kept)?;
        for name in entries.files.iter().filter(|name| !is_linked(name)) {
            fs::hard_link(obj.join(name), kept.join(name))?;
        }
        fs::write(new.join(OBJECTS), Listing::of(&kept, self.threads)?.to_string())?;
        fs::write(new.join(SOURCE), listing.to_string())?;
        // Not synced: every file is compared with its digest when it is used.
        atomic::remove_dir(&self.dir)?;
        fs::rename(&new, &self.dir)?;
        drop(lock);
        prune(self.dir.parent().unwrap_or(&self.dir))
    }

    fn lock_file(&self) -> Result<std::fs::File> {
        lock_file(&self.dir)
    }
}

fn lock_file(dir: &Path) -> Result<std::fs::File> {
    let path = dir.with_extension("lock");
    std::fs::File::create(&path).map_err(|e| Error::io("cannot create a lock file", &path, &e))
}

/// Removes all trees but the [`KEPT`] newest. One that is in use stays.
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

/// Whether all that depends on the source file `name` is built again when it is newer: compilers write down which files of C, assembly and
/// Rust they read (Documentation/kbuild/makefiles.rst, "if_changed_dep"), and nothing is built from the documentation. Scripts, host
/// tools, makefiles and tables are read by too many rules that do not name them.
fn is_tracked(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match name.split('/').next() {
        Some("scripts" | "tools") => false,
        Some("Documentation") => matches!(extension, "rst" | "txt"),
        _ => matches!(extension, "c" | "h" | "S" | "rs"),
    }
}

/// Whether the object `name` is linked from all the others. These are large, follow from any change and are linked in seconds.
fn is_linked(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    matches!(file, "vmlinux" | "vmlinux.o" | "vmlinux.unstripped" | "vmlinux.bin" | "bzImage")
        || file.starts_with(".tmp_vmlinux")
        || file.starts_with("vmlinux.bin.")
        || file.ends_with(".ko")
}

/// Time of the last modification of a file in `source`.
fn newest(source: &Path, listing: &Listing, threads: usize) -> Result<SystemTime> {
    let names: Vec<String> = listing.names().map(str::to_owned).collect();
    let times = each(&names, threads, |name| Ok(fs::symlink_metadata(source.join(name))?.modified()?))?;
    Ok(times.into_iter().max().unwrap_or(SystemTime::UNIX_EPOCH))
}

/// Whether the file system's times are fine enough to tell changed files from objects.
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
        return Err(Error::new(Class::Verification, "a kept file has changed").file(from));
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
    fn knows_what_compilers_write_down() {
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
    fn knows_what_is_linked_from_all() {
        for name in ["vmlinux", ".tmp_vmlinux1.o", "arch/x86/boot/compressed/vmlinux.bin.zst", "fs/fat/fat.ko"] {
            assert!(is_linked(name), "{name}");
        }
        for name in ["vmlinux.a", "arch/x86/kernel/vmlinux.lds", ".vmlinux.cmd", "fs/fat/fat.o", "fs/fat/fat.mod.c"] {
            assert!(!is_linked(name), "{name}");
        }
    }

    #[test]
    fn the_newest_trees_are_kept_unless_others_are_in_use() {
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
        let lock = used.lock_file().unwrap();
        lock.lock_shared().unwrap();
        keep(KEPT);
        assert_eq!(trees(), KEPT + 1);
        drop(lock);
        keep(KEPT);
        assert!(trees() == KEPT && !used.dir.exists());
    }

    #[test]
    fn many_changes_are_another_kernel() {
        let changes = |count: usize| (0..count).map(|n| format!("mm/{n}.c")).collect::<Vec<_>>();
        assert!(is_worth_it(&changes(MAX_CHANGES)) && !is_worth_it(&changes(MAX_CHANGES + 1)));
    }
}
