//! What is in a cache.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use common::stage::{Cached, lock_file};
use common::{Result, Sha256};
use serde::Serialize;

use crate::needs::Needs;
use crate::size::Meter;

/// Kind of an item, which is also the directory it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A pinned file.
    Store,
    /// A finished stage.
    Stages,
    /// Objects of an earlier kernel compile.
    Objects,
    /// An unfinished stage, a partial download, or what an interrupted run left.
    Unfinished,
    /// An image that `module build` pulled.
    KernelDevel,
    /// Key sets. Never removed.
    Keys,
    /// Anything else. Never removed: it may not be ours.
    Other,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Store, Self::Stages, Self::Objects, Self::Unfinished, Self::KernelDevel, Self::Keys, Self::Other];

    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Stages => "stages",
            Self::Objects => "objects",
            Self::Unfinished => "unfinished",
            Self::KernelDevel => "kernel-devel",
            Self::Keys => "keys",
            Self::Other => "other",
        }
    }

    /// Returns whether items of this kind may be removed.
    #[must_use]
    pub const fn is_removable(self) -> bool {
        !matches!(self, Self::Keys | Self::Other)
    }
}

/// A thing in the cache that is kept or removed as a whole.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its kind.
    pub kind: Kind,
    /// Name of its file or directory.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// File whose lock and last use belong to it.
    pub(crate) lock: Option<PathBuf>,
    /// Its bytes on disk.
    pub bytes: u64,
    /// When it was last made or taken by a run.
    pub used: SystemTime,
    /// Whether the project's lock needs it; `None` without a project.
    pub needed: Option<bool>,
}

/// Everything in a cache.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The items by kind and name.
    pub items: Vec<Item>,
}

impl Survey {
    /// Lists the cache `root`; `needs` are those of a project.
    pub fn of(root: &Path, needs: Option<&Needs>) -> Result<Self> {
        let mut items = Vec::new();
        for (path, name) in entries(root)? {
            match name.as_str() {
                "store" => items.extend(each(&path.join("sha256"), Kind::Store)?),
                "stages" => items.extend(
                    each(&path, Kind::Stages)?
                        .into_iter()
                        .map(|item| Item { lock: Some(lock_file(root, &item.name)), ..item }),
                ),
                "objects" => items.extend(with_own_locks(each(&path, Kind::Objects)?)),
                "unfinished" => items.extend(with_own_locks(each(&path, Kind::Unfinished)?)),
                "kernel-devel" => items.extend(each(&path, Kind::KernelDevel)?),
                "keys" => items.extend(each(&path, Kind::Keys)?),
                // What `run` leaves when it is killed.
                name if name.starts_with("run-") => items.push(item(path, name.to_owned(), Kind::Unfinished)),
                name => items.push(item(path, name.to_owned(), Kind::Other)),
            }
        }
        items.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        let mut meter = Meter::default();
        for item in &mut items {
            item.bytes = meter.bytes(&item.path)?;
            item.used = last_use(item);
        }
        if let Some(needs) = needs {
            mark_needed(&mut items, needs);
        }
        Ok(Self { items })
    }

    /// Returns the bytes on disk of everything.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }
}

/// Returns the entries of the directory `dir`; none if it does not exist.
fn entries(dir: &Path) -> Result<Vec<(PathBuf, String)>> {
    let entries = match fs_err::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries
        .map(|entry| {
            entry.map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned())).map_err(Into::into)
        })
        .collect()
}

fn each(dir: &Path, kind: Kind) -> Result<Vec<Item>> {
    Ok(entries(dir)?.into_iter().map(|(path, name)| item(path, name, kind)).collect())
}

fn item(path: PathBuf, name: String, kind: Kind) -> Item {
    Item { kind, name, path, lock: None, bytes: 0, used: SystemTime::UNIX_EPOCH, needed: None }
}

/// Puts together the directories `NAME` and their locks `NAME.lock`. A lock alone belongs to a finished stage, or to nothing any more; it is
/// empty and no item.
fn with_own_locks(items: Vec<Item>) -> impl Iterator<Item = Item> {
    let dirs = items.into_iter().filter(|item| !item.name.ends_with(".lock"));
    dirs.map(|item| Item { lock: Some(item.path.with_file_name(format!("{}.lock", item.name))), ..item })
}

/// Returns the later of the modification times of an item and of its lock, which every run takes.
fn last_use(item: &Item) -> SystemTime {
    let modified = |path: &Path| std::fs::symlink_metadata(path).and_then(|meta| meta.modified()).ok();
    let times = [modified(&item.path), item.lock.as_deref().and_then(modified)];
    times.into_iter().flatten().max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Records for each item whether it is needed. Objects and what is unfinished only save time, so no lock needs them.
fn mark_needed(items: &mut [Item], needs: &Needs) {
    let stages = items.iter().filter(|item| item.kind == Kind::Stages);
    let stages: Vec<_> = stages.filter_map(|item| Some((item.name.clone(), Cached::read(&item.path)?))).collect();
    let needed: HashSet<&str> = needs.stages(&stages);
    for item in items {
        item.needed = match item.kind {
            Kind::Store => Some(item.name.parse::<Sha256>().is_ok_and(|digest| needs.file(&digest))),
            Kind::Stages => Some(needed.contains(item.name.as_str())),
            Kind::Objects | Kind::Unfinished | Kind::KernelDevel => Some(false),
            Kind::Keys | Kind::Other => None,
        };
    }
}
