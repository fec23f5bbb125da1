//! `solana-talos verify`: verifies image signatures against a public key, offline: only the key and the images are read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use attest::evidence::Place;
use attest::{Demand, Verified, talos};
use build::stages::attest as attested;
use clap::Args;
use common::event::Event;
use common::text::count;
use common::{Class, Error, Result, atomic};
use keys::PublicKey;
use oci::Layout;
use oci::types::canonical;
use serde::Serialize;
use serde_json::Value;

use crate::progress::{Format, History, Output};
use crate::result::{self, Data};

#[derive(Args)]
pub struct Options {
    /// OCI layout, or the output directory of a build with all its layouts
    #[arg(value_name = "LAYOUT|DIR")]
    path: PathBuf,
    /// Public key (PEM) of the builder; get it over another channel than the images
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Accept a single signature; do not require SBOM and provenance
    #[arg(long)]
    signature_only: bool,
    /// Do not require that the image names are signed (for copies under other names); implies --signature-only
    #[arg(long)]
    any_name: bool,
    /// Write a machine configuration document that makes Talos 1.13.8 and later require this key's signature on these images
    #[arg(long, value_name = "FILE")]
    talos_config: Option<PathBuf>,
}

pub fn run(output: Output, options: &Options) -> anyhow::Result<()> {
    let key = PublicKey::read(&options.key)?;
    let demand = match options {
        Options { any_name: true, .. } => Demand::AnyName,
        Options { signature_only: true, .. } => Demand::Signature,
        _ => Demand::Everything,
    };
    let single = options.path.join("oci-layout").is_file();
    let layouts = if single { vec![options.path.clone()] } else { attested::layouts(&options.path)? };
    if layouts.is_empty() {
        return Err(Error::new(Class::BadInput, "nothing to verify")
            .file(&options.path)
            .why("neither an OCI layout nor a directory with *.oci layouts")
            .hint("give an OCI layout, or the output directory of a build")
            .into());
    }
    let sink = output.sink(History::none());
    let mut names = BTreeSet::new();
    let mut images = Vec::new();
    for path in &layouts {
        for image in attest::verify_layout(&Layout::open(path)?, &key, demand)? {
            if !single {
                check_documents(path, &image)?;
            }
            names.extend(image.names.iter().cloned());
            let image = Image::of(path, image);
            if matches!(output.format, Format::Text) {
                sink.emit(&Event::Note { message: &image.describe() });
            }
            images.push(image);
        }
    }
    if let Some(file) = &options.talos_config {
        atomic::write(file, talos::image_verification(&names, &key)?)?;
    }
    match output.format {
        Format::Text => {
            let message = format!("every image in {} is signed by key {}", options.path.display(), key.fingerprint());
            sink.emit(&Event::Note { message: &message });
        }
        Format::Json => {
            let (key, talos_config) = (key.fingerprint().oci(), options.talos_config.clone());
            result::print(&VerifiedImages { key, images, talos_config })?;
        }
    }
    Ok(())
}

/// The result as data.
#[derive(Serialize)]
struct VerifiedImages {
    /// Fingerprint of the key.
    key: String,
    images: Vec<Image>,
    /// The document for Talos, if it was to be written.
    talos_config: Option<PathBuf>,
}

impl Data for VerifiedImages {
    const VERB: &'static str = "verify";
}

/// A verified image.
#[derive(Serialize)]
struct Image {
    layout: PathBuf,
    digest: String,
    names: BTreeSet<String>,
    signed: Vec<Statement>,
    /// Number of packages in the signed SBOM.
    sbom_packages: Option<usize>,
    /// Number of inputs in the signed provenance.
    provenance_inputs: Option<usize>,
    /// Documents that were passed over, and why.
    ignored: Vec<String>,
}

#[derive(Serialize)]
struct Statement {
    #[serde(rename = "type")]
    kind: String,
    place: Place,
}

/// Checks that the SBOM and provenance files next to a layout are the signed ones.
fn check_documents(layout: &Path, image: &Verified) -> Result<()> {
    for (extension, document) in [("spdx.json", &image.sbom), ("provenance.json", &image.provenance)] {
        let path = layout.with_extension(extension);
        let Ok(found) = std::fs::read(&path) else { continue };
        if document.as_ref().map(canonical).transpose()? != Some(found) {
            return Err(Error::new(Class::Verification, "document differs from the signed one")
                .file(path)
                .hint("use the signed one, which is in the layout of the same name"));
        }
    }
    Ok(())
}

impl Image {
    fn of(layout: &Path, image: Verified) -> Self {
        let length = |document: &Option<Value>, pointer: &str| {
            document.as_ref().and_then(|document| document.pointer(pointer)?.as_array()).map(Vec::len)
        };
        Self {
            layout: layout.to_owned(),
            digest: image.image.oci(),
            sbom_packages: length(&image.sbom, "/packages"),
            provenance_inputs: length(&image.provenance, "/buildDefinition/resolvedDependencies"),
            names: image.names,
            signed: image.statements.into_iter().map(|(kind, place)| Statement { kind, place }).collect(),
            ignored: image.ignored,
        }
    }

    fn describe(&self) -> String {
        let mut out = format!("{}: {}", self.layout.display(), self.digest);
        for name in &self.names {
            out += &format!("\n  name {name}");
        }
        for Statement { kind, place } in &self.signed {
            out += &format!("\n  signed {kind} {place}");
        }
        if let Some(packages) = self.sbom_packages {
            out += &format!("\n  SBOM: {}", count(packages, "package"));
        }
        if let Some(inputs) = self.provenance_inputs {
            out += &format!("\n  provenance: {}", count(inputs, "input"));
        }
        for ignored in &self.ignored {
            out += &format!("\n  ignored: {}", ignored.replace('\n', "\n    "));
        }
        out
    }
}
