//! Bundles: the locked inputs as one OCI image layout (image-layout.md), a directory or a tar, for builds without network.
//!
//! A bundle is one artifact that a registry can store: its config is `solana-talos.lock`, each layer is one input, named by annotations.
//! Bundles are untrusted: a blob is stored only under its computed digest.
//!
//! Uses `common`, `oci` and `lock`.

mod create;
mod layout;
mod load;

pub use create::create;
pub use load::{Loaded, load};

/// Media type of the artifact.
const ARTIFACT: &str = "application/vnd.solana-talos.bundle.v1";
/// Media type of its config, the lock.
const LOCK: &str = "application/vnd.solana-talos.lock.v1+toml";
/// Annotation with the input's name.
const TITLE: &str = "org.opencontainers.image.title";
/// Annotation with its package URL or URI.
const URI: &str = "org.opencontainers.image.source";
