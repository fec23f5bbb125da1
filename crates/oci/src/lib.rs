//! OCI images: writes deterministic layers and layout directories, reads untrusted ones.
//!
//! Independent of Talos. Uses only `common` of the project.
//!
//! Formats: the OCI image specification 1.1 (manifest.md, config.md, layer.md, image-layout.md, descriptor.md).
//! Does not access registries: the caller first copies an image into a layout.

pub mod filemap;
pub mod layer;
pub mod layout;
pub mod reference;
pub mod tarball;
mod tarblocks;
mod tarentry;
mod tarnames;
pub mod tarstream;
use common::time;
pub mod types;
pub mod unpack;
pub mod view;
pub mod writer;

pub use filemap::{Entry, FileMap, Source};
pub use layer::Layer;
pub use layout::{Artifact, Image, Layout};
pub use reference::Reference;
pub use tarstream::Limits;
pub use unpack::Unpacked;
pub use writer::{NewImage, Writer};
