//! One file a verb.

pub mod build;
pub mod fetch;
pub mod kernel;
pub mod module;
pub mod toolchain;
pub mod validate;
