//! The base of the installer: the testbed, or Talos's images from a layout, a tarball or, if locked, a registry.

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

/// A base on this machine.
#[derive(Debug)]
pub struct TalosBase {
    /// Layout directory or tarball.
    pub path: PathBuf,
    /// Its digest, for the keys of stages that use it.
    pub identity: String,
    /// Its description in the provenance, without a local path.
    pub public: String,
    /// Whether it is the testbed and not Talos.
    pub testbed: bool,
}

impl TalosBase {
    /// Returns it as a stage input.
    #[must_use]
    pub fn input(&self, name: &str) -> Input<PathBuf> {
        Input::known_by([(name, self.identity.as_str())], self.path.clone())
    }

    /// Returns its purl.
    #[must_use]
    pub fn uri(&self) -> String {
        if self.testbed {
            return format!("pkg:generic/solana-talos-guest@{}", env!("CARGO_PKG_VERSION"));
        }
        format!("pkg:generic/talos-base@{}", self.identity)
    }
}

/// The base that the user chose.
#[derive(Debug)]
pub enum BaseChoice {
    /// The testbed, not built yet.
    Testbed,
    /// Talos images, on this machine.
    Talos(TalosBase),
}

/// Finds the base `name`: `testbed`, a path, or a comma-separated list of image references, which are pulled. The images are opened, so that an
/// invalid base is reported before anything is built.
pub fn find(project: &Project<'_>, network: &Network, name: &str) -> Result<BaseChoice> {
    let path = Path::new(name);
    if name == "testbed" {
        return Ok(BaseChoice::Testbed);
    }
    if path.exists() {
        return Ok(BaseChoice::Talos(local(project.context, path)?));
    }
    if !name.contains(':') && !name.contains('@') {
        return Err(Error::new(Class::BadInput, format!("unknown base {name:?}"))
            .why("it is neither `testbed` nor an existing directory or file, and an image reference needs a tag or digest")
            .hint("give --base testbed, --base DIR, --base FILE.tar or --base IMAGER-REF,INSTALLER-BASE-REF"));
    }
    Ok(BaseChoice::Talos(locked(project, network, &references(name)?)?))
}

/// Parses a comma-separated list of image references.
pub fn references(list: &str) -> Result<Vec<Reference>> {
    list.split(',').map(str::parse).collect()
}

fn local(context: &Context, path: &Path) -> Result<TalosBase> {
    if path.is_dir() && !path.join("oci-layout").is_file() {
        open(path)?; // Fails early: hashing an arbitrary directory could take very long.
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

/// Opens the base, in a stage, so that this is done once per base and not in every build.
fn checked(context: &Context, located: TalosBase) -> Result<TalosBase> {
    context.stages().run(STAGE, located.input("identity"), |_, path| open(&path))?;
    Ok(located)
}

fn open(path: &Path) -> Result<()> {
    BaseImages::open(&Line::default_release()?, path, tempfile::tempdir()?.path(), Limits::SYSTEM).map(|_| ())
}

/// Returns the chosen base; builds the testbed.
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
