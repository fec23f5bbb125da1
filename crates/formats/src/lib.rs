//! File formats of kernels and boot images, as specified; independent of Talos and of this project's images.
//!
//! Bytes in, bytes out. Every reader takes untrusted bytes: it checks bounds, enforces limits and does not panic.

pub mod budget;
pub mod bzimage;
pub mod compression;
pub mod cpio;
pub mod elf;
pub mod initramfs;
mod lz4;
pub mod module_signature;
pub mod pe;
pub mod pe_append;
#[cfg(any(test, feature = "samples"))]
pub mod samples;
pub mod sniff;
pub mod squashfs;

pub use budget::Budget;
pub use compression::Compression;
pub use sniff::{Format, sniff};
