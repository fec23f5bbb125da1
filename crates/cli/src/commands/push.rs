//! `solana-talos push`: the images of the output directory, with all that belongs to them, to a registry.

use std::path::{Path, PathBuf};

use attest::Demand;
use build::network;
use clap::Args;
use common::event::Event;
use common::{Class, Error, Result, Sha256};
use keys::PublicKey;
use oci::Layout;
use oci::types::Named as _;
use registry::Plan;
use registry::clock::System;

use crate::context::Context;
use crate::options::{NetworkOptions, PaceOptions};

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
    /// Verify with this public key (PEM), before anything is sent and before a tag moves [default: image.pub.pem beside the images]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Be content with one signature: for images without bill of materials and provenance
    #[arg(long)]
    signature_only: bool,
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    pace: PaceOptions,
}

/// # Errors
/// When a layout is not whole or does not verify: nothing has been sent then. When the registry refuses or gives something else back: no image's
/// tag has moved then; cosign's tags, which hold signatures that verified here, may have.
pub fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let out = options.out.clone().unwrap_or_else(|| context.path("_out"));
    let layouts = layouts(&out, &options.images)?;
    let key = options.key.clone().or_else(|| key_beside(&layouts));
    let key = key.as_deref().map(PublicKey::read).transpose()?;
    let mut plans: Vec<Plan> = Vec::new();
    for layout in &layouts {
        plans.extend(registry::plans(layout, options.registry.as_deref())?);
    }
    // Signatures name the images as they were built: under another name they are as good, but for that.
    let demand = match options {
        Options { registry: Some(_), .. } => Demand::AnyName,
        Options { signature_only: true, .. } => Demand::Signature,
        _ => Demand::Everything,
    };
    let verify = |layout: &Layout, image: &Sha256| {
        key.as_ref().map_or(Ok(()), |key| attest::verify_pushed(layout, image, key, demand).map(drop))
    };
    // Cosign's tags have to be written before they can be read back: what does not verify here shall not take the place of what does there.
    plans.iter().try_for_each(|plan| verify(&plan.layout, &plan.image.descriptor.sha256()?))?;
    network::refuse_offline(context.offline, "push sends to one")?;
    let (network, clock) = (options.network.network(), System::start());
    let client = network.client(options.pace.into(), &clock)?;
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
