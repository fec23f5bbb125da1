//! One entry of a layer, and the error for a rejected layer.

use std::fmt;

use common::{Class, Error};

/// One entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Relative and plain path, empty for the root.
    pub path: String,
    /// File type.
    pub kind: ItemKind,
    /// Permission bits.
    pub mode: u32,
    /// Whether the stored path begins with a slash, which is the root of the image.
    pub absolute: bool,
}

/// Kind of an [`Item`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// A regular file of this size in bytes.
    File(u64),
    /// A directory.
    Dir,
    /// A symbolic link with this target, as stored.
    Symlink(String),
    /// A hard link to this path, relative and plain.
    Hardlink(String),
    /// A device or named pipe.
    Special,
    /// A global PAX header, such as git's: no file, but an entry for Go.
    Comment,
}

/// Returns the error for a layer that is malformed or above a limit.
pub(crate) fn malformed(why: impl fmt::Display) -> Error {
    Error::new(Class::UntrustedData, "image layer is malformed").why(why)
}
