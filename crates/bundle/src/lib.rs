//! The locked inputs as one OCI image layout (image-layout.md), a directory or a tar of it: what a machine without network builds from.
//!
//! One artifact: its configuration is `solana-talos.lock`, each layer is one input, named by annotations, so a registry can carry it too.
//! Bundles are untrusted: a blob is stored only under its real digest.
//!
//! Uses `common`, `oci` and `lock`.

mod create;
mod layout;
mod load;

pub use create::create;
pub use load::{Loaded, load};

/// Media type of the artifact.
const ARTIFACT: &str = "application/vnd.solana-talos.bundle.v1";
/// Media type of its configuration, the lock.
const LOCK: &str = "application/vnd.solana-talos.lock.v1+toml";
/// Annotation with the input's name.
const TITLE: &str = "org.opencontainers.image.title";
/// Annotation with its package URL or address.
const URI: &str = "org.opencontainers.image.source";
