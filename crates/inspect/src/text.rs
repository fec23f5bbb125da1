//! Formats reports and differences as text for a terminal.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use common::text::{one_line, printable};

use crate::diff::{Change, Diff, Pair};
use crate::report::{Attached, ImageReport, Report};

/// Longer lists are truncated in text, not in JSON.
const SHOWN: usize = 40;
/// What is not compared: images of different digests may differ in these only.
const NOT_COMPARED: &str =
    "layers, times, history, annotations, signatures, extended attributes, device numbers, and owners in layers";
/// Column of the values of a report.
const INDENT: &str = "\n               ";

/// As [`one_line`], for text at the start of a line: leading white space is escaped, so that it cannot imitate a field.
fn heading(text: &str) -> Cow<'_, str> {
    match text.chars().next() {
        Some(first) if first.is_whitespace() => {
            let rest = &text[first.len_utf8()..];
            Cow::Owned(format!("{}{}", first.escape_unicode(), one_line(rest)))
        }
        _ => one_line(text),
    }
}

/// Formats text of several lines, which may quote untrusted text.
fn paragraph(text: &str) -> String {
    printable(text).replace('\n', INDENT)
}

/// Formats a report.
#[must_use]
pub fn report(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_report(&mut out, report);
    out.trim_end().to_owned()
}

/// Formats the differences.
#[must_use]
pub fn diff(diff: &Diff) -> String {
    let mut out = String::new();
    let _ = write_diff(&mut out, diff);
    out.trim_end().to_owned()
}

fn write_report(out: &mut String, report: &Report) -> fmt::Result {
    for image in &report.images {
        write_image(out, image)?;
        writeln!(out)?;
    }
    for stray in &report.strays {
        writeln!(out, "attached to no image here: {}", one_line(&line(stray)))?;
    }
    Ok(())
}

fn write_image(out: &mut String, image: &ImageReport) -> fmt::Result {
    for name in &image.names {
        writeln!(out, "{}", heading(name))?;
    }
    field(out, "digest", &image.digest.oci())?;
    field(out, "kind", image.kind.name())?;
    field(out, "created", image.created.as_deref().unwrap_or("unknown"))?;
    for (at, layer) in image.layers.iter().enumerate() {
        let packed = layer.media_type.rsplit(['+', '.']).next().unwrap_or_default();
        field(out, &format!("layer {}", at + 1), &format!("{}, {}, {packed}", layer.digest.oci(), size(layer.size)))?;
    }
    field(out, "files", &format!("{}, including those in initramfs and squashfs", image.files))?;
    write_kernel(out, image)?;
    if let Some(manifest) = &image.manifest {
        field(out, "manifest", &format!("{} {}", manifest.name, manifest.version))?;
    }
    for extension in &image.extensions {
        field(out, "extension", &format!("{} {} ({})", extension.name, extension.version, extension.image))?;
    }
    write_modules(out, image)?;
    for (key, value) in &image.annotations {
        field(out, "annotation", &format!("{key}={value}"))?;
    }
    write_attached(out, image)?;
    for problem in image.problems.iter().take(SHOWN) {
        lines(out, "problem", problem)?;
    }
    match image.problems.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => field(out, "problem", &format!("… {more} more; --format json has all")),
    }
}

fn write_kernel(out: &mut String, image: &ImageReport) -> fmt::Result {
    if let Some(release) = &image.release {
        let options = image.config_options.map_or(String::new(), |n| format!(", {n} options set"));
        field(out, "kernel", &format!("{release}{options}"))?;
    }
    for certificate in &image.certificates {
        let key = certificate.key;
        field(out, "certificate", &format!("{}, serial {}", certificate.subject, certificate.serial))?;
        field(out, "", &format!("key sha256:{key}"))?;
    }
    for uki in &image.ukis {
        let signed = if uki.signed { "signed" } else { "not signed" };
        field(out, "uki", &format!("{}, {}, {signed}", uki.path, uki.os.as_deref().unwrap_or("no os-release")))?;
        field(out, "command line", &uki.command_line)?;
    }
    Ok(())
}

fn write_modules(out: &mut String, image: &ImageReport) -> fmt::Result {
    let modules = &image.modules;
    if modules.count == 0 {
        return Ok(());
    }
    let releases: Vec<_> = modules.releases.iter().map(|(release, n)| format!("{n} for {release}")).collect();
    field(out, "modules", &releases.join(", "))?;
    for signed in &modules.signers {
        let signer = &signed.signer;
        let who = format!("{} signed by {}, serial {}", signed.modules, signer.issuer, signer.serial);
        field(out, "", &format!("{who}, {} with {}", signer.signature, signer.digest))?;
        if let Some(key) = signed.key {
            field(out, "", &format!("key sha256:{key}"))?;
        }
    }
    for path in modules.unsigned.iter().take(SHOWN) {
        field(out, "", &format!("NOT SIGNED: {path}"))?;
    }
    Ok(())
}

fn write_attached(out: &mut String, image: &ImageReport) -> fmt::Result {
    if image.attached.is_empty() {
        field(out, "attached", "no signatures, attestations or SBOM")?;
    }
    for attached in &image.attached {
        field(out, "attached", &line(attached))?;
    }
    if let Some(sbom) = &image.sbom {
        let kinds: Vec<_> = sbom.kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        field(out, "SBOM", &format!("{}: {}", sbom.name, kinds.join(", ")))?;
    }
    match &image.verified {
        Some(verdict) if verdict.good => lines(out, "verified", &verdict.detail),
        Some(verdict) => lines(out, "NOT VERIFIED", &verdict.detail),
        None if image.attached.is_empty() => Ok(()),
        None => field(out, "", "not verified: no --key was given"),
    }
}

fn line(attached: &Attached) -> String {
    let predicate = attached.predicate.as_ref().map_or(String::new(), |p| format!(" stating {p}"));
    format!("{}{predicate}, {}", attached.what, attached.digest.oci())
}

fn field(out: &mut String, name: &str, value: &str) -> fmt::Result {
    writeln!(out, "  {name:<12} {}", one_line(value))
}

/// Writes a field whose value may have several lines.
fn lines(out: &mut String, name: &str, value: &str) -> fmt::Result {
    writeln!(out, "  {name:<12} {}", paragraph(value))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

fn write_diff(out: &mut String, diff: &Diff) -> fmt::Result {
    for pair in &diff.pairs {
        write_pair(out, pair)?;
        writeln!(out)?;
    }
    for (side, images) in [("first", &diff.only_first), ("second", &diff.only_second)] {
        for image in images {
            writeln!(out, "only in the {side}: {}", one_line(image))?;
        }
    }
    Ok(())
}

fn write_pair(out: &mut String, pair: &Pair) -> fmt::Result {
    let (first, second) = (one_line(&pair.first), one_line(&pair.second));
    writeln!(out, "{}\n  first   {first}\n  second  {second}", pair.kind.name())?;
    if pair.equal {
        return writeln!(out, "  identical, byte for byte");
    }
    let mut any = false;
    for (name, changes) in pair.changes.groups().into_iter().filter(|(_, changes)| !changes.is_empty()) {
        any = true;
        writeln!(out, "  {name}: {}", changes.len())?;
        for change in changes.iter().take(SHOWN) {
            write_change(out, change)?;
        }
        if changes.len() > SHOWN {
            writeln!(out, "    … {} more; --format json has all", changes.len() - SHOWN)?;
        }
    }
    if !any {
        writeln!(out, "  no differences found; not compared: {NOT_COMPARED}")?;
    }
    Ok(())
}

/// Writes a change: `-` only in the first, `+` only in the second, `~` in both.
fn write_change(out: &mut String, change: &Change) -> fmt::Result {
    let shown = |value: &Option<String>| value.as_deref().map(one_line).map(Cow::into_owned);
    let (name, first, second) = (one_line(&change.name), shown(&change.first), shown(&change.second));
    match (first.as_deref(), second.as_deref()) {
        (Some("there"), None) => writeln!(out, "    - {name}"),
        (None, Some("there")) => writeln!(out, "    + {name}"),
        (Some(first), None) => writeln!(out, "    - {name}  {first}"),
        (None, Some(second)) => writeln!(out, "    + {name}  {second}"),
        (first, second) => {
            writeln!(out, "    ~ {name}  {} -> {}", first.unwrap_or_default(), second.unwrap_or_default())
        }
    }
}
