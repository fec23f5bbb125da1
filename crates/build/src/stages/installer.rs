//! The installer image: the base image with a layer of boot assets (unified kernel image with our initramfs, boot loader) and an installer
//! program with a tag of its own, so that an upgrade from one build to the next of the same Talos version can be rolled back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::stage::{Finished, Input, Stage, Work};
use common::{Result, Sha256};
use contract::{DEFAULT_RELEASE, Line};
use extension::manifest::Manifest;
use imager::assemble::{self, Layers};
use imager::base_images::BaseImages;
use imager::cmdline::Cmdline;
use imager::installer::{Installer, write};
use imager::layers;
use imager::preset::Preset;
use imager::uki::UkiParts;
use imager::verify::verify;
use imager::{installer_tag, os_release, uki};
use kernel_config::environment::Tools;
use oci::Limits;

use crate::names::{self, Naming};
use crate::signing::Signing;
use crate::stages::base::TalosBase;
use crate::stages::kernel::{Built, KernelInput, Prepared};

/// Builds the installer.
pub const STAGE: Stage = Stage::ours("installer-image", env!("CARGO_PKG_NAME"));

/// Composes the kernel command line from Talos's arguments, the preset's and the user's.
pub fn command_line(preset: &Preset, extra: &[String]) -> Result<Cmdline> {
    Cmdline::compose(&Line::default_release()?.arguments, &preset.arguments()?, extra)
}

/// Parts of an installer besides the kernel.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The base.
    pub base: &'a TalosBase,
    /// The installer program; see [`program`].
    pub program: &'a Input<Option<PathBuf>>,
    /// The manifest of our extension.
    pub manifest: &'a Input<Manifest>,
    /// The kernel command line.
    pub command_line: &'a Cmdline,
    /// How images are named.
    pub naming: &'a Naming,
    /// The keys to sign with.
    pub signing: &'a Signing,
}

/// Returns the program to replace the base's installer with: that among `programs`, the result of [`go::programs`](crate::stages::go::programs). See [`installer_tag`].
pub fn program(programs: Option<&Finished>) -> Input<Option<PathBuf>> {
    match programs {
        Some(programs) => Input::stage("program", programs).map(|dir| Some(dir.join("bin/installer-tagged"))),
        None => Input::known_by([("program", "that of the base")], None),
    }
}

/// Writes `installer.oci`, `vmlinuz.efi`, `initramfs.xz` and `cmdline`, and verifies the image.
pub fn build(prepared: &Prepared<'_>, built: &Built, parts: &Parts<'_>) -> Result<Finished> {
    let inputs = (
        prepared.environment().tools(),
        built.kernel_input(),
        (Input::stage("modules", &built.modules), Input::stage("module", &built.module)),
        parts.manifest,
        (parts.base.input("base"), parts.program),
        Input::text("cmdline", parts.command_line.to_string()),
        names::input(vec![parts.naming.image("installer")?]),
        parts.signing.annotations(parts.naming.chosen()),
    );
    prepared.environment().cache.run(STAGE, inputs, assemble)
}

type Inputs<'a> = (
    Input<Tools<'a>>,
    Input<KernelInput>,
    (Input<PathBuf>, Input<PathBuf>),
    &'a Input<Manifest>,
    (Input<PathBuf>, &'a Input<Option<PathBuf>>),
    Input<String>,
    Input<Vec<String>>,
    Input<BTreeMap<String, String>>,
);

fn assemble(work: &mut Work<'_>, inputs: Inputs<'_>) -> Result<()> {
    let (tools, kernel, (modules, module), manifest, (base, program), line, names, annotations) = inputs;
    let talos = Line::default_release()?;
    let opened = BaseImages::open(&talos, &base, &work.empty_dir("base")?, Limits::SYSTEM)?;
    let base_initramfs = fs_err::read(&opened.boot.initramfs)?;
    let layers = Layers {
        release: &kernel.kernel.release,
        kernel: &modules.join("signed"),
        extensions: &[(metadata(manifest), &module.join("signed"))],
    };
    let mtime = u32::try_from(tools.epoch).unwrap_or(u32::MAX);
    let scratch = work.empty_dir("layers")?;
    let initramfs = assemble::initramfs(tools.sandbox, &base_initramfs, &layers, &scratch, mtime)?;
    let os_release = os_release::from_base(tools.sandbox, &base_initramfs, &scratch)?;
    let image = uki::build(
        &fs_err::read(&opened.boot.stub)?,
        &UkiParts {
            os_release: &os_release,
            cmdline: &line,
            linux: &fs_err::read(kernel.kernel.vmlinuz())?,
            initrd: &initramfs,
            profile: &talos.uki.profile,
        },
    )?;
    let efi = work.dir().join("vmlinuz.efi");
    common::atomic::write(&work.dir().join("initramfs.xz"), initramfs)?;
    let program = match program.as_ref() {
        Some(program) => Some(installer_tag::stamp(fs_err::read(program)?, DEFAULT_RELEASE, &Sha256::of(&image))?),
        None => None,
    };
    common::atomic::write(&efi, image)?;
    common::atomic::write(&work.dir().join("cmdline"), format!("{}\n", *line))?;
    let new = Installer {
        names: &names,
        boot_loader: &opened.boot.boot_loader,
        uki: &efi,
        program: program.as_deref(),
        created: tools.epoch,
        annotations: &annotations,
    };
    let layout = work.dir().join("installer.oci");
    write(&talos.installer, &layout, &opened, &new)?;
    verify(&talos, &layout, &work.empty_dir("verify")?)?;
    ["base", "layers", "verify"].iter().try_for_each(|name| common::atomic::remove_dir(&work.dir().join(name)))
}

/// Converts the extension's metadata for the initramfs's list of layers.
fn metadata(manifest: &Manifest) -> layers::Metadata {
    let manifest = manifest.metadata.clone();
    layers::Metadata {
        name: manifest.name,
        version: manifest.version,
        author: manifest.author,
        description: manifest.description,
        compatibility: Some(manifest.compatibility),
        extra_info: manifest.extra_info,
    }
}
