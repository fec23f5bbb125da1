//! One entry of a layer, and the error for a layer that is refused.

use std::io;

use common::{Class, Error};

/// One entry of a layer; the path is relative and plain, empty for the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it goes.
    pub path: String,
    /// What it is.
    pub kind: ItemKind,
    /// Permission bits.
    pub mode: u32,
}

/// Kind of an [`Item`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// A regular file of so many bytes.
    File(u64),
    /// A directory.
    Dir,
    /// A symbolic link to this target, as written.
    Symlink(String),
    /// A hard link to this path, relative and plain.
    Hardlink(String),
    /// A device or named pipe.
    Special,
}

pub(crate) fn broken(e: &io::Error) -> Error {
    refused(e.to_string())
}

/// The layer is unsound or hostile.
pub(crate) fn refused(why: String) -> Error {
    Error::new(Class::BadInput, "a layer cannot be used").why(why)
}
