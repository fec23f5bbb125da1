//! A look at the cache that runs nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::Finished;
use crate::error::{Class, Error, Result};

/// The stages that were looked up instead of run.
#[derive(Debug, Default)]
pub struct Look {
    known: RefCell<BTreeMap<&'static str, bool>>,
    misses: Cell<usize>,
}

impl Look {
    /// Returns the stages that were looked up by name, and whether all of that name are cached.
    #[must_use]
    pub fn known(&self) -> BTreeMap<&'static str, bool> {
        self.known.borrow().clone()
    }

    /// Follows a part of a build to its end, which it returns, or to a stage that is not cached: the inputs of those behind it are unknown.
    ///
    /// # Errors
    /// Those of the part for other reasons.
    pub fn follow<T>(&self, part: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        let before = self.misses.get();
        match part() {
            Err(_) if self.misses.get() > before => Ok(None),
            ended => ended.map(Some),
        }
    }

    /// Notes what was found of `stage`; an error if it is not cached.
    pub(super) fn note(&self, stage: &'static str, found: Option<Finished>) -> Result<Finished> {
        let cached = found.is_some();
        *self.known.borrow_mut().entry(stage).or_insert(true) &= cached;
        self.misses.set(self.misses.get() + usize::from(!cached));
        found.ok_or_else(|| Error::new(Class::Infrastructure, format!("the stage {stage} is not cached")))
    }
}
