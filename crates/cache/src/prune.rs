//! Removal from a cache.

use std::path::Path;
use std::time::{Duration, SystemTime};

use common::{Result, atomic};

use crate::hold::Hold;
use crate::survey::{Item, Survey};

/// Directory for what is being removed: nothing under its own name is ever half removed.
const REMOVED: &str = "unfinished/removed";

/// What to remove: what all of the rules allow, the least recently used first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Only what was not used for so long.
    pub older_than: Option<Duration>,
    /// Only what the lock does not need.
    pub unneeded: bool,
    /// Only until everything takes at most so many bytes.
    pub max_size: Option<u64>,
}

/// What the rules choose.
#[derive(Clone, Debug)]
pub struct Selection<'s> {
    /// What to remove, in this order.
    pub items: Vec<&'s Item>,
    /// Bytes that are left then.
    pub left: u64,
}

impl Selection<'_> {
    /// Returns the bytes to be freed.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }
}

impl Rules {
    /// Chooses from `survey` what to remove at the time `now`.
    #[must_use]
    pub fn choose<'s>(&self, survey: &'s Survey, now: SystemTime) -> Selection<'s> {
        let mut items: Vec<_> = survey.items.iter().filter(|item| self.allow(item, now)).collect();
        items.sort_by_key(|item| item.used);
        let mut left = survey.bytes();
        items.retain(|item| {
            let chosen = self.max_size.is_none_or(|max| left > max);
            left -= if chosen { item.bytes } else { 0 };
            chosen
        });
        Selection { items, left }
    }

    fn allow(&self, item: &Item, now: SystemTime) -> bool {
        // A time in the future is of a clock that was set back.
        let age = now.duration_since(item.used).unwrap_or_default();
        let old = self.older_than.is_none_or(|least| age > least);
        item.kind.is_removable() && old && (!self.unneeded || item.needed == Some(false))
    }
}

/// Removes `items` of the cache `root`; `removed` is called after each. What is left when this process is killed, the next call removes.
///
/// # Errors
/// The first file operation that fails; what was reported to `removed` has been removed.
pub fn remove<'s>(_exclusive: &Hold, root: &Path, items: &[&'s Item], mut removed: impl FnMut(&'s Item)) -> Result<()> {
    let trash = root.join(REMOVED);
    atomic::remove_dir(&trash)?;
    for item in items {
        remove_one(&trash, item)?;
        removed(item);
    }
    atomic::remove_dir(&trash)
}

fn remove_one(trash: &Path, item: &Item) -> Result<()> {
    // The directory of removed items is an item itself, and was emptied before.
    if fs_err::symlink_metadata(&item.path).is_ok_and(|meta| meta.is_dir()) {
        fs_err::create_dir_all(trash)?;
        let to = trash.join(&item.name);
        fs_err::rename(&item.path, &to)?;
        atomic::remove_dir(&to)?;
    } else {
        ignore_missing(fs_err::remove_file(&item.path))?;
    }
    match &item.lock {
        Some(lock) => ignore_missing(fs_err::remove_file(lock)),
        None => Ok(()),
    }
}

/// Ignores that a file does not exist.
fn ignore_missing(removed: std::io::Result<()>) -> Result<()> {
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}
