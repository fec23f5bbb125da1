//! The kernel image and the extension image.

use std::collections::BTreeMap;
use std::path::Path;

use common::Result;
use common::stage::{Finished, Input, Stage};
use contract::{DEFAULT_RELEASE, Line};
use extension::manifest::Manifest;
use extension::validate::Target;
use oci::{FileMap, NewImage, Writer};

use crate::context::Context;
use crate::names::{self, Naming};
use crate::signing::Signing;
use crate::stages::kernel::{Built, Prepared};

/// Packs the kernel.
pub const KERNEL_STAGE: Stage = Stage::ours("kernel-image", env!("CARGO_PKG_NAME"));
/// Packs the extension.
pub const EXTENSION_STAGE: Stage = Stage::ours("extension-image", env!("CARGO_PKG_NAME"));

/// Writes `kernel.oci`, in the form that Talos expects for `PKG_KERNEL`.
pub fn kernel(prepared: &Prepared<'_>, built: &Built, naming: &Naming, signing: &Signing) -> Result<Finished> {
    let inputs = (
        prepared.environment().tools(),
        built.kernel_input(),
        Input::stage("modules", &built.modules),
        names::input(vec![naming.image("kernel")?]),
        signing.annotations(naming.chosen()),
    );
    prepared.environment().cache.run(KERNEL_STAGE, inputs, |work, (tools, kernel, modules, names, annotations)| {
        let talos = Line::default_release()?.kernel;
        let mut files = FileMap::new();
        files.host(&talos.image, &kernel.kernel.vmlinuz(), 0o644)?;
        files.tree("", &modules.join("signed"))?;
        for empty in &talos.directories {
            files.insert(empty, oci::Entry::Dir { mode: 0o755 })?;
        }
        image(&work.dir().join("kernel.oci"), &names, &files, tools.epoch, &annotations)
    })
}

/// Writes `solana-optimizer.oci`, the system extension with our module, checked against Talos's rules.
pub fn extension(
    prepared: &Prepared<'_>,
    built: &Built,
    manifest: &Input<Manifest>,
    naming: &Naming,
    signing: &Signing,
) -> Result<Finished> {
    let inputs = (
        prepared.environment().tools(),
        Input::text("release", &built.kernel.release),
        Input::stage("module", &built.module),
        manifest,
        names::input(naming.extension("solana-optimizer")?),
        signing.annotations(naming.chosen()),
    );
    let stages = prepared.environment().cache;
    stages.run(EXTENSION_STAGE, inputs, |work, (tools, release, module, manifest, names, annotations)| {
        let target = Target::new(DEFAULT_RELEASE, release.clone())?;
        let files = extension::assemble::assemble(&module.join("signed"), manifest, &target)?;
        image(&work.dir().join("solana-optimizer.oci"), &names, &files, tools.epoch, &annotations)
    })
}

/// Reads the manifest of our extension.
pub fn manifest(context: &Context) -> Result<Input<Manifest>> {
    let manifest = Manifest::read(&context.path("extension/solana-optimizer.yaml"))?;
    Ok(Input::known_by([("manifest", manifest.emit()?)], manifest))
}

/// Writes an image of one layer without an entry point, like `FROM scratch` and one `COPY`.
pub fn image(
    dest: &Path,
    names: &[String],
    files: &FileMap,
    created: u64,
    annotations: &BTreeMap<String, String>,
) -> Result<()> {
    let image = NewImage { names, created, annotations: annotations.clone(), ..NewImage::default() };
    Writer::one_image(dest, files, image).map(drop)
}
