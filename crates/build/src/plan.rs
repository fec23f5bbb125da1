//! What is built: every choice of the user, read and checked before anything is made.

use attest::provenance::Parameters;
use common::stage::Input;
use common::{Result, Sha256};
use extension::manifest::Manifest;
use imager::cmdline::Cmdline;
use imager::preset::Preset;
use keys::Role;

use crate::context::Context;
use crate::names;
use crate::network::Network;
use crate::signing::{KeyChoice, Signing};
use crate::stages::base::{self, BaseChoice};
use crate::stages::kernel::{KernelPlan, SourceChoice};
use crate::stages::{installer, packages};

/// What the user chose, in the user's words.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Kernel profile.
    pub profile: String,
    /// Boot arguments and settings baked into the installer.
    pub preset: String,
    /// What the installer is built on; see [`base::find`].
    pub base: String,
    /// Further kernel arguments; `-NAME` removes one.
    pub extra: Vec<String>,
    /// Registry and organisation in the images' names.
    pub registry: String,
    /// Where the kernel's source comes from.
    pub source: SourceChoice,
    /// Digest of kernel.org's tarball, where the pin has none.
    pub kernel_sha256: Option<Sha256>,
    /// Who signs.
    pub keys: KeyChoice,
}

/// What a choice came to.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The words.
    pub choice: Choice,
    /// The kernel.
    pub(crate) kernel: KernelPlan<'a>,
    pub(crate) preset: Preset,
    pub(crate) command_line: Cmdline,
    pub(crate) installer_name: String,
    pub(crate) manifest: Input<Manifest>,
    pub(crate) base: BaseChoice,
    pub(crate) keys: Option<Signing>,
}

impl<'a> Plan<'a> {
    /// Reads and checks all that can be wrong with `choice`. Nothing is made; a base in a registry is pulled.
    ///
    /// # Errors
    /// [`common::Class::BadInput`] for each of the choices; as [`KernelPlan::read`], [`base::find`] and [`Signing::given`].
    pub fn read(context: &'a Context, network: &Network, choice: Choice) -> Result<Self> {
        let preset = Preset::named(&choice.preset)?;
        let installer_name = names::release(&choice.registry, "installer")?;
        let command_line = installer::command_line(&preset, &choice.extra)?;
        let kernel = KernelPlan::read(context, &choice.profile, choice.source, choice.kernel_sha256)?;
        let manifest = packages::manifest(context)?;
        let base = base::find(&kernel.project, network, &choice.base)?;
        let keys = Signing::given(&choice.keys, &[Role::Module, Role::Image])?;
        Ok(Self { choice, kernel, preset, command_line, installer_name, manifest, base, keys })
    }

    /// The choices, for the provenance; `base` says what the base is without a path of this machine.
    pub(crate) fn parameters(choice: &Choice, base: &str) -> Parameters {
        Parameters {
            profile: choice.profile.clone(),
            preset: choice.preset.clone(),
            base: base.to_owned(),
            extra_kernel_arguments: choice.extra.clone(),
            registry: choice.registry.clone(),
            kernel_source: match choice.source {
                SourceChoice::Debian => "debian".to_owned(),
                SourceChoice::Upstream => "upstream".to_owned(),
            },
        }
    }
}
