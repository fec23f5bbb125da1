//! Assemble and validate a Talos system extension (siderolabs/talos v1.10.3, pkg/machinery/extensions).
//!
//! Uses `contract` for what a Talos line allows, `oci` for the files of the image, `common`.

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
