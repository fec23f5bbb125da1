//! The merged file system of all layers as a map: whiteouts applied, links resolved inside the root (image-spec, layer.md).
//!
//! In memory only. Parents of every path are real directories of the map, so unpacking into an empty directory never writes through
//! a link.

use std::collections::BTreeMap;

use common::Result;

use crate::tarentry::{Item, ItemKind, malformed};

/// Links followed in one path, as in Linux (`MAXSYMLINKS`).
const LINK_LIMIT: u32 = 40;
/// Bytes of paths and link targets in one view. Without it, few long paths could create gigabytes of directories.
const TEXT_LIMIT: usize = 64 << 20;
/// Bytes of paths processed to build one view, many times what real layers need. Without it, repeated whiteouts of a large directory or
/// paths through long links would take hours.
const WORK_LIMIT: usize = 256 << 20;
/// Fixed cost of one path component or one visited path, added to its bytes.
const STEP: usize = 16;

/// A file system entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// File type.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// The layer that added it.
    layer: usize,
}

/// Kind of a [`Node`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Size in bytes.
        size: u64,
        /// Location of its content.
        origin: Origin,
    },
    /// A directory.
    Dir,
    /// A symbolic link as stored: it may point anywhere.
    Symlink(String),
    /// A device or named pipe.
    Special,
}

/// Layer and entry with the content of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Index of the layer, lowest first.
    pub layer: usize,
    /// Number of the entry in the layer.
    pub entry: u64,
}

/// Sorted paths relative to the root; the root itself has no entry.
#[derive(Clone, Debug, Default)]
pub struct View {
    nodes: BTreeMap<String, Node>,
    text: usize,
    work: usize,
}

impl View {
    /// Adds entry number `entry` of layer number `layer`; layers come lowest first.
    ///
    /// # Errors
    /// Rejects paths through a file or out of the root, dangling hard links, and what exceeds the limits above.
    pub fn add(&mut self, layer: usize, entry: u64, item: &Item) -> Result<()> {
        let (parent, name) = item.path.rsplit_once('/').unwrap_or(("", &item.path));
        if name.is_empty() || item.kind == ItemKind::Comment {
            return Ok(());
        }
        let parent = self.directory(parent, layer)?;
        if let Some(hidden) = name.strip_prefix(".wh.") {
            return self.whiteout(&parent, hidden, layer);
        }
        let kind = match &item.kind {
            ItemKind::File(size) => Kind::File { size: *size, origin: Origin { layer, entry } },
            ItemKind::Dir => Kind::Dir,
            ItemKind::Symlink(target) => Kind::Symlink(target.clone()),
            ItemKind::Hardlink(target) => self.link_target(&item.path, target, layer)?,
            ItemKind::Special | ItemKind::Comment => Kind::Special,
        };
        let path = join(&parent, name);
        if kind != Kind::Dir || self.nodes.get(&path).is_some_and(|old| old.kind != Kind::Dir) {
            self.remove(&path, usize::MAX);
        }
        self.text += path.len() + if let Kind::Symlink(target) = &kind { target.len() } else { 0 };
        self.nodes.insert(path, Node { kind, mode: item.mode, layer });
        Ok(())
    }

    /// Returns all entries sorted by path; a directory comes before its children.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Returns the entry at `path`; links are followed inside the root.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Node> {
        let (real, _) = self.resolve(path.trim_start_matches('/'), true).ok()?;
        self.nodes.get(&real)
    }

    /// Resolves the symbolic links in `path` within the root; `None` unless the result is a regular file.
    #[must_use]
    pub fn file_path(&self, path: &str) -> Option<String> {
        let (real, _) = self.resolve(path.trim_start_matches('/'), true).ok()?;
        matches!(self.nodes.get(&real)?.kind, Kind::File { .. }).then_some(real)
    }

    /// Returns what the hard link `path` refers to.
    fn link_target(&mut self, path: &str, target: &str, layer: usize) -> Result<Kind> {
        let (parent, name) = target.rsplit_once('/').unwrap_or(("", target));
        let target_path = join(&self.directory(parent, layer)?, name);
        match self.nodes.get(&target_path).map(|node| &node.kind) {
            Some(kind @ (Kind::File { .. } | Kind::Symlink(_))) => Ok(kind.clone()),
            _ => Err(malformed(format!("{path} is a hard link to {target}, which is not a file of the image"))),
        }
    }

    /// Returns the real path of the directory `path`, which is created if missing.
    fn directory(&mut self, path: &str, layer: usize) -> Result<String> {
        let (real, work) = self.resolve(path, true)?;
        self.work += work;
        if self.work > WORK_LIMIT {
            return Err(malformed("its paths, links and whiteouts take too long to follow"));
        }
        if self.nodes.get(&real).is_some_and(|node| node.kind != Kind::Dir) {
            return Err(malformed(format!("{path} is used as a directory but is not one")));
        }
        if real.split('/').any(|part| part.starts_with(".wh.")) {
            return Err(malformed(format!("{path} leads through a whiteout")));
        }
        self.add_parents(&format!("{real}/"), layer);
        if self.text > TEXT_LIMIT {
            return Err(malformed(format!("its paths take more than {TEXT_LIMIT} bytes")));
        }
        Ok(real)
    }

    fn add_parents(&mut self, path: &str, layer: usize) {
        for (end, _) in path.match_indices('/').filter(|(end, _)| *end > 0) {
            if !self.nodes.contains_key(&path[..end]) {
                self.text += end;
                self.nodes.insert(path[..end].to_owned(), Node { kind: Kind::Dir, mode: 0o755, layer });
            }
        }
    }

    /// Follows the links in `path` with the image's root as `/`; missing components count as directories.
    /// Returns the real path and its cost in bytes of paths.
    fn resolve(&self, path: &str, follow_last: bool) -> Result<(String, usize)> {
        let mut rest: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let (mut real, mut links, mut work) = (String::new(), 0, 0);
        while let Some(part) = rest.pop() {
            work += real.len() + part.len() + STEP;
            match part.as_str() {
                "" | "." => continue,
                ".." if real.is_empty() => {
                    return Err(malformed(format!("{path} leaves the image root through a link")));
                }
                ".." => {
                    real.truncate(real.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = join(&real, &part);
            match self.nodes.get(&next).map(|node| &node.kind) {
                Some(Kind::Symlink(target)) if follow_last || !rest.is_empty() => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(malformed(format!("{path} leads through too many links")));
                    }
                    if target.starts_with('/') {
                        real.clear();
                    }
                    rest.extend(target.split('/').rev().map(str::to_owned));
                }
                Some(Kind::File { .. } | Kind::Special) if !rest.is_empty() => {
                    return Err(malformed(format!("{path} leads through {next}, which is not a directory")));
                }
                _ => real = next,
            }
        }
        Ok((real, work))
    }

    fn whiteout(&mut self, parent: &str, hidden: &str, layer: usize) -> Result<()> {
        match hidden {
            "" | "." | ".." => return Err(malformed(format!("a whiteout in {parent:?} names {hidden:?}"))),
            ".wh..opq" => self.remove_below(parent, layer),
            // Other names reserved by aufs hide nothing.
            name if name.starts_with(".wh.") => {}
            name => self.remove(&join(parent, name), layer),
        }
        Ok(())
    }

    /// Removes `path` and its children that come from layers below `layer`.
    fn remove(&mut self, path: &str, layer: usize) {
        if self.nodes.get(path).is_some_and(|node| node.layer < layer) {
            self.nodes.remove(path);
        }
        self.remove_below(path, layer);
    }

    fn remove_below(&mut self, dir: &str, layer: usize) {
        let prefix = join(dir, "");
        let below = self.nodes.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let (gone, kept): (Vec<_>, Vec<_>) =
            below.map(|(path, node)| (path.clone(), node.layer)).partition(|(_, of)| *of < layer);
        self.work += gone.iter().chain(&kept).map(|(path, _)| path.len() + STEP).sum::<usize>();
        if gone.is_empty() && (dir.is_empty() || self.nodes.contains_key(dir)) {
            return;
        }
        for (path, _) in gone {
            self.nodes.remove(&path);
        }
        for (path, of) in kept {
            self.work += path.match_indices('/').map(|(end, _)| end).sum::<usize>();
            self.add_parents(&path, of);
        }
    }
}

/// Returns `dir/name`, or `name` for the root, an empty `dir`.
fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}
