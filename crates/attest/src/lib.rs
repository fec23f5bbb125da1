//! Signatures of images, SBOMs and provenance, in the formats that other tools verify.
//!
//! Everything is signed with one ECDSA P-256 key and verified with its public half, offline: no certificate, no transparency log, no clock.
//! [`sign()`] writes a layout again with the signatures attached to its images; [`verify()`] requires them. `docs/verification.md` shows the
//! same with other tools.
//!
//! Uses `common`, `oci` and `keys`.

pub mod artifact;
pub mod asking;
pub mod bundle;
pub mod crates;
pub mod dsse;
pub mod encoding;
pub mod evidence;
pub mod provenance;
pub mod sbom;
pub mod sign;
pub mod simple;
pub mod source;
pub mod spdx;
pub mod statement;
pub mod subject;
pub mod talos;
pub mod verify;

pub use asking::Asking;
pub use evidence::Evidence;
pub use provenance::Material;
pub use sign::{Predicates, sign};
pub use source::{Source, WithoutLayers, subjects};
pub use subject::Subject;
pub use verify::{Demand, Verified, nothing_else, verify, verify_layout, verify_pushed};
