//! What a build is made from.

use std::collections::BTreeMap;

use common::Result;
use contract::DEFAULT_RELEASE;
use serde::Serialize;

use crate::plan::Plan;
use crate::signing::{KeySource, Signing};
use crate::stages::base::BaseChoice;

/// What a build is made from, and the names of its images.
#[derive(Debug, Serialize)]
pub struct Inputs {
    /// The release of Talos.
    pub talos: &'static str,
    /// The kernel profile.
    pub profile: String,
    /// The preset.
    pub preset: String,
    /// The kernel command line.
    pub command_line: String,
    /// The kernel.
    pub kernel: Kernel,
    /// Versions of the toolchain packages that compile, link, compress and sign.
    pub tools: BTreeMap<String, String>,
    /// The base of the installer.
    pub base: Base,
    /// The keys.
    pub keys: KeySource,
    /// Registry and organisation in the names of the images.
    pub registry: String,
    /// Their tag.
    pub tag: String,
    /// The names of the images.
    pub images: Vec<String>,
}

/// The kernel of a build.
#[derive(Debug, Serialize)]
pub struct Kernel {
    /// What `uname -r` prints.
    pub release: String,
    /// File name or address of the source.
    pub source: String,
    /// Digest of the source.
    pub digest: String,
}

/// The base of a build.
#[derive(Debug, Serialize)]
pub struct Base {
    /// As the user gave it, or the default.
    pub name: String,
    /// Whether it is the testbed and not Talos.
    pub testbed: bool,
    /// Its images, if the lock has them.
    pub images: Vec<LockedImage>,
}

/// An image in the lock.
#[derive(Debug, Serialize)]
pub struct LockedImage {
    /// Registry, repository and tag.
    pub name: String,
    /// Digest of the manifest.
    pub digest: String,
}

impl Inputs {
    pub(super) fn of(plan: &Plan<'_>) -> Result<Self> {
        let (images, source) = (&plan.images, plan.kernel.source_material());
        let keys = match &plan.keys {
            Some(signing) => signing.source.clone(),
            None => Signing::development_source(plan.kernel.project.context),
        };
        Ok(Self {
            talos: DEFAULT_RELEASE,
            profile: images.choice.profile.clone(),
            preset: images.choice.preset.clone(),
            command_line: images.command_line.to_string(),
            kernel: Kernel {
                release: plan.kernel.project.pin.kernel.release.clone(),
                source: source.name,
                digest: source.sha256.oci(),
            },
            tools: plan.kernel.tools(),
            base: Base::of(&images.base_name, &plan.base),
            keys,
            registry: images.naming.registry().to_owned(),
            tag: images.naming.tag().to_owned(),
            images: images.naming.all()?,
        })
    }
}

impl Base {
    fn of(name: &str, choice: &BaseChoice) -> Self {
        let images = match choice {
            BaseChoice::Locked(images) => &images[..],
            _ => &[],
        };
        let image = |image: &lock::BaseImage| LockedImage { name: image.reference.clone(), digest: image.sha256.oci() };
        let testbed = matches!(choice, BaseChoice::Testbed);
        Self { name: name.to_owned(), testbed, images: images.iter().map(image).collect() }
    }
}
