//! `solana-talos push`: the images of the output directory, with all that belongs to them, to a registry.

use std::path::{Path, PathBuf};

use attest::{Demand, Source};
use clap::Args;
use common::event::Event;
use common::{Class, Error, Result, Sha256};
use images::types::Descriptor;
use images::{Artifact, Layout};
use keys::PublicKey;
use registry::Plan;
use registry::clock::System;

use crate::context::Context;
use crate::remote::{self, Network, Pace};

#[derive(Args)]
pub struct Options {
    /// Images to push: names such as `kernel`, or layout directories [default: every *.oci in the output directory]
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// The output directory [default: _out in the project]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Push below this registry and organisation, whatever the images' names begin with
    #[arg(long, value_name = "NAME")]
    registry: Option<String>,
    /// Before a tag moves, verify with this public key (PEM) what the registry gives back [default: image.pub.pem beside the images]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    pace: Pace,
}

/// # Errors
/// When a layout is not whole, the registry refuses or gives something else back, or a signature does not verify; no tag has moved then.
pub fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let out = options.out.clone().unwrap_or_else(|| context.path("_out"));
    let layouts = layouts(&out, &options.images)?;
    let key = options.key.clone().or_else(|| key_beside(&layouts));
    let key = key.as_deref().map(PublicKey::read).transpose()?;
    let mut plans: Vec<Plan> = Vec::new();
    for layout in &layouts {
        plans.extend(registry::plans(layout, options.registry.as_deref())?);
    }
    let (keyring, clock) = (remote::keyring(), System::start());
    let client = options.network.client(options.pace, &keyring, &clock)?;
    // Signatures name the images as they were built: under another name they are as good, but for that.
    let demand = if options.registry.is_some() { Demand::AnyName } else { Demand::Everything };
    let verify =
        |layout: &Layout, image: &Sha256| key.as_ref().map_or(Ok(()), |key| verify(layout, image, key, demand));
    let tagged = registry::push(&client, context.sink(), &plans, &verify)?;
    if key.is_none() {
        let message = "only digests were compared, signatures were not verified: give --key for that";
        context.sink().emit(&Event::Note { message });
    }
    for tag in tagged {
        let unchanged = if tag.moved { "" } else { " (was there)" };
        context.answer(&format!("{}@{}{unchanged}", tag.name, tag.digest.oci()));
    }
    Ok(())
}

/// The layouts that are meant by `wanted`.
fn layouts(out: &Path, wanted: &[String]) -> Result<Vec<PathBuf>> {
    let is_layout = |path: &Path| path.join("oci-layout").is_file();
    if wanted.is_empty() {
        let nothing = || {
            let error =
                Error::new(Class::BadInput, "there is no image to push").file(out).why("it holds no *.oci layout");
            error.hint("run `./x build` first, or name its output directory with --out DIR")
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
            Error::new(Class::BadInput, format!("there is no image {name:?} to push"))
                .file(out)
                .why(format!("neither {name}.oci in it nor {name} itself is an OCI layout"))
                .hint("give a name such as `kernel`, or a layout directory")
        })
    };
    wanted.iter().map(find).collect()
}

/// The key that a build leaves beside its images.
fn key_beside(layouts: &[PathBuf]) -> Option<PathBuf> {
    let keys = layouts.iter().map(|layout| layout.with_file_name("image.pub.pem"));
    let keys: std::collections::BTreeSet<PathBuf> = keys.collect();
    keys.into_iter()
        .next()
        .filter(|key| layouts.iter().all(|l| l.with_file_name("image.pub.pem") == *key) && key.is_file())
}

fn verify(layout: &Layout, image: &Sha256, key: &PublicKey, demand: Demand) -> Result<()> {
    let subjects = attest::subjects(layout)?;
    let found = subjects.iter().find(|subject| subject.digest() == *image);
    let subject = found.ok_or_else(|| Error::new(Class::BadInput, "only an image can be verified, no index"))?;
    attest::verify(&Received(layout), subject, key, demand).map(drop)
}

/// What came back from a registry: its layers were compared with their digests and not kept.
struct Received<'a>(&'a Layout);

impl Source for Received<'_> {
    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        self.0.document(blob)
    }

    fn check(&self, blob: &Descriptor) -> Result<()> {
        if self.0.blob_path(blob.digest.0).is_file() { self.0.blob(blob).map(drop) } else { Ok(()) }
    }

    fn artifacts(&self, _image: &attest::Subject) -> Result<Vec<Artifact>> {
        self.0.artifacts()
    }
}
