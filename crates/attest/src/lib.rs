//! Signatures, SBOMs and provenance of images, in the formats of cosign, skopeo and Talos.
//!
//! Everything is signed with one ECDSA P-256 key and verified offline with its public key: no certificate, no transparency log, no clock.
//! [`sign()`] rewrites a layout with the artifacts of its images; [`verify()`] requires them. `docs/verification.md` shows how to verify
//! with reference tools.
//!
//! Uses `common`, `oci`, `keys` and `lock`.

pub mod artifact;
pub mod bundle;
pub mod crates;
pub mod dsse;
pub mod encoding;
pub mod evidence;
pub mod go_modules;
pub mod provenance;
pub mod sbom;
pub mod session;
pub mod sign;
pub mod simple;
pub mod source;
pub mod spdx;
pub mod statement;
pub mod subject;
pub mod talos;
pub mod verify;

pub use evidence::Evidence;
pub use provenance::Material;
pub use session::SigningSession;
pub use sign::{Predicates, sign};
pub use source::{Source, WithoutLayers, subjects};
pub use subject::Subject;
pub use verify::{Demand, Verified, check_index, verify, verify_layout, verify_pushed};
