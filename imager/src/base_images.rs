//! The images that an installer is built on: Talos's *imager*, which holds boot files, and its *installer-base*.
//!
//! Both come in one OCI layout, as a directory or as a tarball of it, and are recognised by what they hold. Names do not matter.

use std::path::{Path, PathBuf};

use common::{Class, Error, Result, atomic};
use contract::{ImagerImage, Line};
use oci::view::{Kind, Node};
use oci::{Image, Layout, Limits, Unpacked, tarball};

/// The boot files of an imager image, as files of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootAssets {
    /// systemd's UEFI stub, what a unified kernel image begins with.
    pub stub: PathBuf,
    /// systemd-boot.
    pub boot_loader: PathBuf,
    /// Talos's initramfs; compressed with zstd or xz whatever its name says.
    pub initramfs: PathBuf,
}

/// Opened base images.
#[derive(Clone, Debug)]
pub struct BaseImages {
    /// Where the layers of [`BaseImages::installer`] are.
    pub layout: Layout,
    /// The boot files of the imager image.
    pub boot: BootAssets,
    /// The installer-base image.
    pub installer: Image,
}

impl BaseImages {
    /// Opens the layout directory or tarball at `path`; boot files, and the layout of a tarball, are written into `work`.
    ///
    /// # Errors
    /// [`Class::BadInput`] when it holds no imager and installer-base image for linux/amd64, or a part is unsound or above `limits`;
    /// [`Class::Verification`] when a blob is not what its digest says.
    pub fn open(line: &Line, path: &Path, work: &Path, limits: Limits) -> Result<Self> {
        let layout = open_layout(path, &work.join("layout"), limits)?;
        let (mut boot, mut installer, mut seen) = (None, None, Vec::new());
        let mut left = limits;
        for image in layout.images()? {
            seen.push(image.names.first().cloned().unwrap_or_else(|| image.digest.oci()));
            if runs(&image, &line.installer.entrypoint) {
                installer.get_or_insert(image);
            } else if boot.is_none() {
                let unpacked = Unpacked::open(&layout, &image, left)?;
                boot = boot_assets(&line.imager, &unpacked, &work.join("boot"))?;
                // The limit of one image is that of all of them, for a layout may hold thousands.
                left.image = left.image.saturating_sub(unpacked.size());
            }
        }
        match (boot, installer) {
            (Some(boot), Some(installer)) => Ok(Self { layout, boot, installer }),
            (boot, installer) => Err(unusable(path, &missing(line, boot.is_some(), installer.is_some(), &seen))),
        }
    }
}

fn runs(image: &Image, entrypoint: &str) -> bool {
    image.config.config.entrypoint.as_deref().and_then(<[_]>::first).is_some_and(|program| program == entrypoint)
}

/// The boot files, extracted into `dir`; `None` when the image is not an imager image.
fn boot_assets(paths: &ImagerImage, image: &Unpacked<'_>, dir: &Path) -> Result<Option<BootAssets>> {
    let ImagerImage { stub, boot_loader, initramfs } = paths;
    let is_file = |path: &String| matches!(image.view().get(path), Some(Node { kind: Kind::File { .. }, .. }));
    if ![stub, boot_loader, initramfs].into_iter().all(is_file) {
        return Ok(None);
    }
    atomic::empty_dir(dir)?;
    let assets =
        BootAssets { stub: dir.join("stub"), boot_loader: dir.join("boot-loader"), initramfs: dir.join("initramfs") };
    image.extract(&[
        (stub, assets.stub.clone()),
        (boot_loader, assets.boot_loader.clone()),
        (initramfs, assets.initramfs.clone()),
    ])?;
    Ok(Some(assets))
}

fn missing(line: &Line, boot: bool, installer: bool, seen: &[String]) -> String {
    let found = |found| if found { "found" } else { "not found" };
    let ImagerImage { stub, boot_loader, initramfs } = &line.imager;
    format!(
        "looked for an imager image, which holds /{stub}, /{boot_loader} and /{initramfs}: {}\n\
         looked for an installer-base image, whose entrypoint is {}: {}\n\
         images for linux/amd64 seen: {}",
        found(boot),
        line.installer.entrypoint,
        found(installer),
        if seen.is_empty() { "none".to_owned() } else { seen.join(", ") },
    )
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::new(Class::BadInput, format!("{} does not hold Talos's imager and installer-base images", path.display()))
        .why(why)
        .hint(
            "give an OCI layout, or a tarball of one, that holds both: `skopeo copy docker://ghcr.io/siderolabs/imager:<version> \
             oci:DIR:imager`, then the same with installer-base into the same DIR",
        )
}

fn open_layout(path: &Path, work: &Path, limits: Limits) -> Result<Layout> {
    let refused = |e: Error| unusable(path, &e.to_string());
    if path.is_dir() {
        return Layout::open(path).map_err(refused);
    }
    let file = fs_err::File::open(path).map_err(|e| unusable(path, &e.to_string()))?;
    atomic::empty_dir(work)?;
    tarball::unpack(file, work, limits).map_err(|e| match e.class() {
        Class::BadInput | Class::UntrustedData => refused(e),
        _ => e,
    })?;
    Layout::open(work).map_err(refused)
}
