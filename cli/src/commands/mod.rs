//! One file a verb.

pub mod build;
pub mod kernel;
pub mod toolchain;
pub mod validate;
