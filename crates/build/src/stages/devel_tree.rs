//! Opening a kernel-devel image that somebody gives us.

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

/// A kernel-devel image that somebody gives us, and how far it is trusted.
#[derive(Debug)]
pub struct Given<'a> {
    /// An OCI layout directory or a reference.
    pub name: &'a str,
    /// Its maker's key.
    pub key: Option<&'a PublicKey>,
    /// How its registry is reached.
    pub network: &'a Network,
}

/// The tree of the image, unpacked once into the cache, for the kernel `release`.
///
/// # Errors
/// [`Class::BadInput`] when it is no kernel-devel image or one of another kernel; [`Class::Verification`] when it is not what the key has signed,
/// or another toolchain made it.
pub fn open(context: &Context, toolchain: &Toolchain, given: &Given<'_>, release: &str) -> Result<Tree> {
    let path = match named(given.name)? {
        Named::Here(path) => path,
        Named::Remote(reference) => pull(context, given, &reference)?,
    };
    let layout = Layout::open(&path)?;
    let image = only(layout.images()?, &path)?;
    if let Some(key) = given.key {
        // Whatever it is called here: which kernel it is for stands in it.
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

/// What a reference names may change, so it is asked each time.
fn pull(context: &Context, given: &Given<'_>, reference: &Reference) -> Result<PathBuf> {
    if context.offline {
        return Err(toolchain::offline(std::iter::once(given.name)));
    }
    if given.key.is_none() && reference.digest().is_none() {
        let message = "nobody vouches for this image: verify it with --kernel-devel-key, or name it by its digest";
        context.sink().emit(&Event::Warning { message });
    }
    let layout = context.cache.join("kernel-devel").join(&Sha256::of(reference.to_string()).to_string()[..16]);
    given.network.pull(Pace::default(), context.sink(), reference, &layout)?;
    Ok(layout)
}

/// Where an image is.
enum Named {
    Here(PathBuf),
    Remote(Reference),
}

/// Refuses a name that cannot be one of a kernel-devel image, before anything is made.
///
/// # Errors
/// [`Class::BadInput`] when it is neither a layout nor a reference.
pub fn check(name: &str) -> Result<()> {
    match named(name)? {
        Named::Here(path) => only(Layout::open(&path)?.images()?, &path).map(drop),
        Named::Remote(_) => Ok(()),
    }
}

fn named(name: &str) -> Result<Named> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(Named::Here(path.to_owned()));
    }
    name.parse().map(Named::Remote).map_err(|_| {
        Error::new(Class::BadInput, "there is no kernel-devel image")
            .file(name)
            .why("it is no directory here, and no full reference like ghcr.io/our-org/kernel-devel:v1")
            .hint("`./x build` writes one: give _out/kernel-devel.oci, or the reference that it was pushed to")
    })
}

fn only(images: Vec<Image>, path: &Path) -> Result<Image> {
    let count = images.len();
    match <[Image; 1]>::try_from(images) {
        Ok([image]) => Ok(image),
        Err(_) => Err(no_devel(path, &format!("it holds {count} images for linux/amd64, not one"))),
    }
}

/// The tree below the unpacked `root`.
fn find(root: &Path, image: &Path) -> Result<(PathBuf, Record)> {
    let sources = root.join("usr/src");
    let entries = std::fs::read_dir(&sources).map(|entries| entries.flatten().map(|entry| entry.path()));
    let mut trees = entries.into_iter().flatten().filter(|dir| is_inside(root, &dir.join(RECORD)));
    let (Some(dir), None) = (trees.next(), trees.next()) else {
        return Err(no_devel(image, &format!("it does not hold one /usr/src/linux-headers-* with a {RECORD}")));
    };
    let text = std::fs::read_to_string(dir.join(RECORD))
        .map_err(|e| Error::io("cannot read a record", dir.join(RECORD), &e))?;
    let record = Record::parse(&text)?;
    if dir != root.join(devel::place(&record.release)) {
        return Err(no_devel(image, &format!("its tree for {} stands in another kernel's place", record.release)));
    }
    Ok((dir, record))
}

/// Whether `file` is there without a link on the way: one of a foreign image could lead to files of this machine.
fn is_inside(root: &Path, file: &Path) -> bool {
    let (Ok(root_path), Ok(path), Ok(name)) = (root.canonicalize(), file.canonicalize(), file.strip_prefix(root))
    else {
        return false;
    };
    path == root_path.join(name) && path.is_file()
}

fn no_devel(image: &Path, why: &str) -> Error {
    Error::new(Class::BadInput, "this is no kernel-devel image")
        .file(image)
        .why(why)
        .hint("`./x build` writes one: _out/kernel-devel.oci")
}
