//! What `solana-talos cache` prints, as text and as data.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use cache::{Item, Kind, Selection, Survey, show_size};
use common::time::rfc3339;
use serde::Serialize;

use crate::result::Data;

/// What is in the cache.
#[derive(Serialize)]
pub struct Shown {
    directory: PathBuf,
    kinds: Vec<OfKind>,
    bytes: u64,
    /// `None` outside of a project.
    needed_bytes: Option<u64>,
}

impl Data for Shown {
    const VERB: &'static str = "cache show";
}

/// All items of a kind.
#[derive(Serialize)]
struct OfKind {
    kind: Kind,
    items: usize,
    bytes: u64,
    last_use: Option<String>,
    needed_items: Option<usize>,
    needed_bytes: Option<u64>,
}

impl Shown {
    /// Sums up `survey` of the cache `directory`.
    pub fn of(directory: PathBuf, survey: &Survey) -> Self {
        let kinds: Vec<_> = Kind::ALL.into_iter().map(|kind| OfKind::of(kind, survey)).collect();
        let needed = kinds.iter().filter_map(|kind| kind.needed_bytes);
        let compared = survey.items.iter().any(|item| item.needed.is_some());
        Self { directory, bytes: survey.bytes(), needed_bytes: compared.then(|| needed.sum()), kinds }
    }

    /// Returns a table.
    pub fn lines(&self) -> Vec<String> {
        let row = |kind: &str, items: &str, size: &str, needed: &str, used: &str| {
            format!("{kind:<13} {items:>6} {size:>12} {needed:>12}  {used}").trim_end().to_owned()
        };
        let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), show_size);
        let kinds = self.kinds.iter().filter(|kind| kind.items > 0).map(|kind| {
            let used = kind.last_use.as_deref().unwrap_or_default();
            row(kind.kind.name(), &kind.items.to_string(), &show_size(kind.bytes), &size(kind.needed_bytes), used)
        });
        let head = [self.directory.display().to_string(), row("kind", "items", "size", "needed", "last use")];
        head.into_iter()
            .chain(kinds)
            .chain([row("all", "", &show_size(self.bytes), &size(self.needed_bytes), "")])
            .collect()
    }
}

impl OfKind {
    fn of(kind: Kind, survey: &Survey) -> Self {
        let items: Vec<_> = survey.items.iter().filter(|item| item.kind == kind).collect();
        let compared = items.iter().any(|item| item.needed.is_some());
        let needed = || items.iter().filter(|item| item.needed == Some(true));
        Self {
            kind,
            items: items.len(),
            bytes: items.iter().map(|item| item.bytes).sum(),
            last_use: items.iter().map(|item| item.used).max().map(time),
            needed_items: compared.then(|| needed().count()),
            needed_bytes: compared.then(|| needed().map(|item| item.bytes).sum()),
        }
    }
}

/// What was removed, or would be.
#[derive(Serialize)]
pub struct Pruned {
    directory: PathBuf,
    dry_run: bool,
    removed: Vec<Removed>,
    freed_bytes: u64,
    left_bytes: u64,
}

impl Data for Pruned {
    const VERB: &'static str = "cache prune";
}

#[derive(Serialize)]
struct Removed {
    kind: Kind,
    name: String,
    bytes: u64,
    last_use: String,
    needed: Option<bool>,
}

impl Pruned {
    /// Describes what was removed from the cache `directory`.
    pub fn of(directory: PathBuf, dry_run: bool, selection: &Selection<'_>) -> Self {
        let removed = |item: &&Item| Removed {
            kind: item.kind,
            name: item.name.clone(),
            bytes: item.bytes,
            last_use: time(item.used),
            needed: item.needed,
        };
        Self {
            directory,
            dry_run,
            removed: selection.items.iter().map(removed).collect(),
            freed_bytes: selection.bytes(),
            left_bytes: selection.left,
        }
    }
}

/// Returns the line about an item.
pub fn line(item: &Item) -> String {
    format!("{}/{}, {}, last used {}", item.kind.name(), item.name, show_size(item.bytes), time(item.used))
}

fn time(time: SystemTime) -> String {
    rfc3339(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
