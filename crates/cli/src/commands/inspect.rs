//! `solana-talos inspect`: shows what an image contains, or how it differs from another one.

use std::path::{Path, PathBuf};

use attest::{Demand, Evidence, Subject, Verified, statement};
use build::network::{self, Network, Pace};
use clap::Args;
use common::{Class, Error};
use inspect::contents::Contents;
use inspect::report::{Report, Verdict};
use inspect::{compare, diff, report, source, text};
use keys::PublicKey;
use oci::types::canonical;
use oci::{Layout, Limits, Reference};
use serde::Serialize;

use crate::options::NetworkOptions;
use crate::print;
use crate::progress::{Format, History, Output};

#[derive(Args)]
pub struct Options {
    /// OCI layout directory, tarball of one, or full image reference in a registry
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// Verify the signature, and the SBOM and provenance if present, against this public key (PEM); exit with 5 on failure
    #[arg(long, value_name = "FILE", conflicts_with = "diff")]
    key: Option<PathBuf>,
    /// Show how this image differs: configuration, modules, files, packages, kernel command line
    #[arg(long, value_name = "IMAGE")]
    diff: Option<PathBuf>,
    /// With --diff: compare byte by byte and report the first difference; both may also be output directories of a build
    #[arg(long, requires = "diff")]
    bytes: bool,
    /// With --diff: exit with 1 if they differ
    #[arg(long, requires = "diff")]
    exit_code: bool,
    #[command(flatten)]
    network: NetworkOptions,
}

/// Needs neither a project nor a cache.
pub fn run(output: Output, offline: bool, options: &Options) -> anyhow::Result<()> {
    for image in options.diff.iter().chain([&options.image]).filter(|_| offline) {
        if let Some(reference) = remote_name(image) {
            network::refuse_offline(offline, &reference.to_string())?;
        }
    }
    let Some(other) = &options.diff else {
        return show_image(output, options);
    };
    let equal = if options.bytes {
        diff_bytes(output.format, &options.image, other)?
    } else {
        diff_contents(output, options, other)?
    };
    if options.exit_code && !equal {
        std::process::exit(1);
    }
    Ok(())
}

fn show_image(output: Output, options: &Options) -> anyhow::Result<()> {
    let key = options.key.as_deref().map(PublicKey::read).transpose()?;
    let work = tempfile::tempdir()?;
    let layout = open(output, &options.network.network(), &options.image, work.path())?;
    let (mut report, _) = report::report(&layout, Limits::SYSTEM).map_err(|e| named(e, &options.image))?;
    if let Some(key) = &key {
        verify(&layout, key, &mut report)?;
    }
    show(output.format, &report, &text::report(&report))?;
    match report.images.iter().find(|image| image.verified.as_ref().is_some_and(|verdict| !verdict.good)) {
        Some(image) => Err(Error::new(Class::Verification, "image does not verify against the given key")
            .file(&options.image)
            .why(image.digest.oci())
            .into()),
        None => Ok(()),
    }
}

/// Adds the result of the verification against `key` to every image of the report.
fn verify(layout: &Layout, key: &PublicKey, report: &mut Report) -> anyhow::Result<()> {
    let subjects = attest::subjects(layout)?;
    for subject in &subjects {
        let verified = attest::check_index(layout, &subjects)
            .and_then(|()| attest::verify(layout, subject, key, Demand::Signature));
        let verdict = match verified.and_then(|verified| signed_parts(layout, subject, &verified)) {
            Ok(detail) => Verdict { good: true, detail },
            Err(e) => Verdict { good: false, detail: e.to_string() },
        };
        for image in report.images.iter_mut().filter(|image| image.digest == subject.digest()) {
            image.verified = Some(verdict.clone());
        }
    }
    Ok(())
}

/// Returns what the key has signed. An SBOM or provenance that is attached but not signed by the key is an error.
fn signed_parts(layout: &Layout, image: &Subject, verified: &Verified) -> common::Result<String> {
    let evidence = Evidence::of(layout, image)?;
    let stated = |kind| evidence.predicates(kind, image.digest()).next().is_some();
    let document = verified.sbom.as_ref().map(canonical).transpose()?;
    let copied = document.is_some_and(|document| evidence.sboms.contains(&document));
    let sbom = stated(statement::SPDX) && verified.sbom.is_none() || !evidence.sboms.is_empty() && !copied;
    let provenance = stated(statement::SLSA_PROVENANCE) && verified.provenance.is_none();
    let documents = [("SBOM", sbom), ("provenance", provenance)];
    if let Some((what, _)) = documents.iter().find(|(_, unsigned)| *unsigned) {
        return Err(Error::new(Class::Verification, format!("attached {what} is not signed by the key")));
    }
    let mut signed = vec!["the signature"];
    signed.extend(verified.sbom.as_ref().map(|_| "SBOM"));
    signed.extend(verified.provenance.as_ref().map(|_| "provenance"));
    Ok(signed.join(", "))
}

/// Parses `image` as a full image reference, unless a file of that name exists.
fn remote_name(image: &Path) -> Option<Reference> {
    image.to_str().filter(|_| !image.exists())?.parse().ok()
}

/// Opens an image; one in a registry is pulled into `work` first, with its signatures.
fn open(output: Output, network: &Network, image: &Path, work: &Path) -> anyhow::Result<Layout> {
    let Some(reference) = remote_name(image) else { return Ok(source::open(image, work, Limits::SYSTEM)?) };
    // Progress goes to standard error whatever the format: standard output is for the report.
    let sink = Output { format: Format::Text, ..output }.sink(History::none());
    let pulled = work.join("pulled");
    network.pull(Pace::default(), sink.as_ref(), &reference, &pulled)?;
    Ok(Layout::open(&pulled)?)
}

fn read(output: Output, network: &Network, image: &Path) -> anyhow::Result<(Report, Vec<Contents>)> {
    let work = tempfile::tempdir()?;
    let layout = open(output, network, image, work.path())?;
    Ok(report::report(&layout, Limits::SYSTEM).map_err(|e| named(e, image))?)
}

/// Names the image in an error about one in a registry: its copy is removed before anyone can look at it.
fn named(error: Error, image: &Path) -> Error {
    if remote_name(image).is_some() { error.file(image) } else { error }
}

fn diff_contents(output: Output, options: &Options, second: &Path) -> anyhow::Result<bool> {
    let network = options.network.network();
    let read = |image: &Path| read(output, &network, image);
    let diff = diff::diff(&read(&options.image)?, &read(second)?);
    show(output.format, &diff, &text::diff(&diff))?;
    Ok(diff.is_equal())
}

fn diff_bytes(format: Format, first: &Path, second: &Path) -> anyhow::Result<bool> {
    let holds = |dir: &Path, name: &str| dir.join(name).is_file();
    let comparable = |dir: &&Path| holds(dir, "oci-layout") || holds(dir, "build.json");
    if let Some(dir) = [first, second].into_iter().find(|dir| !comparable(dir)) {
        return Err(Error::new(Class::BadInput, "cannot compare byte by byte")
            .file(dir)
            .why("neither an OCI layout directory nor the output directory of a build")
            .hint("give two layout directories or two output directories")
            .into());
    }
    let difference = if holds(first, "oci-layout") && holds(second, "oci-layout") {
        compare::layouts(first, second, Limits::SYSTEM)?
    } else {
        compare::outputs(first, second)?.into_iter().find_map(|row| row.difference)
    };
    let text = difference.as_ref().map_or("identical, byte for byte".to_owned(), ToString::to_string);
    show(format, &difference, &text)?;
    Ok(difference.is_none())
}

fn show(format: Format, value: &impl Serialize, text: &str) -> anyhow::Result<()> {
    match format {
        Format::Text => print::out(text),
        Format::Json => print::out(&escaped(&serde_json::to_string(value)?)),
    }
}

/// Escapes control characters: JSON allows those above 0x7e in strings, and a terminal would execute them.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() { out.push_str(&format!("\\u{:04x}", u32::from(c))) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_in_json_are_escaped() {
        let value = "a\u{1b}\u{9b}2J\u{7f}\n\u{fc}";
        let json = escaped(&serde_json::to_string(value).unwrap());
        assert_eq!(json, "\"a\\u001b\\u009b2J\\u007f\\n\u{fc}\"");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), value);
    }
}
