//! The installer image: the base's installer with our boot files on top.

use std::collections::BTreeMap;
use std::path::Path;

use common::{Result, Sha256};
use contract::InstallerImage;
use oci::{FileMap, Writer};

use crate::append::append;
use crate::base_images::BaseImages;

/// What is new about an installer image.
#[derive(Clone, Copy, Debug)]
pub struct Installer<'a> {
    /// Full names, such as `ghcr.io/our-org/installer:custom-solana-v1.10.3`.
    pub names: &'a [String],
    /// systemd-boot on the host; the base's, or a signed copy of it.
    pub boot_loader: &'a Path,
    /// The unified kernel image on the host.
    pub uki: &'a Path,
    /// Seconds since the epoch; the time of every file and of the image.
    pub created: u64,
    /// Annotations of the manifest.
    pub annotations: &'a BTreeMap<String, String>,
}

/// Writes the installer image as an OCI layout at `dest`, which appears whole or not at all; gives the manifest's digest.
///
/// # Errors
/// What a file or the layout of the base reports.
pub fn write(paths: &InstallerImage, dest: &Path, base: &BaseImages, new: &Installer<'_>) -> Result<Sha256> {
    let mut artifacts = FileMap::new();
    artifacts.host(&paths.boot_loader, new.boot_loader, 0o644)?;
    artifacts.host(&paths.uki, new.uki, 0o644)?;
    let mut writer = Writer::create(dest)?;
    let layer = writer.layer(&artifacts, new.created)?;
    let digest = append(&mut writer, base, &layer, new)?;
    writer.finish()?;
    Ok(digest)
}
