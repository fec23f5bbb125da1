//! `solana-talos push`: copies the images of the output directory with their referrers to a registry.

use std::path::{Path, PathBuf};

use attest::Demand;
use build::{network, signing};
use clap::Args;
use common::event::Event;
use common::{Class, Error, Result, Sha256};
use keys::PublicKey;
use oci::Layout;
use oci::types::Named as _;
use registry::clock::System;
use registry::network::is_loopback;
use registry::{Existing, Part, Plan, Tagged};
use serde::Serialize;

use crate::context::{Context, Global};
use crate::options::{NetworkOptions, PaceOptions};
use crate::progress::{self, Format, History};
use crate::result::{self, Data};

#[derive(Args)]
pub struct Options {
    /// Images to push: names such as `kernel`, or OCI layout directories [default: every *.oci in the output directory]
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// Output directory of the build [default: _out in the project]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Push to this registry and organisation instead of those in the image names
    #[arg(long, value_name = "NAME")]
    registry: Option<String>,
    /// Verify against this public key (PEM) before uploading, and again before tagging [default: image.pub.pem next to the images]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Move a tag that the registry has for another image; without this option it is kept, and nothing is pushed
    #[arg(long)]
    replace_tag: bool,
    /// Push images that development keys signed to a registry on another machine too
    #[arg(long)]
    development_keys: bool,
    /// Accept a single signature; do not require SBOM and provenance
    #[arg(long)]
    signature_only: bool,
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    pace: PaceOptions,
}

/// Verifies before anything is uploaded. When the registry fails later, no image tag has moved; cosign's signature tags may have.
///
/// Needs a project only for its output directory.
pub fn run(global: Global, options: &Options) -> anyhow::Result<()> {
    let (output, offline) = (global.output(), global.offline);
    let sink = output.sink(History::none());
    let is_path = |image: &String| is_layout(Path::new(image));
    let out = match &options.out {
        Some(out) => out.clone(),
        None if !options.images.is_empty() && options.images.iter().all(is_path) => PathBuf::new(),
        None => Context::new(global, "")?.path("_out"),
    };
    let layouts = layouts(&out, &options.images)?;
    let key = options.key.clone().or_else(|| adjacent_key(&layouts));
    let key = key.as_deref().map(PublicKey::read).transpose()?;
    let mut plans: Vec<Plan> = Vec::new();
    for layout in &layouts {
        plans.extend(registry::plans(layout, options.registry.as_deref())?);
    }
    if !options.development_keys {
        plans.iter().try_for_each(refuse_test_build)?;
    }
    // Signatures cover the name that the image was built with, so it cannot be checked under another one.
    let demand = match options {
        Options { registry: Some(_), .. } => Demand::AnyName,
        Options { signature_only: true, .. } => Demand::Signature,
        _ => Demand::Everything,
    };
    let verify = |layout: &Layout, image: &Sha256| {
        key.as_ref().map_or(Ok(()), |key| attest::verify_pushed(layout, image, key, demand).map(drop))
    };
    // Cosign's tags are overwritten before they can be read back, so bad signatures must be caught here.
    plans.iter().try_for_each(|plan| verify(&plan.layout, &plan.image.descriptor.sha256()?))?;
    network::refuse_offline(offline, "push uploads to it")?;
    let (network, clock) = (options.network.network(), System::start());
    let client = network.client(options.pace.into(), &clock, sink.as_ref())?;
    let existing = if options.replace_tag { Existing::Replace } else { Existing::Keep };
    let tagged = registry::push(&client, sink.as_ref(), &plans, &verify, existing)?;
    if key.is_none() {
        let message = "signatures were not verified, only digests; give --key FILE to verify them";
        sink.emit(&Event::Note { message });
    }
    match output.format {
        Format::Text => tagged.iter().try_for_each(|tag| progress::answer(output.format, &line(tag))),
        Format::Json => result::print(&Pushed::of(&tagged, key.as_ref())),
    }
}

/// Fails if development keys signed the image or modules in it, and the registry is not on this machine.
fn refuse_test_build(plan: &Plan) -> Result<()> {
    let registry = &plan.repository.registry;
    let of_test = |image: &Part| signing::is_development(image.descriptor.annotations().iter().flatten());
    if is_loopback(registry) || !plan.image.flat().into_iter().any(of_test) {
        return Ok(());
    }
    Err(Error::new(Class::BadInput, format!("cannot push a test build to {registry}"))
        .file(&plan.root)
        .why("development keys signed it, which protect nothing")
        .hint("build with a key set: docs/keys.md; to a registry for tests, push with --development-keys"))
}

/// The result as data.
#[derive(Serialize)]
struct Pushed {
    images: Vec<Image>,
    /// Fingerprint of the key that verified the images.
    verified_with: Option<String>,
}

#[derive(Serialize)]
struct Image {
    name: String,
    digest: String,
    /// What the tag pointed to before.
    previous: Option<String>,
    tag: &'static str,
}

impl Data for Pushed {
    const VERB: &'static str = "push";
}

impl Pushed {
    fn of(tagged: &[Tagged], key: Option<&PublicKey>) -> Self {
        let image = |tag: &Tagged| Image {
            name: tag.name.clone(),
            digest: tag.digest.oci(),
            previous: tag.before.map(|digest| digest.oci()),
            tag: match tag.before {
                None => "created",
                Some(_) if tag.moved() => "replaced",
                Some(_) => "unchanged",
            },
        };
        let images = tagged.iter().map(image).collect();
        Self { images, verified_with: key.map(|key| key.fingerprint().oci()) }
    }
}

/// The name and digest to pin, and what happened to the tag.
fn line(tag: &Tagged) -> String {
    let what = match tag.before {
        None => String::new(),
        Some(_) if !tag.moved() => " (unchanged)".to_owned(),
        Some(before) => format!(" (was {})", before.oci()),
    };
    format!("{}@{}{what}", tag.name, tag.digest.oci())
}

fn is_layout(path: &Path) -> bool {
    path.join("oci-layout").is_file()
}

/// Returns the layouts for the names or paths in `wanted`; all in `out` when there are none.
fn layouts(out: &Path, wanted: &[String]) -> Result<Vec<PathBuf>> {
    if wanted.is_empty() {
        let nothing = || {
            let error = Error::new(Class::BadInput, "no image to push").file(out).why("contains no *.oci layout");
            error.hint("run `./x build` first, or give its output directory with --out DIR")
        };
        let entries = std::fs::read_dir(out).map_err(|_| nothing())?;
        let mut all: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        all.retain(|path| path.extension().is_some_and(|extension| extension == "oci") && is_layout(path));
        all.sort();
        return if all.is_empty() { Err(nothing()) } else { Ok(all) };
    }
    let find = |name: &String| {
        let candidates = [out.join(format!("{name}.oci")), PathBuf::from(name)];
        candidates.into_iter().find(|path| is_layout(path)).ok_or_else(|| {
            Error::new(Class::BadInput, format!("cannot find image {name:?}"))
                .file(out)
                .why(format!("neither {name}.oci in this directory nor {name} is an OCI layout"))
                .hint("give a name such as `kernel`, or a layout directory")
        })
    };
    wanted.iter().map(find).collect()
}

/// Returns the public key that the build wrote next to the layouts.
fn adjacent_key(layouts: &[PathBuf]) -> Option<PathBuf> {
    let keys = layouts.iter().map(|layout| layout.with_file_name("image.pub.pem"));
    let keys: std::collections::BTreeSet<PathBuf> = keys.collect();
    keys.into_iter()
        .next()
        .filter(|key| layouts.iter().all(|l| l.with_file_name("image.pub.pem") == *key) && key.is_file())
}
