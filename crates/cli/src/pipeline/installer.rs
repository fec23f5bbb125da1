//! The installer image: initramfs with the layers on top, unified kernel image, artifacts layer on the base.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::stage::{Finished, Input, Stage, Work};
use common::{Error, Result};
use contract::Line;
use extension::manifest::Manifest;
use imager::assemble::{self, Layers};
use imager::base_images::BaseImages;
use imager::cmdline::Cmdline;
use imager::installer::{Installer, write};
use imager::layers;
use imager::preset::Preset;
use imager::uki::UkiParts;
use imager::verify::verify;
use imager::{os_release, uki};
use kernel_config::environment::Tools;
use oci::Limits;

use crate::context::Context;
use crate::pipeline::base::Located;
use crate::pipeline::kernel::{Built, KernelInput, Prepared};
use crate::pipeline::signing::Signing;
use crate::pipeline::{names, packages};

/// Builds the installer.
pub const STAGE: Stage = Stage::ours("installer-image", env!("CARGO_PKG_NAME"));

/// What the user chooses about an installer.
pub struct Choice<'a> {
    /// The boot arguments and settings.
    pub preset: &'a Preset,
    /// Further kernel arguments; `-name` deletes.
    pub extra: &'a [String],
    /// Registry and organisation.
    pub registry: &'a str,
    /// Who signs.
    pub signing: &'a Signing,
}

/// The kernel command line: Talos's own, the preset's, the user's.
///
/// # Errors
/// [`common::Class::BadInput`] when an argument is none, or takes away what Talos insists on.
pub fn command_line(preset: &Preset, extra: &[String]) -> Result<Cmdline> {
    Cmdline::compose(&Line::default_release()?.arguments, &preset.arguments()?, extra)
}

/// `installer.oci`, `vmlinuz.efi`, `initramfs.xz` and `cmdline` in the stage's directory; the image is verified before the stage is done.
///
/// # Errors
/// [`common::Class::BadInput`] when the base is no Talos image or an argument is none.
pub fn build(
    context: &Context,
    prepared: &Prepared<'_>,
    built: &Built,
    base: &Located,
    choice: &Choice<'_>,
) -> Result<Finished> {
    let line = command_line(choice.preset, choice.extra)?.to_string();
    let inputs = (
        prepared.environment().tools(),
        built.kernel_input(),
        (Input::stage("modules", &built.modules), Input::stage("module", &built.module)),
        packages::manifest(context)?,
        base.input("base"),
        Input::text("cmdline", line),
        names::input(vec![names::release(choice.registry, "installer")?]),
        choice.signing.annotations(),
    );
    prepared.environment().cache.run(STAGE, inputs, assemble)
}

type Inputs<'a> = (
    Input<Tools<'a>>,
    Input<KernelInput>,
    (Input<PathBuf>, Input<PathBuf>),
    Input<Manifest>,
    Input<PathBuf>,
    Input<String>,
    Input<Vec<String>>,
    Input<BTreeMap<String, String>>,
);

fn assemble(work: &mut Work<'_>, inputs: Inputs<'_>) -> Result<()> {
    let (tools, kernel, (modules, module), manifest, base, line, names, annotations) = inputs;
    let talos = Line::default_release()?;
    let opened = BaseImages::open(&talos, &base, &work.empty_dir("base")?, Limits::SYSTEM)?;
    let base_initramfs = read(&opened.boot.initramfs)?;
    let layers = Layers {
        release: &kernel.kernel.release,
        kernel: &modules.join("signed"),
        extensions: &[(metadata(&manifest), &module.join("signed"))],
    };
    let mtime = u32::try_from(tools.epoch).unwrap_or(u32::MAX);
    let scratch = work.empty_dir("layers")?;
    let initramfs = assemble::initramfs(tools.sandbox, &base_initramfs, &layers, &scratch, mtime)?;
    let os_release = os_release::from_base(tools.sandbox, &base_initramfs, &scratch)?;
    let image = uki::build(
        &read(&opened.boot.stub)?,
        &UkiParts {
            os_release: &os_release,
            cmdline: &line,
            linux: &read(&kernel.kernel.vmlinuz())?,
            initrd: &initramfs,
            profile: &talos.uki.profile,
        },
    )?;
    let efi = work.dir().join("vmlinuz.efi");
    common::atomic::write(&work.dir().join("initramfs.xz"), initramfs)?;
    common::atomic::write(&efi, image)?;
    common::atomic::write(&work.dir().join("cmdline"), format!("{}\n", *line))?;
    let new = Installer {
        names: &names,
        boot_loader: &opened.boot.boot_loader,
        uki: &efi,
        created: tools.epoch,
        annotations: &annotations,
    };
    let layout = work.dir().join("installer.oci");
    write(&talos.installer, &layout, &opened, &new)?;
    verify(&talos, &layout, &work.empty_dir("verify")?)?;
    ["base", "layers", "verify"].iter().try_for_each(|name| common::atomic::remove_dir(&work.dir().join(name)))
}

/// The extension's metadata in the form of the initramfs's list of layers.
fn metadata(manifest: &Manifest) -> layers::Metadata {
    let manifest = manifest.metadata.clone();
    let talos = layers::TalosVersion { version: manifest.compatibility.talos.version };
    layers::Metadata {
        name: manifest.name,
        version: manifest.version,
        author: manifest.author,
        description: manifest.description,
        compatibility: Some(layers::Compatibility { talos }),
        extra_info: manifest.extra_info,
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io("cannot read a part of the installer", path, &e))
}
