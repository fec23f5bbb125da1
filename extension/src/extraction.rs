//! What Talos's imager extracts from the layers of an extension image, which is not always what other tools do: crane's export flattens them
//! from the top layer down (go-containerregistry, pkg/v1/mutate, `extract`), and Talos's own untar writes the result (siderolabs/talos,
//! pkg/archiver/untar.go). Followed entry by entry, without content.

use std::collections::BTreeMap;

use common::Result;
use contract::Untar;
use oci::tarstream::{self, Item, ItemKind};
use oci::view::{Kind, Origin, View};
use oci::{Image, Layout, Limits, Unpacked, unpack};

use crate::validate::Target;
use crate::violation::Violation;

/// Returns what Talos would extract differently, or stop at.
///
/// # Errors
/// As [`Unpacked::open`].
pub fn check(layout: &Layout, image: &Image, limits: Limits, target: &Target) -> Result<Vec<Violation>> {
    let unpacked = Unpacked::open(layout, image, limits)?;
    let mut extraction = Extraction::new(target.rules.untar);
    for (number, layer) in image.layers.iter().enumerate().rev() {
        tarstream::read(unpack::decompressed(layout, layer)?, limits, &mut |entry, item, _| {
            extraction.add(Origin { layer: number, entry }, item);
            Ok(())
        })?;
    }
    Ok(extraction.compared(unpacked.view()))
}

/// What has been written at a path.
#[derive(Debug)]
enum Made {
    Dir,
    Link(String),
    File(Origin),
}

/// The state of an extraction.
struct Extraction {
    untar: Untar,
    /// Names that crane has seen; whether what is below them in lower layers is hidden.
    seen: BTreeMap<String, bool>,
    made: BTreeMap<String, Made>,
    violations: Vec<Violation>,
}

impl Extraction {
    fn new(untar: Untar) -> Self {
        Self { untar, seen: BTreeMap::new(), made: BTreeMap::new(), violations: Vec::new() }
    }

    fn report(&mut self, path: &str, problem: impl Into<String>, fix: &str) {
        self.violations.push(Violation::new(path, problem, fix));
    }

    /// Passes an entry through crane's export: the first one of a name counts, from the top layer down.
    fn add(&mut self, origin: Origin, item: &Item) {
        let (parent, base) = item.path.rsplit_once('/').unwrap_or(("", &item.path));
        let hidden = base.strip_prefix(".wh.");
        let name = match hidden {
            Some(hidden) if item.kind != ItemKind::Dir => join(parent, hidden),
            _ => item.path.clone(),
        };
        // Absolute and relative paths are different names to crane.
        let root = if item.absolute { "/" } else { "" };
        let name = format!("{root}{name}");
        let parents = || name.match_indices('/').filter(|(end, _)| *end > 0).map(|(end, _)| &name[..end]);
        if self.seen.contains_key(&name) || parents().any(|parent| self.seen.get(parent) == Some(&true)) {
            return;
        }
        self.seen.insert(name, hidden.is_some() || item.kind != ItemKind::Dir);
        if hidden.is_none() {
            self.write(origin, item);
        }
    }

    /// Writes an entry as Talos's untar does.
    fn write(&mut self, origin: Origin, item: &Item) {
        let path = &item.path;
        if path.is_empty() {
            if item.absolute && !self.untar.takes_root {
                self.report("/", "Talos stops at an entry for the root that is named /", "name it ./, or leave it out");
            }
            return;
        }
        if let Err(problem) = self.directory(path.rsplit_once('/').map_or("", |(parent, _)| parent)) {
            return self.report(path, problem, "write it below a directory");
        }
        let made = match &item.kind {
            ItemKind::Dir => {
                self.made.entry(path.clone()).or_insert(Made::Dir);
                return;
            }
            ItemKind::Symlink(target) => Made::Link(target.clone()),
            ItemKind::File(_) => Made::File(origin),
            ItemKind::Hardlink(target) => {
                let problem = format!("a hard link to {target}: Talos writes an empty file instead");
                self.report(path, problem, "make it a symbolic link, or a copy");
                Made::File(origin)
            }
            ItemKind::Special => {
                let fix = "use only files, directories and symbolic links";
                self.report(path, "a device or named pipe: Talos writes an empty file instead", fix);
                Made::File(origin)
            }
            ItemKind::Comment => {
                let fix = "make the layer without it: `git archive` of a tree, not of a commit, writes none";
                self.report(path, "a global PAX header: Talos writes a file of that name", fix);
                Made::File(origin)
            }
        };
        if self.made.insert(path.clone(), made).is_some() {
            self.report(
                path,
                "it exists already: Talos stops there",
                "write every path once, always with or without a slash before it",
            );
        }
    }

    /// Checks the directory `path`, which an entry is about to be written to, and makes what is missing.
    fn directory(&mut self, path: &str) -> Result<(), String> {
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]).filter(|end| *end > 0);
        for directory in ends.map(|end| &path[..end]) {
            match self.made.get(directory) {
                Some(Made::Dir) => continue,
                Some(_) => return Err(format!("{directory} is not a directory")),
                None => {}
            }
            self.made.insert(directory.to_owned(), Made::Dir);
            if !self.untar.makes_parents {
                let fix = "add one, as `tar` of a whole directory does";
                self.report(directory, "the directory has no entry before what is in it: Talos stops there", fix);
            }
        }
        Ok(())
    }

    /// Compares with the file system that other tools see, unless there are violations already.
    fn compared(mut self, view: &View) -> Vec<Violation> {
        if !self.violations.is_empty() {
            return self.violations;
        }
        for (path, node) in view.iter() {
            let same = match (&node.kind, self.made.remove(path)) {
                (Kind::File { origin, .. }, Some(Made::File(made))) => *origin == made,
                (Kind::Symlink(target), Some(Made::Link(made))) => *target == made,
                // A parent that no entry names has been reported where it matters.
                (Kind::Dir, Some(Made::Dir) | None) => continue,
                _ => false,
            };
            if !same {
                let fix =
                    "write every path once in a layer, none that its layer deletes, and none below a symbolic link";
                self.violations.push(Violation::new(path, "Talos extracts something else here than other tools", fix));
            }
        }
        let fix = "delete the files one by one instead of the directory's content, or make the image of one layer";
        let kept = self.made.into_iter().filter(|(_, made)| !matches!(made, Made::Dir)).map(|(path, _)| path);
        let problem = "an upper layer deletes it, but Talos extracts it: it does not know opaque whiteouts";
        self.violations.extend(kept.map(|path| Violation::new(path, problem, fix)));
        self.violations
    }
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}
