//! One file a verb.

pub mod kernel;
pub mod toolchain;
