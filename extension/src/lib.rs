//! Assembles and validates Talos system extensions (siderolabs/talos, pkg/machinery/extensions), by the rules of each Talos line.
//!
//! Uses `contract` (paths a Talos line allows), `formats`, `oci` (files of an image) and `common`.

pub mod assemble;
pub mod extraction;
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
