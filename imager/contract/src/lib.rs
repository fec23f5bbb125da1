//! What Talos requires of an image.
//!
//! Values that differ between release lines are data, one file per line (`lines/v1.10.toml`). A new line is a new file: code reads its
//! values and never compares versions. Values common to all supported lines (1.10 and later) are constants here.
//!
//! Uses only `common` (errors) of this project.

mod extension;
mod line;
mod lines;
mod manifest;

pub use extension::{Extension, Untar};
pub use line::{Arguments, ImagerImage, InstallerImage, KernelImage, Line, Name, Uki};
pub use lines::{Lines, version};
pub use manifest::{Compatibility, VersionRange};

/// Talos release to build images for by default.
pub const DEFAULT_RELEASE: &str = include_str!("../default-release").trim_ascii();

/// Directory of kernel modules in every layer and in the kernel image.
pub const MODULES: &str = "usr/lib/modules";
/// Directory of firmware in an extension. It is copied to the initramfs itself: drivers load firmware before layers are mounted.
pub const FIRMWARE: &str = "usr/lib/firmware";

/// Members of the initramfs that `/init` reads.
pub mod initramfs {
    /// The program that mounts the layers and starts machined.
    pub const INIT: &str = "init";
    /// The root filesystem, below all layers.
    pub const ROOTFS: &str = "rootfs.sqsh";
    /// The list of layers.
    pub const LAYERS: &str = "extensions.yaml";
}
