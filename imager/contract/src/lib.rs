//! What Talos requires of an image.
//!
//! What differs between lines of releases is data, one file a line (`lines/v1.10.toml`): a new line is a new file, and code asks for its
//! values, never for a version. What every supported line (1.10 and later) has in common is a constant here.
//!
//! Uses `common` for errors, nothing else of the project.

mod line;
mod lines;

pub use line::{Arguments, Extension, ImagerImage, InstallerImage, KernelImage, Line, Name, Uki};
pub use lines::{Lines, version};

/// The Talos release that images are for when no other is named.
pub const DEFAULT_RELEASE: &str = include_str!("../default-release").trim_ascii();

/// Directory of kernel modules in every layer and in the kernel image.
pub const MODULES: &str = "usr/lib/modules";
/// Directory of firmware in an extension. It goes into the initramfs itself: drivers ask for firmware before layers are mounted.
pub const FIRMWARE: &str = "usr/lib/firmware";

/// Members of the initramfs that `/init` looks for.
pub mod initramfs {
    /// The program that stacks the layers and starts machined.
    pub const INIT: &str = "init";
    /// The root filesystem, below all layers.
    pub const ROOTFS: &str = "rootfs.sqsh";
    /// The list of layers.
    pub const LAYERS: &str = "extensions.yaml";
}
