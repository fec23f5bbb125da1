//! The kernel image and the extension image.

use std::collections::BTreeMap;
use std::path::Path;

use common::Result;
use common::stage::{Finished, Leftover};
use extension::manifest::Manifest;
use extension::validate::Target;
use oci::types::RunConfig;
use oci::{FileMap, NewImage, Writer};

use crate::context::Context;
use crate::pipeline::kernel::{Built, Prepared};
use crate::pipeline::names;
use crate::pipeline::signing::Signing;

/// The kernel image as Talos's `PKG_KERNEL` wants it, in `kernel.oci` of the stage.
///
/// # Errors
/// What a file reports.
pub fn kernel(prepared: &Prepared<'_>, built: &Built, registry: &str, signing: &Signing) -> Result<Finished> {
    let names = [names::release(registry, "kernel")?];
    let fingerprint = prepared
        .forge()
        .fingerprint("kernel-image")
        .with("kernel", built.kernel.stage.key.to_string())
        .with("modules", built.modules.key.to_string())
        .with("names", names.join(" "))
        .with("keys", signing.name())
        .with("tool", env!("CARGO_PKG_VERSION"));
    prepared.forge().cache.run(&fingerprint, Leftover::Discard, |work, _| {
        let mut files = FileMap::new();
        files.host("boot/vmlinuz", &built.kernel.vmlinuz(), 0o644)?;
        files.tree("", &built.modules.dir.join("signed"))?;
        for empty in ["certs", "dtb"] {
            files.insert(empty, oci::Entry::Dir { mode: 0o755 })?;
        }
        image(&work.join("kernel.oci"), &names, &files, prepared.pin.epoch, signing)
    })
}

/// The system extension with our module, in `solana-optimizer.oci` of the stage, checked against Talos's rules.
///
/// # Errors
/// [`common::Class::BadInput`] when it breaks a rule.
pub fn extension(
    context: &Context,
    prepared: &Prepared<'_>,
    built: &Built,
    registry: &str,
    signing: &Signing,
) -> Result<Finished> {
    let names = [names::release(registry, "solana-optimizer")?, names::latest(registry, "solana-optimizer")?];
    let manifest = manifest(context)?;
    let fingerprint = prepared
        .forge()
        .fingerprint("extension-image")
        .with("module", built.module.key.to_string())
        .with("manifest", manifest.emit()?)
        .with("names", names.join(" "))
        .with("keys", signing.name())
        .with("tool", env!("CARGO_PKG_VERSION"));
    prepared.forge().cache.run(&fingerprint, Leftover::Discard, |work, _| {
        let target = Target {
            talos: extension::range::talos_version(names::TALOS_VERSION)?,
            kernel: built.kernel.release.clone(),
        };
        let files = extension::assemble::assemble(&built.module.dir.join("signed"), &manifest, &target)?;
        image(&work.join("solana-optimizer.oci"), &names, &files, prepared.pin.epoch, signing)
    })
}

/// The manifest of our extension.
///
/// # Errors
/// [`common::Class::BadInput`] when it is malformed.
pub fn manifest(context: &Context) -> Result<Manifest> {
    Manifest::read(&context.path("extension/solana-optimizer.yaml"))
}

/// An image of one layer and no program: what `FROM scratch` and one `COPY` would give.
///
/// # Errors
/// What a file reports.
pub fn image(dest: &Path, names: &[String], files: &FileMap, created: u64, signing: &Signing) -> Result<()> {
    let mut writer = Writer::create(dest)?;
    let layer = writer.layer(files, created)?;
    let config = RunConfig { entrypoint: None, env: None, labels: None, other: BTreeMap::new() };
    writer.image(&NewImage {
        names,
        created,
        config,
        layers: &[layer],
        history: Vec::new(),
        annotations: signing.annotations(),
    })?;
    writer.finish()
}
