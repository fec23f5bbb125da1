//! OCI images: deterministic layers, layout directories, and the reading of third-party layers.
//!
//! Knows nothing of what the images are for. Uses `common`, nothing else of the project.
//!
//! Formats: the OCI image specification 1.1 (manifest.md, config.md, layer.md, image-layout.md, descriptor.md).
//! Nothing here talks to a registry: what comes from one is first copied into a layout by the caller.

pub mod filemap;
pub mod layer;
pub mod layout;
pub mod reference;
pub mod tarball;
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
