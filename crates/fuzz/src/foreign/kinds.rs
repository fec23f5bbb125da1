//! Kinds of inputs: how each is recognised, and read as the program's verbs do.

use std::io::Read as _;
use std::path::Path;

use common::{Class, Error, Result};
use extension::violation::Violation;
use extension::{Manifest, Target, extraction, service::Service};
use formats::{Budget, Format, bzimage, initramfs, sniff, squashfs};
use inspect::contents::Kind;
use keys::PublicKey;
use oci::types::{self, Index};
use oci::view::View;
use oci::{Layout, Limits, tarstream};
use serde_json::Value;

/// Reads an input; returns what could not be read in it.
pub(super) type Read = fn(&Path) -> Result<Vec<String>>;

/// Bytes by which a file is recognised.
const HEAD: u64 = 1024;
/// Kernel release for extensions, whose modules are for any.
const KERNEL: &str = "0.0.0";

/// Returns the kind of the input at `path`; `None` for an unknown one and for a directory of inputs.
pub(super) fn of(path: &Path) -> Option<(&'static str, Read)> {
    if path.is_dir() {
        return match path {
            _ if path.join("oci-layout").is_file() => Some(("OCI layout", layout as Read)),
            _ if path.join("manifest.yaml").is_file() => Some(("extension", directory)),
            _ => None,
        };
    }
    let mut head = Vec::new();
    fs_err::File::open(path).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    let name = path.file_name()?.to_str()?;
    let has = |text: &str| head.windows(text.len()).any(|window| window == text.as_bytes());
    match head.as_slice() {
        _ if head.starts_with(b"pkcs11:") => Some(("PKCS#11 URI", uri)),
        _ if has("BEGIN PUBLIC KEY") => Some(("public key", public_key)),
        _ if has("-----BEGIN") || name.ends_with(".pem") => Some(("certificates", certificates)),
        _ if name == "config.json" || name.ends_with("auth.json") => Some(("logins", logins)),
        [b'{', ..] if has("schemaVersion") => Some(("index", index)),
        _ if name == "manifest.yaml" => Some(("extension manifest", manifest)),
        _ if name.ends_with(".yaml") && has("container:") => Some(("extension service", service)),
        _ if name.ends_with(".tar") && has("oci-layout") => Some(("OCI layout in a tar", tarball)),
        _ if name.ends_with(".tar") || head.get(257..262) == Some(b"ustar") => Some(("layer", layer)),
        _ => match sniff(&head)? {
            Format::Squashfs => Some(("squashfs", squashfs_image)),
            Format::Archives => Some(("initramfs", archives)),
            Format::BzImage => Some(("kernel", kernel)),
            Format::Pe if bzimage::detect(&head) => Some(("kernel", kernel)),
            _ => None,
        },
    }
}

fn layout(path: &Path) -> Result<Vec<String>> {
    read_layout(&Layout::open(path)?)
}

fn tarball(path: &Path) -> Result<Vec<String>> {
    let work = tempfile::tempdir()?;
    let dir = work.path().join("layout");
    oci::tarball::unpack(fs_err::File::open(path)?, &dir, Limits::SYSTEM)?;
    read_layout(&Layout::open(&dir)?)
}

/// As `inspect`, and for extensions as `validate` but for the kernel of their modules.
fn read_layout(layout: &Layout) -> Result<Vec<String>> {
    let (report, _) = inspect::report::report(layout, Limits::SYSTEM)?;
    let mut problems: Vec<_> = report.images.iter().flat_map(|image| image.problems.clone()).collect();
    let target = Target::new(contract::DEFAULT_RELEASE, KERNEL.to_owned())?;
    for (image, about) in layout.images()?.iter().zip(&report.images) {
        if about.kind == Kind::Extension {
            let different = extraction::check(layout, image, Limits::SYSTEM, &target)?;
            problems.extend(different.iter().map(Violation::to_string));
        }
    }
    Ok(problems)
}

fn directory(path: &Path) -> Result<Vec<String>> {
    extension::validate(path, &Target::new(contract::DEFAULT_RELEASE, KERNEL.to_owned())?).map(|_| Vec::new())
}

fn text(path: &Path) -> Result<String> {
    Ok(fs_err::read_to_string(path)?)
}

fn uri(path: &Path) -> Result<Vec<String>> {
    keys::uri::Uri::parse(text(path)?.trim_end()).map(|_| Vec::new())
}

fn public_key(path: &Path) -> Result<Vec<String>> {
    PublicKey::read(path).map(|_| Vec::new())
}

fn certificates(path: &Path) -> Result<Vec<String>> {
    registry::authorities::check(&fs_err::read(path)?).map(|()| Vec::new())
}

/// Looks for the login of the first registry that the file names.
fn logins(path: &Path) -> Result<Vec<String>> {
    let text = text(path)?;
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    let named = |list: &str| value[list].as_object().and_then(|list| list.keys().next().cloned());
    let registry = named("auths").or_else(|| named("credHelpers")).unwrap_or_else(|| "r.io".to_owned());
    registry::docker_config::find(&text, &registry, "a").map(|_| Vec::new())
}

fn index(path: &Path) -> Result<Vec<String>> {
    let read: Result<Index, String> = types::read(&fs_err::read(path)?);
    read.map(|_| Vec::new()).map_err(|why| Error::new(Class::UntrustedData, "malformed document").why(why))
}

fn manifest(path: &Path) -> Result<Vec<String>> {
    Manifest::read(path).map(|_| Vec::new())
}

fn service(path: &Path) -> Result<Vec<String>> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let parsed = Service::parse(&text(path)?, &stem, true);
    parsed
        .map(|_| Vec::new())
        .map_err(|rules| Error::new(Class::UntrustedData, "invalid service").why(rules.join("; ")))
}

fn layer(path: &Path) -> Result<Vec<String>> {
    let mut view = View::default();
    tarstream::read(fs_err::File::open(path)?, Limits::SYSTEM, &mut |entry, item, _| view.add(0, entry, item))?;
    Ok(Vec::new())
}

fn squashfs_image(path: &Path) -> Result<Vec<String>> {
    let bytes = fs_err::read(path)?;
    let image = squashfs::Image::open(&bytes)?;
    for entry in image.entries() {
        if let squashfs::Kind::File(file) = &entry.kind {
            image.read(file, &mut |_| Ok(()))?;
        }
    }
    Ok(Vec::new())
}

fn archives(path: &Path) -> Result<Vec<String>> {
    initramfs::list(&fs_err::read(path)?).map(|_| Vec::new())
}

fn kernel(path: &Path) -> Result<Vec<String>> {
    let bytes = fs_err::read(path)?;
    bzimage::release(&bytes)?;
    let inside = bzimage::vmlinux(&bytes, &mut Budget::default());
    Ok(inside.err().map(|e| e.one_line()).into_iter().collect())
}
