//! Assemble and validate a Talos system extension (siderolabs/talos v1.10.3, pkg/machinery/extensions).

pub mod assemble;
pub mod manifest;
pub mod modules;
pub mod paths;
pub mod range;
pub mod service;
pub mod validate;
pub mod violation;

pub use assemble::assemble;
pub use manifest::Manifest;
pub use validate::{Extension, Target, validate};
