//! One file a verb.

pub mod toolchain;
