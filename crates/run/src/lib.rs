//! Boots the result of a build in QEMU: the machine as data, its boot disk, ports of the host, and the console.
//!
//! QEMU runs in the toolchain's sandbox, with the host's network for the forwarded ports.

pub mod build;
pub mod console;
pub mod esp;
pub mod machine;
pub mod node;
pub mod ports;
pub mod size;

pub use build::Build;
pub use machine::Wanted;
pub use node::{Node, Seen, watch};
