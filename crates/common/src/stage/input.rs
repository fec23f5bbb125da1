//! Inputs of stages: values that carry their entries in the stage key.

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use super::Finished;
use super::tree::hash_tree;
use crate::digest::Sha256;
use crate::error::Result;
use crate::sandbox::Run;

/// A value that a stage may use, with its entries in the stage key.
pub struct Input<T> {
    entries: Vec<(String, String)>,
    value: T,
}

impl<T> Input<T> {
    /// Creates an input that `entries` (name, text) determine: equal entries must mean an equal value.
    pub fn known_by<N: Into<String>, S: Into<String>>(entries: impl IntoIterator<Item = (N, S)>, value: T) -> Self {
        Self { entries: entries.into_iter().map(|(name, text)| (name.into(), text.into())).collect(), value }
    }

    /// Creates an input that is not in the key; `why` says why the output cannot depend on it.
    pub fn unkeyed(why: &'static str, value: T) -> Self {
        debug_assert!(!why.is_empty(), "an input without an entry needs a reason");
        Self { entries: Vec::new(), value }
    }

    /// Converts the value. The function cannot capture anything.
    #[must_use]
    pub fn map<U>(self, form: fn(T) -> U) -> Input<U> {
        Input { entries: self.entries, value: form(self.value) }
    }
}

impl Input<String> {
    /// A short text, which is its own entry.
    pub fn text(name: &str, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { entries: vec![(name.to_owned(), text.clone())], value: text }
    }
}

impl Input<PathBuf> {
    /// A file, by its digest.
    pub fn file(name: &str, path: &Path) -> Result<Self> {
        Ok(Self::known_by([(name, Sha256::of_file(path)?.to_string())], path.to_owned()))
    }

    /// A file or directory with a known digest.
    #[must_use]
    pub fn digested(name: &str, digest: &Sha256, path: &Path) -> Self {
        Self::known_by([(name, digest.to_string())], path.to_owned())
    }

    /// A directory, by the digest of all files in it; see [`hash_tree`].
    pub fn tree(name: &str, dir: &Path) -> Result<Self> {
        Ok(Self::known_by([(name, hash_tree(dir)?.to_string())], dir.to_owned()))
    }

    /// The directory of an earlier stage, by that stage's key.
    #[must_use]
    pub fn stage(name: &str, stage: &Finished) -> Self {
        Self::known_by([(name, stage.key.to_string())], stage.dir.clone())
    }
}

impl Input<Run> {
    /// A program with its arguments, by its command line.
    #[must_use]
    pub fn run(name: &str, run: Run) -> Self {
        Self::known_by([(name, run.fingerprint())], run)
    }
}

impl<T> Deref for Input<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Shows only the entries: a value may be large or secret.
impl<T> fmt::Debug for Input<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("entries", &self.entries).finish_non_exhaustive()
    }
}

/// All inputs of a stage: an [`Input`], or references, tuples and lists of them. Sealed.
pub trait Inputs: sealed::Enter {}

impl<I: sealed::Enter> Inputs for I {}

pub(super) mod sealed {
    use super::Input;

    pub trait Enter {
        fn enter(&self, add: &mut dyn FnMut(&str, &str));
    }

    impl<T> Enter for Input<T> {
        fn enter(&self, add: &mut dyn FnMut(&str, &str)) {
            for (name, text) in &self.entries {
                add(name, text);
            }
        }
    }

    impl<I: Enter> Enter for &I {
        fn enter(&self, add: &mut dyn FnMut(&str, &str)) {
            (*self).enter(add);
        }
    }

    impl<I: Enter> Enter for Vec<I> {
        fn enter(&self, add: &mut dyn FnMut(&str, &str)) {
            self.iter().for_each(|input| input.enter(add));
        }
    }

    macro_rules! tuple {
        ($($name:ident)*) => {
            impl<$($name: Enter),*> Enter for ($($name,)*) {
                #[allow(non_snake_case, reason = "a type parameter names its field")]
                fn enter(&self, add: &mut dyn FnMut(&str, &str)) {
                    let ($($name,)*) = self;
                    $($name.enter(add);)*
                }
            }
        };
    }

    tuple!(A B);
    tuple!(A B C);
    tuple!(A B C D);
    tuple!(A B C D E);
    tuple!(A B C D E F);
    tuple!(A B C D E F G);
    tuple!(A B C D E F G H);
}
