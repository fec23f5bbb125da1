//! SLSA provenance, version 1 (slsa.dev, "Provenance", predicate type `https://slsa.dev/provenance/v1`): what an image was built from, and by what.

use std::collections::BTreeMap;

use common::{Class, Error, Result, Sha256};
use serde::Serialize;
use serde_json::Value;

/// How external parameters are to be read; docs/verification.md explains them. A name, not an address.
pub const BUILD_TYPE: &str = "https://github.com/our-org/solana-talos/build/v1";
/// Who built: this program, on a machine that nobody vouches for (SLSA build level 1).
pub const BUILDER: &str = "https://github.com/our-org/solana-talos/builder/local/v1";

/// One input of a build, by digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// What it is, for people.
    pub name: String,
    /// Where it comes from: a package URL or an address, which no two share. No path of a machine.
    pub uri: String,
    /// Its digest.
    pub sha256: Sha256,
}

/// What a user chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameters {
    /// Kernel profile.
    pub profile: String,
    /// Boot preset.
    pub preset: String,
    /// Base: `testbed`, references, or the digest of one that lay on the machine.
    pub base: String,
    /// Further kernel arguments.
    pub extra_kernel_arguments: Vec<String>,
    /// Registry and organisation of the images' names.
    pub registry: String,
    /// Where the kernel's source came from.
    pub kernel_source: String,
}

/// A build.
#[derive(Clone, Debug)]
pub struct Build<'a> {
    /// What the user chose.
    pub parameters: &'a Parameters,
    /// What follows from the project itself: versions, keys of stages.
    pub internal: BTreeMap<String, Value>,
    /// Every input.
    pub materials: &'a [Material],
    /// Version of this program.
    pub tool: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Provenance<'a> {
    build_definition: Definition<'a>,
    run_details: RunDetails<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Definition<'a> {
    build_type: &'a str,
    external_parameters: &'a Parameters,
    internal_parameters: &'a BTreeMap<String, Value>,
    resolved_dependencies: Vec<Dependency<'a>>,
}

#[derive(Serialize)]
struct Dependency<'a> {
    name: &'a str,
    uri: &'a str,
    digest: BTreeMap<&'a str, Sha256>,
}

impl<'a> From<&'a Material> for Dependency<'a> {
    fn from(Material { name, uri, sha256 }: &'a Material) -> Self {
        Self { name, uri, digest: BTreeMap::from([("sha256", *sha256)]) }
    }
}

#[derive(Serialize)]
struct RunDetails<'a> {
    builder: Builder<'a>,
}

#[derive(Serialize)]
struct Builder<'a> {
    id: &'a str,
    version: BTreeMap<&'a str, &'a str>,
}

impl Build<'_> {
    /// The predicate. It holds neither times nor names of machines: the same inputs give the same bytes.
    ///
    /// # Errors
    /// [`Class::BadInput`] when one address has two digests, or is a path of this machine.
    pub fn predicate(&self) -> Result<Value> {
        let mut materials: Vec<_> = self.materials.iter().collect();
        materials.sort();
        materials.dedup();
        let mut known = BTreeMap::new();
        for material in &materials {
            if known.insert(&material.uri, material.sha256).is_some_and(|other| other != material.sha256) {
                return Err(unusable(&material.name, &format!("{} has two digests", material.uri)));
            }
        }
        if let Some(local) =
            materials.iter().find(|material| !material.uri.contains(':') || material.uri.starts_with("file:"))
        {
            return Err(unusable(&local.name, &format!("{:?} is no address that holds elsewhere", local.uri)));
        }
        let resolved = materials.into_iter().map(Dependency::from);
        let provenance = Provenance {
            build_definition: Definition {
                build_type: BUILD_TYPE,
                external_parameters: self.parameters,
                internal_parameters: &self.internal,
                resolved_dependencies: resolved.collect(),
            },
            run_details: RunDetails {
                builder: Builder { id: BUILDER, version: BTreeMap::from([("solana-talos", self.tool)]) },
            },
        };
        serde_json::to_value(provenance).map_err(|e| Error::new(Class::BadInput, "cannot write the provenance").why(e))
    }
}

fn unusable(name: &str, why: &str) -> Error {
    Error::new(Class::BadInput, format!("cannot state the input {name:?} in the provenance")).why(why)
}
