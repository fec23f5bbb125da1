//! Decides where a compile starts: from an interrupted compile, from kept objects, or from scratch.

use std::path::{Path, PathBuf};

use common::event::{Event, Sink};
use common::sandbox::Failed;
use common::{Class, Error, Result, Sha256, atomic};
use fs_err as fs;

use crate::listing::Listing;
use crate::objects::Objects;

/// Runs make with the changed files; the inner error is a failed program.
type Make<'m> = dyn FnMut(Option<&Replaced>) -> Result<Result<(), Failed>> + 'm;

/// Source files that replace those of the tree: path on this machine, path in the tree.
pub(crate) type Replaced = [(PathBuf, String)];

/// The kept objects and what they are checked against.
pub(crate) struct Kept<'a> {
    pub(crate) objects: Objects,
    /// Expected digest of the source's [`Listing`].
    pub(crate) source: Sha256,
    pub(crate) sink: &'a dyn Sink,
}

/// Runs `make` of the tree `source` in `work/obj`, starting from kept objects where possible, and keeps the objects. With kept objects,
/// `make` gets the changed files; if it then fails, it runs again from scratch.
///
/// # Errors
/// Errors of `make`; its inner errors are failed programs. Errors with kept objects are warnings, and cost only time.
pub(crate) fn run(kept: &Kept<'_>, source: &Path, work: &Path, make: &mut Make<'_>) -> Result<()> {
    Compile { kept, source, work }.run(make)
}

struct Compile<'a> {
    kept: &'a Kept<'a>,
    source: &'a Path,
    work: &'a Path,
}

impl Compile<'_> {
    fn run(&self, make: &mut Make<'_>) -> Result<()> {
        let listing = self.listing();
        if self.changed().exists() {
            self.clear()?; // An interrupted compile of kept objects: its file times are not valid any more.
        }
        match listing.as_ref().map_or(Ok(None), |listing| self.restored(listing))? {
            None => make(None)??,
            Some(replaced) => {
                if let Err(failed) = make(Some(&replaced))? {
                    self.retry(&failed, make)?;
                }
            }
        }
        atomic::remove_dir(&self.changed())?;
        if let Some(Err(e)) = listing.map(|listing| self.kept.objects.keep(&listing, &self.obj())) {
            self.warn("cannot keep the kernel's objects for the next compile", &e);
        }
        Ok(())
    }

    /// Compiles again from scratch: kept objects must never make a build fail.
    fn retry(&self, failed: &Failed, make: &mut Make<'_>) -> Result<()> {
        self.warn("cannot compile the kernel from kept objects; compiling from scratch", &failed.0);
        self.clear()?;
        Ok(make(None)??)
    }

    /// Returns the digests of the source, if they match the one of its stage.
    fn listing(&self) -> Option<Listing> {
        let listing = self.kept.objects.listing(self.source).and_then(|listing| {
            let same = listing.digest() == self.kept.source;
            let error =
                || Error::new(Class::Verification, "the source has changed since it was unpacked").file(self.source);
            same.then_some(listing).ok_or_else(error)
        });
        listing.inspect_err(|e| self.warn("cannot verify the kernel source; its objects are not kept", e)).ok()
    }

    /// Restores kept objects, if there are any and no compile was interrupted. Returns the changed files.
    fn restored(&self, listing: &Listing) -> Result<Option<Vec<(PathBuf, String)>>> {
        if self.obj().exists() {
            return Ok(None);
        }
        let restore = || {
            fs::create_dir_all(self.changed())?;
            self.kept.objects.restore(self.source, listing, &self.obj(), &self.changed())
        };
        let changes = restore().unwrap_or_else(|e| {
            self.warn("cannot use kept objects", &e);
            None
        });
        let Some(changes) = changes else {
            self.clear()?;
            return Ok(None);
        };
        Ok(Some(changes.into_iter().map(|name| (self.changed().join(&name), name)).collect()))
    }

    /// Removes everything that came from kept objects.
    fn clear(&self) -> Result<()> {
        atomic::remove_dir(&self.obj())?;
        atomic::remove_dir(&self.changed())
    }

    fn obj(&self) -> PathBuf {
        self.work.join("obj")
    }

    /// Directory with copies of changed files; it exists when `obj` came from kept objects.
    fn changed(&self) -> PathBuf {
        self.work.join("changed")
    }

    fn warn(&self, what: &str, why: &dyn std::fmt::Display) {
        self.kept.sink.emit(&Event::Warning {
            message: &format!("{what}\n  why: {}", why.to_string().replace('\n', "\n       ")),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::SystemTime;

    use super::*;

    /// A cache, a source, and the warnings.
    struct Site {
        dir: tempfile::TempDir,
        warnings: Mutex<Vec<String>>,
    }

    impl Sink for Site {
        fn emit(&self, event: &Event<'_>) {
            if let Event::Warning { message } = event {
                self.warnings.lock().unwrap().push((*message).to_owned());
            }
        }
    }

    const A: &str = "mm/a.c";
    const HEADER: &str = "include/h.h";

    /// Records what make compiled and linked.
    #[derive(Default)]
    struct FakeMake {
        ran: Vec<String>,
        fails_on_kept: bool,
        disk_is_full: bool,
        whole_runs: usize,
    }

    impl Site {
        fn new() -> Self {
            let site = Self { dir: tempfile::tempdir().unwrap(), warnings: Mutex::default() };
            for (name, text) in [(A, "a"), ("mm/b.c", "b"), (HEADER, "h"), ("Makefile", "m"), ("scripts/s.c", "s")] {
                site.write(name, text);
            }
            site
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            atomic::write(&self.path("source").join(name), text).unwrap();
        }

        fn objects(&self) -> PathBuf {
            self.path("objects").join(&Sha256::of("group").to_string()[..16])
        }

        /// Compiles in the directory `work`; returns what was compiled.
        fn compile(&self, work: &str, make: &mut FakeMake) -> Result<Vec<String>> {
            let (source, work) = (self.path("source"), self.path(work));
            let objects = Objects::new(&self.path("objects"), &Sha256::of("group"), 2);
            let kept = Kept { objects, source: Listing::of(&source, 1)?.digest(), sink: self };
            make.ran.clear();
            run(&kept, &source, &work, &mut |replaced| make.run(&source, &work.join("obj"), replaced))?;
            Ok(std::mem::take(&mut make.ran))
        }

        fn warnings(&self) -> String {
            std::mem::take(&mut *self.warnings.lock().unwrap()).join("\n")
        }
    }

    fn time(path: &Path) -> Option<SystemTime> {
        fs::metadata(path).ok()?.modified().ok()
    }

    impl FakeMake {
        /// Like make: rebuilds a target that is missing or older than its sources.
        fn run(&mut self, source: &Path, obj: &Path, replaced: Option<&Replaced>) -> Result<Result<(), Failed>> {
            let whole = replaced.is_none();
            self.whole_runs += usize::from(whole);
            if self.disk_is_full {
                return Err(Error::new(Class::Infrastructure, "no space"));
            }
            if !whole && self.fails_on_kept {
                fs::remove_file(obj.join("mm/b.o"))?;
                return Ok(Err(Failed(Error::new(Class::BuildFailed, "undefined symbol: b"))));
            }
            let seen = |name: &str| {
                let other = replaced.unwrap_or_default().iter().find(|(_, replaces)| replaces == name);
                other.map_or_else(|| source.join(name), |(file, _)| file.clone())
            };
            let target = |name: &str| obj.join(name.replace(".c", ".o"));
            atomic::write(&obj.join(".config"), "")?;
            let objects = [A, "mm/b.c"];
            for name in objects {
                if [name, HEADER].iter().any(|read| time(&target(name)) < time(&seen(read))) {
                    let text = fs::read_to_string(seen(name))? + &fs::read_to_string(seen(HEADER))?;
                    atomic::write(&target(name), text)?;
                    self.ran.push(name.to_owned());
                }
            }
            let vmlinux = obj.join("vmlinux");
            if objects.iter().any(|name| time(&vmlinux) < time(&target(name))) {
                let texts: Vec<_> = objects.iter().map(|name| fs::read_to_string(target(name)).unwrap()).collect();
                atomic::write(&vmlinux, texts.concat())?;
                self.ran.push("vmlinux".to_owned());
            }
            Ok(Ok(()))
        }
    }

    #[test]
    fn compiles_what_changed_and_what_depends_on_it() {
        let (site, mut make) = (Site::new(), FakeMake::default());
        assert_eq!(site.compile("1", &mut make).unwrap(), [A, "mm/b.c", "vmlinux"]);
        // A newer time without a change does not count; a change counts whatever its time.
        site.write("mm/b.c", "b");
        site.write(A, "A");
        fs::File::open(site.path("source/mm/a.c")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(site.compile("2", &mut make).unwrap(), [A, "vmlinux"]);
        assert_eq!(fs::read_to_string(site.path("2/obj/vmlinux")).unwrap(), "Ahbh");
        // From the latest kept objects, back to the source before them.
        site.write(A, "a");
        assert_eq!(site.compile("3", &mut make).unwrap(), [A, "vmlinux"]);
        site.write(HEADER, "H");
        assert_eq!(site.compile("4", &mut make).unwrap(), [A, "mm/b.c", "vmlinux"]);
        assert_eq!(fs::read_to_string(site.path("4/obj/vmlinux")).unwrap(), "aHbH");
        assert_eq!(site.compile("5", &mut make).unwrap(), ["vmlinux"]);
        assert!(make.whole_runs == 1 && site.warnings().is_empty() && !site.path("5/changed").exists());
    }

    #[test]
    fn starts_from_scratch_after_untracked_changes() {
        let (site, mut make) = (Site::new(), FakeMake::default());
        site.compile("0", &mut make).unwrap();
        let whole: [fn(&Site); 4] = [
            |site| site.write("Makefile", "M"),
            |site| site.write("scripts/s.c", "S"),
            |site| site.write("mm/c.c", "c"),
            |site| fs::remove_file(site.path("source/mm/c.c")).unwrap(),
        ];
        for (at, change) in whole.iter().enumerate() {
            change(&site);
            site.compile(&format!("{}", at + 1), &mut make).unwrap();
            assert_eq!(make.whole_runs, at + 2);
        }
        site.write("Documentation/x.rst", "1");
        site.compile("doc", &mut make).unwrap();
        site.write("Documentation/x.rst", "2");
        assert_eq!(site.compile("doc2", &mut make).unwrap(), ["vmlinux"]);
        assert!(site.warnings().is_empty());
    }

    #[test]
    fn a_failure_on_kept_objects_is_retried_from_scratch() {
        let (site, mut make) = (Site::new(), FakeMake::default());
        site.compile("1", &mut make).unwrap();
        make.fails_on_kept = true;
        site.write(A, "A");
        assert_eq!(site.compile("2", &mut make).unwrap(), [A, "mm/b.c", "vmlinux"]);
        let warnings = site.warnings();
        assert!(warnings.contains("compiling from scratch") && warnings.contains("undefined symbol"), "{warnings}");
        assert_eq!(fs::read_to_string(site.path("2/obj/vmlinux")).unwrap(), "Ahbh");
    }

    #[test]
    fn a_problem_of_the_machine_is_not_retried() {
        let (site, mut make) = (Site::new(), FakeMake::default());
        site.compile("1", &mut make).unwrap();
        make.disk_is_full = true;
        site.write(A, "A");
        assert_eq!(site.compile("2", &mut make).unwrap_err().class(), Class::Infrastructure);
        assert!(make.whole_runs == 1 && site.warnings().is_empty());
    }

    #[test]
    fn damaged_objects_are_not_used() {
        let (site, mut make) = (Site::new(), FakeMake::default());
        let damage: [fn(&Path); 5] = [
            |kept| fs::write(kept.join("obj/mm/b.o"), "x").unwrap(),
            |kept| fs::remove_file(kept.join("obj/mm/b.o")).unwrap(),
            |kept| fs::write(kept.join("obj/more.o"), "x").unwrap(),
            |kept| fs::write(kept.join("source.sha256"), "x").unwrap(),
            |kept| fs::remove_file(kept.join("objects.sha256")).unwrap(),
        ];
        for (at, damage) in damage.iter().enumerate() {
            site.compile(&format!("{at}"), &mut make).unwrap();
            damage(&site.objects());
            site.write(A, &at.to_string());
            assert_eq!(site.compile(&format!("{at}-damaged"), &mut make).unwrap(), [A, "mm/b.c", "vmlinux"]);
            let warnings = site.warnings();
            assert!(warnings.contains("cannot use kept objects"), "{warnings}");
        }
    }

    #[test]
    fn an_interrupted_compile_restarts_with_kept_objects_and_continues_otherwise() {
        let (site, mut make) = (Site::new(), FakeMake::default());
        site.compile("1", &mut make).unwrap();
        site.write(A, "A");
        for half in ["2/obj/mm/b.o", "2/changed/mm/a.c"] {
            atomic::write(&site.path(half), "half").unwrap();
        }
        assert_eq!(site.compile("2", &mut make).unwrap(), [A, "vmlinux"]);
        site.write(A, "aa");
        atomic::write(&site.path("3/obj/mm/b.o"), "bh").unwrap();
        assert_eq!(site.compile("3", &mut make).unwrap(), [A, "vmlinux"]);
        assert_eq!(make.whole_runs, 2);
    }

    #[test]
    fn changes_of_a_finished_stage_do_not_corrupt_kept_objects() {
        let (site, mut make) = (Site::new(), FakeMake::default());
        site.compile("1", &mut make).unwrap();
        let kept = site.objects().join("obj");
        assert!(kept.join("mm/a.o").exists() && !kept.join("vmlinux").exists());
        fs::remove_dir_all(site.path("1")).unwrap();
        site.write(A, "A");
        assert_eq!(site.compile("2", &mut make).unwrap(), [A, "vmlinux"]);
        fs::write(site.path("2/obj/mm/b.o"), "in place").unwrap();
        assert_eq!(site.compile("3", &mut make).unwrap(), [A, "mm/b.c", "vmlinux"]);
        assert!(site.warnings().contains("digest mismatch for a kept file"));
    }

    #[test]
    fn a_changed_source_is_compiled_from_scratch() {
        let site = Site::new();
        let (source, work) = (site.path("source"), site.path("1"));
        let objects = Objects::new(&site.path("objects"), &Sha256::of("group"), 1);
        let kept = Kept { objects, source: Sha256::of("another"), sink: &site };
        let mut make = FakeMake::default();
        run(&kept, &source, &work, &mut |replaced| make.run(&source, &work.join("obj"), replaced)).unwrap();
        assert!(!site.objects().exists());
        assert!(site.warnings().contains("has changed since it was unpacked"));
    }
}
