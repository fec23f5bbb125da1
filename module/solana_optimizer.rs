// SPDX-License-Identifier: GPL-2.0-only

//! Tunes the huge page pool and NUMA balancing of a Solana node at run time, through
//! `/proc/sys/solana`.
//!
//! The module holds no `unsafe` code. What it knows of the kernel comes from safe abstractions in
//! the `kernel` crate, and what it decides comes from [`policy`], which knows nothing of the kernel.
//!
//! # Locks
//!
//! 1. The mutex of [`controller::Controller`]; never held while the pool is resized.
//! 2. Those the kernel takes inside of the calls made: `avgs_lock` of PSI, `hugetlb_lock`.

#![forbid(unsafe_code)]

use kernel::prelude::*;

#[cfg(not(all(CONFIG_HUGETLB_PAGE, CONFIG_PROC_SYSCTL)))]
compile_error!("solana_optimizer needs a kernel with CONFIG_HUGETLBFS and CONFIG_PROC_SYSCTL");

mod controller;
mod files;
mod machine;
// Public as in its own crate, so that what only the host's tests use is no dead code here.
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

/// The loaded module: everything hangs on the registered files.
struct Optimizer {
    /// Only kept alive. Its drop ends, in this order, the files, the periodic work and the controller.
    _files: files::Files,
}

impl kernel::Module for Optimizer {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let files = files::register()?;
        Ok(Self { _files: files })
    }
}
