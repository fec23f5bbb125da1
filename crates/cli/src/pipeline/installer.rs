//! The installer image: initramfs with the layers on top, unified kernel image, artifacts layer on the base.

use std::collections::BTreeMap;
use std::path::Path;

use common::stage::{Finished, Leftover};
use common::{Error, Result};
use imager::assemble::{self, Layers};
use imager::cmdline::{Cmdline, TalosDefaults};
use imager::installer::{Installer, verify, write};
use imager::layers;
use imager::preset::Preset;
use imager::uki::UkiParts;
use imager::{os_release, uki};
use oci::Limits;
use oci::base::Base;

use crate::context::Context;
use crate::pipeline::base::Located;
use crate::pipeline::kernel::{Built, Prepared};
use crate::pipeline::signing::Signing;
use crate::pipeline::{names, packages};

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
    Cmdline::compose(&TalosDefaults::v1_10()?, &preset.arguments()?, extra)
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
    let names = [names::release(choice.registry, "installer")?];
    let line = command_line(choice.preset, choice.extra)?.to_string();
    let metadata = metadata(context)?;
    let fingerprint = prepared
        .forge()
        .fingerprint("installer-image")
        .with("kernel", built.kernel.stage.key.to_string())
        .with("modules", built.modules.key.to_string())
        .with("module", built.module.key.to_string())
        .with("manifest", packages::manifest(context)?.emit()?)
        .with("base", base.identity.as_str())
        .with("cmdline", line.as_str())
        .with("names", names.join(" "))
        .with("keys", choice.signing.name())
        .with("tool", env!("CARGO_PKG_VERSION"));
    prepared.forge().cache.run(&fingerprint, Leftover::Discard, |work, _| {
        let sandbox = &prepared.toolchain.sandbox;
        let opened = Base::open(&base.path, &scratch(work, "base")?, Limits::TALOS)?;
        let base_initramfs = read(&opened.boot.initramfs)?;
        let layers = Layers {
            release: &built.kernel.release,
            kernel: &built.modules.dir.join("signed"),
            extensions: &[(metadata, &built.module.dir.join("signed"))],
            microcode: BTreeMap::new(),
        };
        let mtime = u32::try_from(prepared.pin.epoch).unwrap_or(u32::MAX);
        let layer_work = scratch(work, "layers")?;
        let initramfs = assemble::initramfs(sandbox, &base_initramfs, &layers, &layer_work, mtime)?;
        let os_release = os_release::from_base(sandbox, &base_initramfs, &layer_work)?;
        let image = uki::build(
            &read(&opened.boot.stub)?,
            &UkiParts {
                os_release: &os_release,
                cmdline: &line,
                splash: None,
                linux: &read(&built.kernel.vmlinuz())?,
                initrd: &initramfs,
            },
        )?;
        let efi = work.join("vmlinuz.efi");
        common::atomic::write(&work.join("initramfs.xz"), initramfs)?;
        common::atomic::write(&efi, image)?;
        common::atomic::write(&work.join("cmdline"), format!("{line}\n"))?;
        let labels = BTreeMap::new();
        let new = Installer {
            names: &names,
            boot: &opened.boot.boot,
            uki: &efi,
            created: prepared.pin.epoch,
            labels: &labels,
            annotations: &choice.signing.annotations(),
        };
        write(&work.join("installer.oci"), &opened, &new)?;
        verify(&work.join("installer.oci"), &scratch(work, "verify")?)?;
        ["base", "layers", "verify"].iter().try_for_each(|name| common::atomic::remove_dir(&work.join(name)))
    })
}

/// The extension's metadata in the form of the initramfs's list of layers.
fn metadata(context: &Context) -> Result<layers::Metadata> {
    let manifest = packages::manifest(context)?.metadata;
    let talos = layers::TalosVersion { version: manifest.compatibility.talos.version };
    Ok(layers::Metadata {
        name: manifest.name,
        version: manifest.version,
        author: manifest.author,
        description: manifest.description,
        compatibility: Some(layers::Compatibility { talos }),
        extra_info: manifest.extra_info,
    })
}

fn scratch(work: &Path, name: &str) -> Result<std::path::PathBuf> {
    let dir = work.join(name);
    common::atomic::empty_dir(&dir)?;
    Ok(dir)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io("cannot read a part of the installer", path, &e))
}
