//! Parses a list of files.

use std::collections::{BTreeMap, BTreeSet};

use common::path::is_plain;
use common::{Class, Error, Result};
use serde::Deserialize;

/// Directory of Debian's programs.
const BIN: &str = "usr/bin";

/// A parsed list: what a tree contains, before trees of Debian and libraries are added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Time of every file, in seconds since 1970.
    pub epoch: u64,
    /// Entries by path. Parents need not be listed.
    pub entries: BTreeMap<String, Entry>,
    /// Directories of Debian to copy, by path.
    pub trees: BTreeMap<String, String>,
    /// Files of these directories that are not copied.
    pub without: BTreeSet<String>,
    /// Libraries that no ELF file names as needed.
    pub libraries: BTreeSet<String>,
}

/// An entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Directory,
    /// An empty file.
    Empty,
    /// A symbolic link to this target.
    Link(String),
    /// Another name of the file at this path.
    HardLink(String),
    /// A copy of a file.
    File(Origin),
}

/// Where a file comes from; paths are relative.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Origin {
    /// A file of the toolchain.
    Debian(String),
    /// A program built from a Go module.
    Go(String),
    /// A file of the module `github.com/siderolabs/talos`.
    Talos(String),
    /// A file of the module `github.com/siderolabs/talos/pkg/machinery`.
    Machinery(String),
    /// A file of `imager/base/files`.
    Ours(String),
}

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Some((kind, path)) = text.split_once(':').filter(|(_, path)| is_plain(path)) else {
            return Err(format!("{text:?} is not a source: expected KIND:PATH with a relative path"));
        };
        let path = path.to_owned();
        match kind {
            "debian" => Ok(Self::Debian(path)),
            "go" => Ok(Self::Go(path)),
            "talos" => Ok(Self::Talos(path)),
            "machinery" => Ok(Self::Machinery(path)),
            "ours" => Ok(Self::Ours(path)),
            _ => Err(format!("{text:?}: unknown kind of source {kind:?}")),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    epoch: u64,
    part: Vec<Part>,
}

/// One block of the file; see the comment at the start of `rootfs.toml`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Part {
    directories: Vec<String>,
    empty: Vec<String>,
    programs: Vec<String>,
    libraries: Vec<String>,
    links: BTreeMap<String, String>,
    hard_links: BTreeMap<String, String>,
    files: BTreeMap<String, Origin>,
    trees: BTreeMap<String, Origin>,
    /// Paths and reasons.
    without: BTreeMap<String, String>,
}

impl Recipe {
    /// Parses a list; errors name `file`.
    ///
    /// # Errors
    /// [`Class::BadInput`] for malformed TOML, an unknown key or source, a path that is not plain, is listed twice or is below a file or link.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let bad = |why: String| Error::new(Class::BadInput, "the list of files is malformed").file(file).why(why);
        let parsed: File = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
        let mut recipe = Self {
            epoch: parsed.epoch,
            entries: BTreeMap::new(),
            trees: BTreeMap::new(),
            without: BTreeSet::new(),
            libraries: BTreeSet::new(),
        };
        for part in parsed.part {
            recipe.add(part).map_err(bad)?;
        }
        recipe.check().map_err(bad)?;
        Ok(recipe)
    }

    fn add(&mut self, part: Part) -> Result<(), String> {
        let program = |path: String| {
            let name = path.rsplit('/').next().unwrap_or(&path);
            (format!("{BIN}/{name}"), Entry::File(Origin::Debian(path)))
        };
        let entries = (part.directories.into_iter().map(|path| (path, Entry::Directory)))
            .chain(part.empty.into_iter().map(|path| (path, Entry::Empty)))
            .chain(part.programs.into_iter().map(program))
            .chain(part.links.into_iter().map(|(path, target)| (path, Entry::Link(target))))
            .chain(part.hard_links.into_iter().map(|(path, target)| (path, Entry::HardLink(target))))
            .chain(part.files.into_iter().map(|(path, origin)| (path, Entry::File(origin))));
        for (path, entry) in entries {
            if self.entries.insert(path.clone(), entry).is_some() {
                return Err(format!("{path} is listed twice"));
            }
        }
        for (path, origin) in part.trees {
            let Origin::Debian(from) = origin else { return Err(format!("the tree {path} is not from debian:")) };
            self.trees.insert(path, from);
        }
        self.without.extend(part.without.into_keys());
        self.libraries.extend(part.libraries);
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        for path in self.entries.keys().chain(self.trees.keys()).chain(&self.without) {
            if !is_plain(path) {
                return Err(format!("{path:?} is not a plain relative path"));
            }
            let mut parents = path.match_indices('/').map(|(end, _)| &path[..end]);
            if let Some(parent) = parents.find(|parent| self.is_not_directory(parent)) {
                return Err(format!("{path} is below {parent}, which is not a directory"));
            }
        }
        for (path, entry) in &self.entries {
            let Entry::HardLink(target) = entry else { continue };
            if !matches!(self.entries.get(target), Some(Entry::File(_))) {
                return Err(format!("{path} is a hard link to {target}, which is not a listed file"));
            }
        }
        let tree = |path: &&String| !self.trees.keys().any(|tree| path.starts_with(&format!("{tree}/")));
        match self.without.iter().find(tree) {
            Some(path) => Err(format!("{path} is left out of no tree")),
            None => Ok(()),
        }
    }

    fn is_not_directory(&self, path: &str) -> bool {
        self.entries.get(path).is_some_and(|entry| *entry != Entry::Directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
epoch = 7
[[part]]
directories = ["etc"]
programs = ["usr/sbin/lvm"]
[part.links]
"bin" = "usr/bin"
[part.files]
"usr/bin/init" = "go:machined"
[part.hard-links]
"usr/bin/poweroff" = "usr/bin/init"
[[part]]
empty = ["etc/hosts"]
libraries = ["libkmod.so.2"]
[part.trees]
"usr/lib/udev" = "debian:usr/lib/udev"
[part.without]
"usr/lib/udev/a.rules" = "why"
"#;

    #[test]
    fn every_kind_of_entry_is_read() {
        let recipe = Recipe::parse("x", TEXT).unwrap();
        assert_eq!(recipe.entries["usr/bin/lvm"], Entry::File(Origin::Debian("usr/sbin/lvm".into())));
        assert_eq!(recipe.entries["usr/bin/init"], Entry::File(Origin::Go("machined".into())));
        assert_eq!(recipe.entries["usr/bin/poweroff"], Entry::HardLink("usr/bin/init".into()));
        assert_eq!(recipe.entries["bin"], Entry::Link("usr/bin".into()));
        assert_eq!((recipe.epoch, recipe.entries.len()), (7, 6));
        assert_eq!(recipe.trees["usr/lib/udev"], "usr/lib/udev");
        assert!(recipe.without.contains("usr/lib/udev/a.rules") && recipe.libraries.contains("libkmod.so.2"));
    }

    #[test]
    fn malformed_lists_are_refused() {
        for (from, to, why) in [
            ("epoch = 7", "", "missing field `epoch`"),
            ("directories", "dirs", "unknown field `dirs`"),
            ("\"etc/hosts\"", "\"etc/../hosts\"", "not a plain relative path"),
            ("\"etc/hosts\"", "\"/etc/hosts\"", "not a plain relative path"),
            ("\"etc/hosts\"", "\"bin/hosts\"", "bin/hosts is below bin, which is not a directory"),
            ("\"etc/hosts\"", "\"usr/bin/lvm/x\"", "below usr/bin/lvm"),
            ("\"etc/hosts\"", "\"usr/bin/init\"", "usr/bin/init is listed twice"),
            ("\"go:machined\"", "\"rpm:machined\"", "unknown kind of source \"rpm\""),
            ("\"go:machined\"", "\"machined\"", "is not a source"),
            ("\"go:machined\"", "\"go:../machined\"", "is not a source"),
            ("= \"usr/bin/init\"", "= \"bin\"", "hard link to bin, which is not a listed file"),
            ("\"debian:usr/lib/udev\"", "\"talos:hack\"", "is not from debian:"),
            ("\"usr/lib/udev/a.rules\"", "\"usr/lib/a.rules\"", "left out of no tree"),
        ] {
            assert!(TEXT.contains(from), "{from}");
            let error = Recipe::parse("the.toml", &TEXT.replacen(from, to, 1)).expect_err(to);
            assert!(error.to_string().contains(why), "{to}: {error}");
            assert_eq!(error.class(), Class::BadInput);
        }
    }

    #[test]
    fn the_committed_lists_are_valid() {
        let rootfs = Recipe::parse("rootfs.toml", include_str!("../rootfs.toml")).unwrap();
        let installer = Recipe::parse("installer.toml", include_str!("../installer.toml")).unwrap();
        assert_eq!(rootfs.epoch, installer.epoch);
        assert_eq!(installer.entries["usr/bin/installer"], Entry::File(Origin::Go("installer".into())));
        // udevd cannot remove it from a read-only root filesystem, and machined waits for udevd.
        assert!(!rootfs.entries.contains_key("usr/etc/udev"));
    }
}
