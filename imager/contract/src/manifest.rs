//! Parts of an extension manifest that are also written to the list of layers in the initramfs.

use serde::{Deserialize, Serialize};

/// Versions an extension is compatible with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compatibility {
    /// Talos versions.
    pub talos: VersionRange,
}

/// A version constraint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionRange {
    /// Range such as `>= v1.10.0`; empty for any version.
    pub version: String,
}
