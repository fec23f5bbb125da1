//! QEMU harness: starts machines in the toolchain's sandbox, watches their consoles and drives them through the guest's agent.
//!
//! A test gets the build's outputs from [`settings`], describes a machine ([`qemu::Machine`]), starts it ([`vm::Vm`]) and talks to the
//! guest ([`agent::Agent`]). [`scenario`] shares one machine between tests.

pub mod agent;
pub mod boot_menu;
pub mod boot_partition;
pub mod broken;
pub mod caches;
pub mod console;
#[path = "../guest/src/hex.rs"]
pub mod hex;
pub mod image;
pub mod installer;
pub mod kconfig;
pub mod kernel_log;
pub mod ktap;
pub mod kubernetes;
pub mod life;
pub mod machines;
pub mod modules;
pub mod outputs;
pub mod pipelines;
pub mod procfs;
#[path = "../guest/src/protocol.rs"]
pub mod protocol;
pub mod recipe;
pub mod registry;
pub mod scenario;
pub mod settings;
pub mod signature;
pub mod steps;
pub mod stock;
pub mod sysctl;
pub mod talos;
pub mod talosctl;
pub mod vm;

pub use anyhow::Result;
