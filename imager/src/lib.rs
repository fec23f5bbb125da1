//! Initramfs layers, UKI, boot presets and the installer image.
//!
//! Engines only: bytes in, bytes out. Foreign programs (`mksquashfs`, `depmod`) are run through [`runner::Runner`].

pub mod cpio;
