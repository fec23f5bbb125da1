//! Opens a kernel-devel image given by the user.

use std::path::{Path, PathBuf};

use attest::Demand;
use common::event::Event;
use common::stage::{Input, Stage};
use common::{Class, Error, Result, Sha256};
use kernel_config::devel::{RECORD, Record, Tree};
use keys::PublicKey;
use oci::{Image, Layout, Limits, Reference, Unpacked};
use toolchain::Toolchain;

use crate::context::Context;
use crate::network::{Network, Pace};
use crate::stages::devel;

/// Unpacks the image.
pub const STAGE: Stage = Stage::ours("kernel-devel-tree", env!("CARGO_PKG_NAME"));

/// A kernel-devel image, and how to get and verify it.
#[derive(Debug)]
pub struct Given<'a> {
    /// An OCI layout directory or a reference.
    pub name: &'a str,
    /// The public key to verify it with.
    pub key: Option<&'a PublicKey>,
    /// Access to its registry.
    pub network: &'a Network,
}

/// Unpacks the image into the cache and returns its tree, which must be for the kernel `release` and this toolchain.
pub fn open(context: &Context, toolchain: &Toolchain, given: &Given<'_>, release: &str) -> Result<Tree> {
    let path = match named(given.name)? {
        Named::Local(path) => path,
        Named::Remote(reference) => pull(context, given, &reference)?,
    };
    let layout = Layout::open(&path)?;
    let image = only(layout.images()?, &path)?;
    if let Some(key) = given.key {
        // The name does not matter: the tree itself records the kernel release.
        attest::verify_layout(&layout, key, Demand::AnyName)?;
    }
    let digest = image.digest;
    let inputs = Input::known_by([("image", digest.to_string())], (&layout, &image));
    let stage = context.stages().run(STAGE, inputs, |work, image| {
        let (layout, image) = *image;
        Unpacked::open(layout, image, Limits::SYSTEM)?.apply(&work.dir().join("root"))
    })?;
    let (dir, record) = find(&stage.dir.join("root"), &path)?;
    record.check_release(release)?;
    record.check_toolchain(&toolchain.identity, |name| toolchain.versions.get(name).map(str::to_owned))?;
    Ok(Tree { record, dir, digest: image.digest })
}

/// Pulls on every run, since a tag may move.
fn pull(context: &Context, given: &Given<'_>, reference: &Reference) -> Result<PathBuf> {
    if context.offline {
        return Err(toolchain::offline(std::iter::once(given.name)));
    }
    if given.key.is_none() && reference.digest().is_none() {
        let message = "the kernel-devel image is not verified: give --kernel-devel-key, or a reference with a digest";
        context.sink().emit(&Event::Warning { message });
    }
    let layout = context.cache.join("kernel-devel").join(&Sha256::of(reference.to_string()).to_string()[..16]);
    given.network.pull(Pace::default(), context.sink(), reference, &layout)?;
    Ok(layout)
}

/// Location of an image.
enum Named {
    Local(PathBuf),
    Remote(Reference),
}

/// Checks that `name` is a layout with one image or a reference, before any stage runs.
pub fn check(name: &str) -> Result<()> {
    match named(name)? {
        Named::Local(path) => only(Layout::open(&path)?.images()?, &path).map(drop),
        Named::Remote(_) => Ok(()),
    }
}

fn named(name: &str) -> Result<Named> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(Named::Local(path.to_owned()));
    }
    name.parse().map(Named::Remote).map_err(|_| {
        Error::new(Class::BadInput, "cannot find the kernel-devel image")
            .file(name)
            .why("neither a directory nor a full image reference like ghcr.io/our-org/kernel-devel:v1")
            .hint("`./x build` writes one: give _out/kernel-devel.oci, or the reference that it was pushed to")
    })
}

fn only(images: Vec<Image>, path: &Path) -> Result<Image> {
    let count = images.len();
    match <[Image; 1]>::try_from(images) {
        Ok([image]) => Ok(image),
        Err(_) => Err(no_devel(path, &format!("it contains {count} images for linux/amd64; expected 1"))),
    }
}

/// Finds the tree in the unpacked `root`.
fn find(root: &Path, image: &Path) -> Result<(PathBuf, Record)> {
    let sources = root.join("usr/src");
    let entries = std::fs::read_dir(&sources).map(|entries| entries.flatten().map(|entry| entry.path()));
    let mut trees = entries.into_iter().flatten().filter(|dir| is_inside(root, &dir.join(RECORD)));
    let (Some(dir), None) = (trees.next(), trees.next()) else {
        return Err(no_devel(
            image,
            &format!("it does not contain exactly one /usr/src/linux-headers-* with a {RECORD}"),
        ));
    };
    let record = Record::parse(&fs_err::read_to_string(dir.join(RECORD))?)?;
    if dir != root.join(devel::place(&record.release)) {
        return Err(no_devel(image, &format!("the tree for {} is in another kernel's directory", record.release)));
    }
    Ok((dir, record))
}

/// Returns whether `file` exists and no link leads to it: a link in an untrusted image could point to host files.
fn is_inside(root: &Path, file: &Path) -> bool {
    let (Ok(root_path), Ok(path), Ok(name)) = (root.canonicalize(), file.canonicalize(), file.strip_prefix(root))
    else {
        return false;
    };
    path == root_path.join(name) && path.is_file()
}

fn no_devel(image: &Path, why: &str) -> Error {
    Error::new(Class::UntrustedData, "not a kernel-devel image")
        .file(image)
        .why(why)
        .hint("`./x build` writes one: _out/kernel-devel.oci")
}
