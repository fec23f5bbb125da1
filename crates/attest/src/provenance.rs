//! SLSA provenance, version 1 (slsa.dev, "Provenance", predicate type `https://slsa.dev/provenance/v1`): the inputs and the builder of an image.

use std::collections::BTreeMap;

use common::{Class, Error, Result, Sha256};
use serde::Serialize;
use serde_json::{Value, json};

/// Defines the meaning of the external parameters; see docs/verification.md. An identifier, not an address.
pub const BUILD_TYPE: &str = "https://github.com/our-org/solana-talos/build/v1";
/// The builder: this program on an untrusted machine (SLSA build level 1).
pub const BUILDER: &str = "https://github.com/our-org/solana-talos/builder/local/v1";

/// One input of a build, by digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// Description.
    pub name: String,
    /// Unique origin: a package URL or an address, never a local path.
    pub uri: String,
    /// Digest.
    pub sha256: Sha256,
}

/// The options that the user chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameters {
    /// Kernel profile.
    pub profile: String,
    /// Boot preset.
    pub preset: String,
    /// Base: `testbed`, image references, or the digest of a local one.
    pub base: String,
    /// Additional kernel arguments.
    pub extra_kernel_arguments: Vec<String>,
    /// Registry and organisation of the image names.
    pub registry: String,
    /// Tag of the image names.
    pub tag: String,
    /// Origin of the kernel source.
    pub kernel_source: String,
}

/// A build.
#[derive(Clone, Debug)]
pub struct Build<'a> {
    /// The options that the user chose.
    pub parameters: &'a Parameters,
    /// Values defined by the project: versions, stage keys.
    pub internal: BTreeMap<String, Value>,
    /// All inputs.
    pub materials: &'a [Material],
    /// Version of this program.
    pub tool: &'a str,
}

impl Build<'_> {
    /// Returns the predicate. It contains no times or host names: the same inputs give the same bytes.
    ///
    /// # Errors
    /// [`Class::BadInput`] if a URI has two digests or is a path on this machine.
    pub fn predicate(&self) -> Result<Value> {
        let mut materials: Vec<_> = self.materials.iter().collect();
        materials.sort();
        materials.dedup();
        let mut digests = BTreeMap::new();
        for Material { name, uri, sha256 } in &materials {
            if digests.insert(uri, sha256).is_some_and(|other| other != sha256) {
                return Err(unusable(name, &format!("{uri} has two digests")));
            }
            if !uri.contains(':') || uri.starts_with("file:") {
                return Err(unusable(name, &format!("{uri:?} is a local path")));
            }
        }
        let dependency =
            |Material { name, uri, sha256 }: &Material| json!({"name": name, "uri": uri, "digest": {"sha256": sha256}});
        Ok(json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": self.parameters,
                "internalParameters": self.internal,
                "resolvedDependencies": materials.into_iter().map(dependency).collect::<Vec<_>>(),
            },
            "runDetails": {"builder": {"id": BUILDER, "version": {"solana-talos": self.tool}}},
        }))
    }
}

fn unusable(name: &str, why: &str) -> Error {
    Error::new(Class::BadInput, format!("cannot list the input {name:?} in the provenance")).why(why)
}
