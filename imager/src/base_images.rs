//! The images an installer is built on: Talos's *imager*, which contains the boot files, and its *installer-base*.
//!
//! Both are in one OCI layout (a directory or a tarball) and are recognised by content, not by name.

use std::path::{Path, PathBuf};

use common::{Class, Error, Result, atomic};
use contract::{ImagerImage, Line};
use oci::view::{Kind, Node};
use oci::{Image, Layout, Limits, Unpacked, tarball};

/// Boot files of an imager image, extracted to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootAssets {
    /// systemd's UEFI stub, the start of a unified kernel image.
    pub stub: PathBuf,
    /// systemd-boot.
    pub boot_loader: PathBuf,
    /// Talos's initramfs, compressed with zstd or xz; its name says nothing about that.
    pub initramfs: PathBuf,
}

/// Opened base images.
#[derive(Clone, Debug)]
pub struct BaseImages {
    /// Layout with the layers of [`BaseImages::installer`].
    pub layout: Layout,
    /// The boot files of the imager image.
    pub boot: BootAssets,
    /// The installer-base image.
    pub installer: Image,
}

impl BaseImages {
    /// Opens the layout directory or tarball at `path`; boot files and an unpacked tarball are written to `work`.
    ///
    /// # Errors
    /// [`Class::UntrustedData`] when the imager or installer-base image for linux/amd64 is missing, malformed or over `limits`;
    /// [`Class::Verification`] when a blob does not match its digest.
    pub fn open(line: &Line, path: &Path, work: &Path, limits: Limits) -> Result<Self> {
        let layout = open_layout(path, &work.join("layout"), limits)?;
        let (mut boot, mut installer, mut seen) = (None, None, Vec::new());
        let mut left = limits;
        for image in layout.images()? {
            seen.push(image.names.first().cloned().unwrap_or_else(|| image.digest.oci()));
            if has_entrypoint(&image, &line.installer.entrypoint) {
                installer.get_or_insert(image);
            } else if boot.is_none() {
                let unpacked = Unpacked::open(&layout, &image, left)?;
                boot = boot_assets(&line.imager, &unpacked, &work.join("boot"))?;
                // The size limit of one image applies to all together: a layout may contain thousands.
                left.image = left.image.saturating_sub(unpacked.size());
            }
        }
        match (boot, installer) {
            (Some(boot), Some(installer)) => Ok(Self { layout, boot, installer }),
            (boot, installer) => {
                let why = search_result(line, boot.is_some(), installer.is_some(), &seen);
                Err(unusable(path, Class::UntrustedData, &why))
            }
        }
    }
}

fn has_entrypoint(image: &Image, entrypoint: &str) -> bool {
    image.config.config.entrypoint.as_deref().and_then(<[_]>::first).is_some_and(|program| program == entrypoint)
}

/// Extracts the boot files into `dir`; `None` when the image is not an imager image.
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

fn search_result(line: &Line, boot: bool, installer: bool, seen: &[String]) -> String {
    let found = |found| if found { "found" } else { "not found" };
    let ImagerImage { stub, boot_loader, initramfs } = &line.imager;
    format!(
        "imager image (contains /{stub}, /{boot_loader} and /{initramfs}): {}\n\
         installer-base image (entrypoint {}): {}\n\
         images for linux/amd64: {}",
        found(boot),
        line.installer.entrypoint,
        found(installer),
        if seen.is_empty() { "none".to_owned() } else { seen.join(", ") },
    )
}

fn unusable(path: &Path, class: Class, why: &str) -> Error {
    Error::new(
        class,
        format!("{} does not contain Talos's imager and installer-base images", path.display()),
    )
    .why(why)
    .hint(
        "give an OCI layout, or a tarball of one, with both: `skopeo copy docker://ghcr.io/siderolabs/imager:<version> \
             oci:DIR:imager`, then the same for installer-base with the same DIR",
    )
}

fn open_layout(path: &Path, work: &Path, limits: Limits) -> Result<Layout> {
    let refused = |e: Error| unusable(path, e.class(), &e.to_string());
    if path.is_dir() {
        return Layout::open(path).map_err(refused);
    }
    let file = fs_err::File::open(path).map_err(|e| unusable(path, Class::UntrustedData, &e.to_string()))?;
    atomic::empty_dir(work)?;
    tarball::unpack(file, work, limits).map_err(refused)?;
    Layout::open(work).map_err(refused)
}
