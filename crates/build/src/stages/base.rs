//! The base of the installer: Talos built from its Go modules, Talos's images from a layout, a tarball or, if locked, a registry, or the testbed.

use std::path::{Path, PathBuf};

use attest::sbom::Userland;
use common::event::Event;
use common::stage::{self, Finished, Input, Stage};
use common::{Class, Error, Result, Sha256, atomic};
use contract::{DEFAULT_RELEASE, Line};
use imager::base_images::BaseImages;
use imager::preset::Preset;
use lock::BaseImage;
use oci::{Limits, Reference};

use crate::context::Context;
use crate::network::Network;
use crate::project::Project;
use crate::stages::kernel::Prepared;
use crate::stages::{bases, go, source_base, testbed};

/// Opens a base.
pub const STAGE: Stage = Stage::ours("base", env!("CARGO_PKG_NAME"));

/// File with the publisher of a base in the result of that stage.
const PUBLISHER: &str = "publisher";

/// Names of the bases that are built here.
pub const TALOS: &str = "talos";
/// As [`TALOS`].
pub const TESTBED: &str = "testbed";

/// A base on this machine.
#[derive(Debug)]
pub struct TalosBase {
    /// Layout directory or tarball.
    pub path: PathBuf,
    /// Its digest, for the keys of stages that use it.
    pub identity: String,
    /// Its description in the provenance, without a local path.
    pub public: String,
    /// Its contents, for SBOMs.
    pub contents: Userland,
    /// Stage with Talos's programs, if it was built from them.
    programs: Option<Finished>,
}

impl TalosBase {
    /// Returns it as a stage input.
    #[must_use]
    pub fn input(&self, name: &str) -> Input<PathBuf> {
        Input::known_by([(name, self.identity.as_str())], self.path.clone())
    }

    /// Whether it is the testbed and not Talos.
    #[must_use]
    pub fn is_testbed(&self) -> bool {
        matches!(self.contents, Userland::Testbed { .. })
    }

    /// Returns the stage with Talos's programs, which is run if the base was not built from them; `None` for the testbed.
    pub fn programs(&self, prepared: &Prepared<'_>) -> Result<Option<Finished>> {
        match (&self.programs, self.is_testbed()) {
            (None, false) => go::programs(prepared.context(), &prepared.toolchain, go::BASE).map(Some),
            (programs, _) => Ok(programs.clone()),
        }
    }

    /// Returns its purl.
    #[must_use]
    pub fn uri(&self) -> String {
        if self.is_testbed() {
            return format!("pkg:generic/solana-talos-guest@{}", env!("CARGO_PKG_VERSION"));
        }
        format!("pkg:generic/talos-base@{}", self.identity)
    }
}

/// The base that the user chose, not built, fetched or opened yet.
#[derive(Clone, Debug)]
pub enum BaseChoice {
    /// Talos, built from its Go modules.
    Source,
    /// The testbed.
    Testbed,
    /// Talos's images in a layout directory or tarball.
    Local(PathBuf),
    /// Talos's images in a registry, by the digests in the lock.
    Locked(Vec<BaseImage>),
}

/// A base that can be used: its images were opened, or are to be built here.
#[derive(Debug)]
pub enum OpenedBase {
    /// Talos, built from its Go modules.
    Source,
    /// The testbed.
    Testbed,
    /// Talos's images.
    Images(Box<TalosBase>),
}

/// Returns the base of a build whose user names none: Talos, or the testbed if the modules of Talos are neither here nor can be downloaded.
pub fn default(project: &Project<'_>) -> Result<&'static str> {
    let context = project.context;
    if !context.offline {
        return Ok(TALOS);
    }
    for file in &project.locked.modules {
        if context.store.find(&file.sha256)?.is_none() {
            let message = format!(
                "the base is `{TESTBED}`, not Talos: offline, and {} is not in the store (`solana-talos fetch` downloads it)",
                file.path
            );
            context.sink().emit(&Event::Warning { message: &message });
            return Ok(TESTBED);
        }
    }
    Ok(TALOS)
}

/// Finds the base `name`: `talos`, `testbed`, a path, or a comma-separated list of image references, which the lock must have.
pub fn find(project: &Project<'_>, name: &str) -> Result<BaseChoice> {
    let path = Path::new(name);
    match name {
        TALOS => return Ok(BaseChoice::Source),
        TESTBED => return Ok(BaseChoice::Testbed),
        _ if path.exists() => return Ok(BaseChoice::Local(path.to_owned())),
        _ => {}
    }
    if !name.contains(':') && !name.contains('@') {
        return Err(Error::new(Class::BadInput, format!("unknown base {name:?}"))
            .why("it is neither `talos` nor `testbed` nor an existing directory or file, and an image reference needs a tag or digest")
            .hint("give --base talos, --base testbed, --base DIR, --base FILE.tar or --base IMAGER-REF,INSTALLER-BASE-REF"));
    }
    Ok(BaseChoice::Locked(bases::locked(&project.locked.lock, &references(name)?)?))
}

/// Opens the images of the base, so that an invalid one is reported before anything is built. Pulls those in a registry from `network`; without
/// it, they must be here.
pub fn open(context: &Context, network: Option<&Network>, choice: &BaseChoice) -> Result<OpenedBase> {
    Ok(match choice {
        BaseChoice::Source => OpenedBase::Source,
        BaseChoice::Testbed => OpenedBase::Testbed,
        BaseChoice::Local(path) => OpenedBase::Images(Box::new(local(context, path)?)),
        BaseChoice::Locked(images) => {
            if let Some(network) = network {
                bases::fetch(context, network, images)?;
            }
            OpenedBase::Images(Box::new(locked(context, images)?))
        }
    })
}

/// Parses a comma-separated list of image references.
pub fn references(list: &str) -> Result<Vec<Reference>> {
    list.split(',').map(str::parse).collect()
}

fn local(context: &Context, path: &Path) -> Result<TalosBase> {
    if path.is_dir() && !path.join("oci-layout").is_file() {
        check(path)?; // Fails early: hashing an arbitrary directory could take very long.
    }
    let identity = if path.is_dir() { stage::hash_tree(path)? } else { Sha256::of_file(path)? }.to_string();
    let public = format!("images with the digest {identity}");
    checked(context, path.to_owned(), identity, public)
}

fn locked(context: &Context, bases: &[BaseImage]) -> Result<TalosBase> {
    let layout = bases::layout(context, bases)?;
    let public = bases.iter().map(|base| base.reference.as_str()).collect::<Vec<_>>().join(",");
    let path = layout.dir.join("base.oci");
    let identity = of_layout(&path)?;
    checked(context, path, identity, public)
}

/// Returns the digest of a layout that a stage wrote: that of its index. Not the stage's key, which our own sources change: it is in the
/// provenance of images.
fn of_layout(path: &Path) -> Result<String> {
    Ok(Sha256::of_file(&path.join("index.json"))?.to_string())
}

/// Opens the base at `path`, in a stage, so that this is done once per base and not in every build.
fn checked(context: &Context, path: PathBuf, identity: String, public: String) -> Result<TalosBase> {
    let input = Input::known_by([("identity", identity.as_str())], path.clone());
    let opened = context.stages().run(STAGE, input, |work, path| {
        let publisher = check(&path)?.unwrap_or_default();
        atomic::write(&work.dir().join(PUBLISHER), publisher)
    })?;
    let publisher = Some(fs_err::read_to_string(opened.dir.join(PUBLISHER))?).filter(|name| !name.is_empty());
    let contents = Userland::Images { version: DEFAULT_RELEASE.to_owned(), digest: identity.parse()?, publisher };
    Ok(TalosBase { path, identity, public, contents, programs: None })
}

/// Checks the base, and returns who publishes it, if its installer-base image has a name.
fn check(path: &Path) -> Result<Option<String>> {
    let line = Line::default_release()?;
    let base = BaseImages::open(&line, path, tempfile::tempdir()?.path(), Limits::SYSTEM)?;
    let publisher = base.installer.names.first().and_then(|name| Some(name.rsplit_once('/')?.0.to_owned()));
    let labels = base.installer.config.config.labels.unwrap_or_default();
    match labels.get(&line.installer.version_label).filter(|release| *release != DEFAULT_RELEASE) {
        None => Ok(publisher),
        Some(release) => {
            Err(Error::new(Class::BadInput, format!("the base is Talos {release}, not {DEFAULT_RELEASE}"))
                .file(path)
                .why(format!("its installer-base image has the label {}={release}", line.installer.version_label))
                .hint(format!("give the images imager and installer-base of {DEFAULT_RELEASE}")))
        }
    }
}

/// Returns the chosen base; builds it if it is not there.
pub fn locate(prepared: &Prepared<'_>, opened: OpenedBase, preset: &Preset) -> Result<TalosBase> {
    let (stage, public, contents, programs) = match opened {
        OpenedBase::Images(base) => return Ok(*base),
        OpenedBase::Source => {
            let toolchain = &prepared.toolchain;
            let base = source_base::build(prepared.context(), toolchain)?;
            let contents = base.contents(&prepared.plan.project, toolchain)?;
            (base.stage, TALOS, Userland::Source(contents), Some(base.programs))
        }
        OpenedBase::Testbed => {
            let crates = testbed::crates(prepared)?;
            let contents = Userland::Testbed { version: env!("CARGO_PKG_VERSION").to_owned(), crates };
            (testbed::base(prepared, preset)?, TESTBED, contents, None)
        }
    };
    let path = stage.dir.join("base.oci");
    Ok(TalosBase { identity: of_layout(&path)?, path, public: public.to_owned(), contents, programs })
}
