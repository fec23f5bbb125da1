//! What the installer is built on: the testbed, or Talos's own images from a layout, a tarball or, locked, a registry.

use std::path::{Path, PathBuf};

use common::stage::{self, Input, Stage};
use common::{Class, Error, Result, Sha256};
use contract::Line;
use imager::base_images::BaseImages;
use imager::preset::Preset;
use oci::{Limits, Reference};

use crate::context::Context;
use crate::network::Network;
use crate::project::Project;
use crate::stages::kernel::Prepared;
use crate::stages::{bases, testbed};

/// Opens a base.
pub const STAGE: Stage = Stage::ours("base", env!("CARGO_PKG_NAME"));

/// A base that stands on this machine.
#[derive(Debug)]
pub struct TalosBase {
    /// Layout directory or tarball.
    pub path: PathBuf,
    /// What it is, for the fingerprint of what is built on it.
    pub identity: String,
    /// What it is called in provenance: no path of this machine.
    pub public: String,
    /// Whether it is our testbed and not Talos.
    pub testbed: bool,
}

impl TalosBase {
    /// As an input.
    #[must_use]
    pub fn input(&self, name: &str) -> Input<PathBuf> {
        Input::known_by([(name, self.identity.as_str())], self.path.clone())
    }

    /// Where it comes from, as far as that holds elsewhere.
    #[must_use]
    pub fn uri(&self) -> String {
        if self.testbed {
            return format!("pkg:generic/solana-talos-guest@{}", env!("CARGO_PKG_VERSION"));
        }
        format!("pkg:generic/talos-base@{}", self.identity)
    }
}

/// What the user named as base.
#[derive(Debug)]
pub enum BaseChoice {
    /// Our own.
    Testbed,
    /// Talos images, on this machine now.
    Talos(TalosBase),
}

/// Finds `name`: `testbed`, a path, or a comma-separated list of image references, whose images are brought here. They are opened, so that
/// a wrong base is told before anything is built.
///
/// # Errors
/// [`Class::BadInput`] when it is none of them, holds no Talos images, or is a reference that the lock does not name; as [`bases::fetch`].
pub fn find(project: &Project<'_>, network: &Network, name: &str) -> Result<BaseChoice> {
    let path = Path::new(name);
    if name == "testbed" {
        return Ok(BaseChoice::Testbed);
    }
    if path.exists() {
        return Ok(BaseChoice::Talos(here(project.context, path)?));
    }
    if !name.contains(':') && !name.contains('@') {
        return Err(Error::new(Class::BadInput, format!("there is no base {name:?}"))
            .why("it is neither `testbed` nor a layout directory or tarball here, and has no tag or digest as an image reference must")
            .hint("give --base testbed, --base DIR, --base FILE.tar or --base IMAGER-REF,INSTALLER-BASE-REF"));
    }
    Ok(BaseChoice::Talos(locked(project, network, &references(name)?)?))
}

/// A comma-separated list of image references.
///
/// # Errors
/// [`Class::BadInput`] when one is no full reference.
pub fn references(list: &str) -> Result<Vec<Reference>> {
    list.split(',').map(str::parse).collect()
}

fn here(context: &Context, path: &Path) -> Result<TalosBase> {
    if path.is_dir() && !path.join("oci-layout").is_file() {
        open(path)?; // Says what a base is; hashing a directory that is none could take for ever.
    }
    let identity = if path.is_dir() { stage::hash_tree(path)? } else { Sha256::of_file(path)? }.to_string();
    let public = format!("images with the digest {identity}");
    checked(context, TalosBase { path: path.to_owned(), identity, public, testbed: false })
}

fn locked(project: &Project<'_>, network: &Network, references: &[Reference]) -> Result<TalosBase> {
    let context = project.context;
    let bases = bases::locked(&project.locked.lock, references)?;
    bases::fetch(context, network, &bases)?;
    let layout = bases::layout(context, &bases)?;
    let public = bases.iter().map(|base| base.reference.as_str()).collect::<Vec<_>>().join(",");
    let (path, identity) = (layout.dir.join("base.oci"), layout.key.to_string());
    checked(context, TalosBase { path, identity, public, testbed: false })
}

/// Opens the base; the stage is there so that this is done once a base and not in every build.
fn checked(context: &Context, located: TalosBase) -> Result<TalosBase> {
    context.stages().run(STAGE, located.input("identity"), |_, path| open(&path))?;
    Ok(located)
}

fn open(path: &Path) -> Result<()> {
    BaseImages::open(&Line::default_release()?, path, tempfile::tempdir()?.path(), Limits::SYSTEM).map(|_| ())
}

/// Brings `named` to this machine: the testbed is built.
///
/// # Errors
/// When the testbed does not compile.
pub fn locate(prepared: &Prepared<'_>, named: BaseChoice, preset: &Preset) -> Result<TalosBase> {
    let BaseChoice::Talos(located) = named else {
        let base = testbed::base(prepared, preset)?;
        let public = "testbed".to_owned();
        return Ok(TalosBase {
            path: base.dir.join("base.oci"),
            identity: base.key.to_string(),
            public,
            testbed: true,
        });
    };
    Ok(located)
}
