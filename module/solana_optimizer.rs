// SPDX-License-Identifier: GPL-2.0-only

//! Tunes the huge page pool and NUMA balancing of a Solana node at run time, through
//! `/proc/sys/solana`.
//!
//! The module contains no `unsafe` code. It uses the kernel through safe abstractions in the
//! `kernel` crate; its decisions come from [`policy`], which does not depend on the kernel.
//!
//! # Locks
//!
//! 1. The mutex of [`controller::Controller`]; never held while the pool is resized.
//! 2. Locks that the kernel takes in the functions called: `avgs_lock` of PSI, `hugetlb_lock`.

#![forbid(unsafe_code)]

use kernel::prelude::*;

#[cfg(not(all(CONFIG_HUGETLB_PAGE, CONFIG_PROC_SYSCTL)))]
compile_error!("solana_optimizer needs a kernel with CONFIG_HUGETLBFS and CONFIG_PROC_SYSCTL");

mod controller;
mod files;
mod machine;
// Public as in its own crate, so that items only the host's tests use are not dead code here.
#[path = "policy/src/rules/mod.rs"]
pub mod policy;

module! {
    type: Optimizer,
    name: "solana_optimizer",
    author: "solana-talos maintainers",
    description: "Huge page and NUMA tuning for Solana nodes",
    license: "GPL",
    imports_ns: ["SOLANA_OPTIMIZER"],
}

/// The loaded module: the registered files own everything else.
struct Optimizer {
    /// Dropping it ends, in this order, the files, the periodic work and the controller.
    _files: files::Files,
}

impl kernel::Module for Optimizer {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let files = files::register()?;
        Ok(Self { _files: files })
    }
}
