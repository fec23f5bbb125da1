//! File trees from a list of files: Talos's root filesystem and its installer image.
//!
//! A [`Recipe`] is such a list, `rootfs.toml` or `installer.toml`. [`write()`] makes the tree: it copies programs from Debian with
//! the shared libraries that they need, and the licence texts of their packages. [`pack`] makes an image of it.

mod debian;
mod image;
mod libraries;
mod recipe;
mod tree;

pub use image::pack;
pub use recipe::{Entry, Origin, Recipe};
pub use tree::{Sources, write};
