//! The user's choices, parsed and checked before any stage runs.

use attest::provenance::Parameters;
use common::stage::Input;
use common::{Result, Sha256};
use extension::manifest::Manifest;
use imager::cmdline::Cmdline;
use imager::preset::Preset;
use keys::Role;

use crate::context::Context;
use crate::names::Naming;
use crate::signing::{KeyChoice, Signing};
use crate::stages::base::{self, BaseChoice};
use crate::stages::kernel::{KernelPlan, SourceChoice};
use crate::stages::{installer, packages};

/// The user's choices, not parsed yet.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Kernel profile.
    pub profile: String,
    /// Preset of boot arguments and settings for the installer.
    pub preset: String,
    /// Base of the installer; see [`base::find`] and [`base::default`].
    pub base: Option<String>,
    /// Keep the base's installer program.
    pub keep_installer: bool,
    /// Additional kernel arguments; `-NAME` removes one.
    pub extra: Vec<String>,
    /// Registry and organisation in the image names.
    pub registry: String,
    /// Tag in the image names; the default is that of the Talos release.
    pub tag: Option<String>,
    /// Origin of the kernel source.
    pub source: SourceChoice,
    /// SHA-256 of the kernel.org tarball, if the pin has none.
    pub kernel_sha256: Option<Sha256>,
    /// The keys to sign with.
    pub keys: KeyChoice,
}

/// A parsed and checked choice.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The kernel.
    pub(crate) kernel: KernelPlan<'a>,
    pub(crate) base: BaseChoice,
    pub(crate) keys: Option<Signing>,
    pub(crate) images: ImagePlan,
}

/// What goes into the images besides kernel, base and keys.
#[derive(Debug)]
pub(crate) struct ImagePlan {
    /// The choices as given.
    pub choice: Choice,
    pub preset: Preset,
    pub command_line: Cmdline,
    pub naming: Naming,
    pub manifest: Input<Manifest>,
    pub base_name: String,
}

impl<'a> Plan<'a> {
    /// Parses and checks `choice`. No stage runs, and nothing is fetched.
    pub fn read(context: &'a Context, choice: Choice) -> Result<Self> {
        let preset = Preset::named(&choice.preset)?;
        let naming = Naming::new(&choice.registry, choice.tag.as_deref())?;
        let command_line = installer::command_line(&preset, &choice.extra)?;
        let kernel = KernelPlan::read(context, &choice.profile, choice.source, choice.kernel_sha256)?;
        let manifest = packages::manifest(context)?;
        let base_name = match &choice.base {
            Some(name) => name.clone(),
            None => base::default(&kernel.project)?.to_owned(),
        };
        let base = base::find(&kernel.project, &base_name)?;
        let keys = Signing::given(context, &choice.keys, &[Role::Module, Role::Image])?;
        let images = ImagePlan { choice, preset, command_line, naming, manifest, base_name };
        Ok(Self { kernel, base, keys, images })
    }
}

impl ImagePlan {
    /// Returns the choices for the provenance; `base` describes the base without a local path.
    pub fn parameters(&self, base: &str) -> Parameters {
        let Self { choice, naming, .. } = self;
        Parameters {
            profile: choice.profile.clone(),
            preset: choice.preset.clone(),
            base: base.to_owned(),
            extra_kernel_arguments: choice.extra.clone(),
            registry: naming.registry().to_owned(),
            tag: naming.tag().to_owned(),
            kernel_source: match choice.source {
                SourceChoice::Debian => "debian".to_owned(),
                SourceChoice::Upstream => "upstream".to_owned(),
            },
        }
    }
}
