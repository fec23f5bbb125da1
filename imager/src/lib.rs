//! Initramfs layers, UKI, boot presets and the installer image.
//!
//! Engines only: bytes in, bytes out. Foreign programs (`mksquashfs`, `depmod`) run in the toolchain's sandbox.

pub mod bzimage;
pub mod cmdline;
pub mod cpio;
pub mod initramfs;
pub mod layers;
pub mod machine_config;
pub mod modules_dep;
pub mod pe;
pub mod preset;
pub mod squashfs;
pub mod uki;
pub mod unpack;
