//! `solana-talos validate`: checks a system extension against Talos's rules.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use build::project;
use clap::Args;
use common::event::Event;
use common::text::count;
use common::{Class, Error};
use extension::{Extension, Target};
use oci::{Layout, Limits, Unpacked};

use crate::context::Context;

#[derive(Args)]
pub struct Options {
    /// Directory with manifest.yaml and rootfs/, or an OCI layout with extension images
    #[arg(value_name = "DIR")]
    path: PathBuf,
    /// Target Talos release
    #[arg(long, default_value = contract::DEFAULT_RELEASE)]
    talos: String,
    /// Release string of the target kernel [default: the pinned kernel's]
    #[arg(long, value_name = "RELEASE")]
    kernel: Option<String>,
}

pub fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let kernel = match &options.kernel {
        Some(release) => release.clone(),
        None => project::pin(context)?.kernel.release,
    };
    let target = Target::new(&options.talos, kernel)?;
    let path = &options.path;
    if path.join("oci-layout").is_file() {
        layout(context, path, &target)
    } else if path.is_dir() {
        let name = path.display().to_string();
        report(context, &name, &extension::validate(path, &target).context(name.clone())?);
        Ok(())
    } else {
        let why = if path.exists() { "not a directory" } else { "it does not exist" };
        Err(Error::new(Class::BadInput, "cannot find the extension")
            .file(path)
            .why(why)
            .hint("give a directory with manifest.yaml and rootfs/, or an OCI layout")
            .into())
    }
}

fn layout(context: &Context, path: &Path, target: &Target) -> anyhow::Result<()> {
    let layout = Layout::open(path)?;
    let images = layout.images()?;
    if images.is_empty() {
        let error = Error::new(Class::BadInput, "layout contains no image for linux/amd64").file(path);
        return Err(error.hint("give the layout of a system extension, such as _out/solana-optimizer.oci").into());
    }
    for image in &images {
        let name = image.names.first().cloned().unwrap_or_else(|| image.digest.oci());
        let scratch = tempfile::tempdir()?;
        let root = scratch.path().join("root");
        Unpacked::open(&layout, image, Limits::SYSTEM).and_then(|image| image.apply(&root)).context(name.clone())?;
        report(context, &name, &extension::validate(&root, target).context(name.clone())?);
    }
    Ok(())
}

fn report(context: &Context, name: &str, extension: &Extension) {
    let metadata = &extension.manifest.metadata;
    let message = format!(
        "{name}: valid: {} {} with {} and {}",
        metadata.name,
        metadata.version,
        count(extension.modules.len(), "module"),
        count(extension.services.len(), "service")
    );
    context.sink().emit(&Event::Note { message: &message });
}
