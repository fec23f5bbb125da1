//! Initramfs layers, UKI, boot presets and the installer image.
//!
//! Engines only: bytes in, bytes out. External programs (`mksquashfs`, `depmod`) run in the toolchain's sandbox.

mod append;
pub mod assemble;
pub mod base_images;
pub mod cmdline;
pub mod initramfs;
pub mod installer;
pub mod installer_tag;
pub mod layers;
pub mod machine_config;
pub mod modules_dep;
pub mod os_release;
pub mod preset;
pub mod reference;
pub mod squashfs;
pub mod uki;
pub mod verify;
