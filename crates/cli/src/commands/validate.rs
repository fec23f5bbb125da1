//! `solana-talos validate`: checks a system extension against Talos's rules.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use build::project;
use clap::Args;
use common::event::{Event, Sink};
use common::text::count;
use common::{Class, Error};
use extension::violation::Violation;
use extension::{Extension, Target, extraction};
use oci::{Layout, Limits, Unpacked};
use serde::Serialize;

use crate::context::{Context, Global};
use crate::progress::{Format, History};
use crate::result::{self, Data};

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

/// Needs a project only for the release of its kernel.
pub fn run(global: Global, options: &Options) -> anyhow::Result<()> {
    let output = global.output();
    let sink = output.sink(History::none());
    let kernel = match &options.kernel {
        Some(release) => release.clone(),
        None => {
            let context =
                Context::new(global, "").map_err(|e| e.hint("run it in the project, or give --kernel RELEASE"))?;
            project::pin(&context)?.kernel.release
        }
    };
    let target = Target::new(&options.talos, kernel)?;
    let path = &options.path;
    let valid = if path.join("oci-layout").is_file() {
        layout(path, &target)?
    } else if path.is_dir() {
        let name = path.display().to_string();
        vec![Valid::of(&name, &extension::validate(path, &target).context(name.clone())?)]
    } else {
        let why = if path.exists() { "not a directory" } else { "it does not exist" };
        return Err(Error::new(Class::BadInput, "cannot find the extension")
            .file(path)
            .why(why)
            .hint("give a directory with manifest.yaml and rootfs/, or an OCI layout")
            .into());
    };
    match output.format {
        Format::Text => valid.iter().for_each(|extension| extension.report(sink.as_ref())),
        Format::Json => {
            let (talos, kernel) = (format!("v{}", target.talos), target.kernel);
            result::print(&Validated { talos, kernel, extensions: valid })?;
        }
    }
    Ok(())
}

/// The result as data.
#[derive(Serialize)]
struct Validated {
    talos: String,
    kernel: String,
    extensions: Vec<Valid>,
}

impl Data for Validated {
    const VERB: &'static str = "validate";
}

/// A valid extension.
#[derive(Serialize)]
struct Valid {
    /// The image or directory.
    source: String,
    name: String,
    version: String,
    /// Paths in the booted system.
    modules: Vec<String>,
    services: Vec<String>,
}

/// Returns every extension of the layout, which must be valid.
fn layout(path: &Path, target: &Target) -> anyhow::Result<Vec<Valid>> {
    let layout = Layout::open(path)?;
    let images = layout.images()?;
    if images.is_empty() {
        let error = Error::new(Class::BadInput, "layout contains no image for linux/amd64").file(path);
        return Err(error.hint("give the layout of a system extension, such as _out/solana-optimizer.oci").into());
    }
    let mut valid = Vec::new();
    for image in &images {
        let name = image.names.first().cloned().unwrap_or_else(|| image.digest.oci());
        let different = extraction::check(&layout, image, Limits::SYSTEM, target).context(name.clone())?;
        if !different.is_empty() {
            return Err(Violation::error(Class::UntrustedData, &different)).context(name);
        }
        let scratch = tempfile::tempdir()?;
        let root = scratch.path().join("root");
        Unpacked::open(&layout, image, Limits::SYSTEM).and_then(|image| image.apply(&root)).context(name.clone())?;
        valid.push(Valid::of(&name, &extension::validate(&root, target).context(name.clone())?));
    }
    Ok(valid)
}

impl Valid {
    fn of(source: &str, extension: &Extension) -> Self {
        let metadata = &extension.manifest.metadata;
        Self {
            source: source.to_owned(),
            name: metadata.name.clone(),
            version: metadata.version.clone(),
            modules: extension.modules.keys().cloned().collect(),
            services: extension.services.iter().map(|service| service.name.clone()).collect(),
        }
    }

    fn report(&self, sink: &dyn Sink) {
        let Self { source, name, version, modules, services } = self;
        let (modules, services) = (count(modules.len(), "module"), count(services.len(), "service"));
        let message = format!("{source}: valid: {name} {version} with {modules} and {services}");
        sink.emit(&Event::Note { message: &message });
    }
}
