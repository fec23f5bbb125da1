//! The stages of a build: each file runs the engines of one part.

pub mod attest;
pub mod base;
pub mod base_layout;
pub mod bases;
pub mod devel;
pub mod devel_tree;
pub mod go;
pub mod installer;
pub mod kernel;
pub mod packages;
pub mod source_base;
pub mod testbed;
pub mod upstream;

use common::stage::Stage;

pub use kernel_config::compile::STAGE as KERNEL;
pub use kernel_config::configure::STAGE as KERNEL_CONFIG;
pub use kernel_config::source::STAGE as KERNEL_SOURCE;
pub use kernel_config::upstream::STAGE as KERNEL_BASE;
pub use toolchain::STAGE as TOOLCHAIN;

/// The stages up to the compiled kernel. Their keys do not cover our own code, so changing it does not recompile the kernel.
pub const TO_KERNEL: [Stage; 5] = [TOOLCHAIN, KERNEL_SOURCE, KERNEL_BASE, KERNEL_CONFIG, KERNEL];

/// The stages that compile the testbed's programs. Their keys cover only its sources and the toolchain.
pub const TESTBED_PROGRAMS: [Stage; 3] = [toolchain::CRATES_STAGE, testbed::PROGRAMS_STAGE, testbed::CRATES_STAGE];

/// The stages that build Talos's programs. Their keys cover only the Go toolchain, the modules and the flags.
pub const GO_PROGRAMS: [Stage; 4] = [go::TOOLCHAIN_STAGE, go::MODULE_STAGE, go::STAGE, go::TALOS_STAGE];

/// The stages after the compiled kernel, except those of the testbed's programs.
pub const AFTER_KERNEL: [Stage; 16] = [
    kernel_config::sign::KERNEL_STAGE,
    kernel_config::external::STAGE,
    kernel_config::external::DEVEL_STAGE,
    kernel_config::sign::EXTENSION_STAGE,
    packages::KERNEL_STAGE,
    packages::EXTENSION_STAGE,
    devel::STAGE,
    devel_tree::STAGE,
    base::STAGE,
    bases::STAGE,
    testbed::STAGE,
    source_base::ROOTFS_STAGE,
    source_base::STAGE,
    installer::STAGE,
    attest::STAGE,
    crate::base_build::STAGE,
];

/// Returns whether the cache directory `name` belongs to one of `stages`.
#[must_use]
pub fn owned(stages: &[Stage], name: &str) -> bool {
    stages.iter().any(|stage| stage.owns(name))
}
