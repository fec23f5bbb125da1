//! `solana-talos verify`: are these images what the key has signed? Offline: the key and the images are all that is looked at.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use attest::{Demand, Verified, talos};
use build::stages::attest as beside;
use clap::Args;
use common::event::Event;
use common::{Class, Error, Result, atomic};
use keys::PublicKey;
use oci::Layout;
use oci::types::canonical;

use crate::progress::{self, Format, History};

#[derive(Args)]
pub struct Options {
    /// An OCI layout, or the output directory of a build with all its layouts
    #[arg(value_name = "LAYOUT|DIR")]
    path: PathBuf,
    /// The maker's public key (PEM), which has to come from the maker by another way than the images
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Be content with one signature: no bill of materials and no provenance
    #[arg(long)]
    signature_only: bool,
    /// Do not demand that the names are signed: for copies under other names; implies --signature-only
    #[arg(long)]
    any_name: bool,
    /// Write the machine configuration by which Talos 1.13.8 and later demand this key's signature on these images
    #[arg(long, value_name = "FILE")]
    talos_config: Option<PathBuf>,
}

/// # Errors
/// [`Class::Verification`] when something is not what the key has signed.
pub fn run(format: Format, options: &Options) -> anyhow::Result<()> {
    let key = PublicKey::read(&options.key)?;
    let demand = match options {
        Options { any_name: true, .. } => Demand::AnyName,
        Options { signature_only: true, .. } => Demand::Signature,
        _ => Demand::Everything,
    };
    let single = options.path.join("oci-layout").is_file();
    let layouts = if single { vec![options.path.clone()] } else { beside::layouts(&options.path)? };
    if layouts.is_empty() {
        return Err(Error::new(Class::BadInput, "there is nothing to verify")
            .file(&options.path)
            .why("it is no OCI layout, and holds none whose name ends with .oci")
            .hint("give a layout, or the output directory of a build")
            .into());
    }
    let sink = progress::sink(format, false, History::none());
    let mut names = BTreeSet::new();
    for path in &layouts {
        for image in attest::verify_layout(&Layout::open(path)?, &key, demand)? {
            if !single {
                copies(path, &image)?;
            }
            names.extend(image.names.iter().cloned());
            sink.emit(&Event::Note { message: &describe(path, &image) });
        }
    }
    if let Some(file) = &options.talos_config {
        atomic::write(file, talos::image_verification(&names, &key)?)?;
    }
    let message = format!("every image in {} is signed with the key {}", options.path.display(), key.fingerprint());
    sink.emit(&Event::Note { message: &message });
    Ok(())
}

/// The documents beside a layout must be the signed ones.
fn copies(layout: &Path, image: &Verified) -> Result<()> {
    for (extension, document) in [("spdx.json", &image.sbom), ("provenance.json", &image.provenance)] {
        let path = layout.with_extension(extension);
        let Ok(found) = std::fs::read(&path) else { continue };
        if document.as_ref().map(canonical).transpose()? != Some(found) {
            return Err(Error::new(Class::Verification, "a document is not the one that is signed")
                .file(path)
                .hint("the signed one is in the layout beside it"));
        }
    }
    Ok(())
}

/// What is known of an image, for a person.
fn describe(path: &Path, image: &Verified) -> String {
    let count = |document: &Option<serde_json::Value>, pointer: &str| {
        document.as_ref().and_then(|d| d.pointer(pointer)).and_then(|list| list.as_array()).map(Vec::len)
    };
    let mut out = format!("{}: {}", path.display(), image.image.oci());
    for name in &image.names {
        out += &format!("\n  name {name}");
    }
    for (kind, place) in &image.statements {
        out += &format!("\n  signed {kind} {place}");
    }
    if let Some(packages) = count(&image.sbom, "/packages") {
        out += &format!("\n  bill of materials: {packages} packages");
    }
    if let Some(inputs) = count(&image.provenance, "/buildDefinition/resolvedDependencies") {
        out += &format!("\n  provenance: {inputs} inputs");
    }
    for ignored in &image.ignored {
        out += &format!("\n  passed over: {}", ignored.replace('\n', "\n    "));
    }
    out
}
