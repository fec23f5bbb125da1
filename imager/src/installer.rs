//! Writes the installer image: installer-base with our boot files in a layer on top.

use std::collections::BTreeMap;
use std::path::Path;

use common::{Class, Error, Result, Sha256};
use contract::InstallerImage;
use oci::{FileMap, Limits, Unpacked, Writer};

use crate::append::append;
use crate::base_images::BaseImages;

/// Contents and names of a new installer image.
#[derive(Clone, Copy, Debug)]
pub struct Installer<'a> {
    /// Full names, such as `ghcr.io/our-org/installer:custom-solana-v1.10.3`.
    pub names: &'a [String],
    /// systemd-boot on the host: from the base, or a signed copy.
    pub boot_loader: &'a Path,
    /// The unified kernel image on the host.
    pub uki: &'a Path,
    /// Program to run instead of the base's entrypoint, at the same path.
    pub program: Option<&'a [u8]>,
    /// Seconds since the epoch; the time of every file and of the image.
    pub created: u64,
    /// Manifest annotations.
    pub annotations: &'a BTreeMap<String, String>,
}

/// Writes the installer image atomically as an OCI layout at `dest` and returns the manifest digest.
///
/// # Errors
/// [`Class::UntrustedData`] when a program is given and the base has no file at the path of its entrypoint.
pub fn write(paths: &InstallerImage, dest: &Path, base: &BaseImages, new: &Installer<'_>) -> Result<Sha256> {
    let mut artifacts = FileMap::new();
    artifacts.host(&paths.boot_loader, new.boot_loader, 0o644)?;
    artifacts.host(&paths.uki, new.uki, 0o644)?;
    if let Some(program) = new.program {
        artifacts.bytes(&program_path(paths, base)?, program, 0o755)?;
    }
    let mut writer = Writer::create(dest)?;
    let layer = writer.layer(&artifacts, new.created)?;
    let digest = append(&mut writer, base, &layer, new)?;
    writer.finish()?;
    Ok(digest)
}

/// Returns the real path of the entrypoint: in Talos's images `/bin` is a link, which a file at `/bin/…` in our layer would replace.
fn program_path(paths: &InstallerImage, base: &BaseImages) -> Result<String> {
    let image = Unpacked::open(&base.layout, &base.installer, Limits::SYSTEM)?;
    image.view().file_path(&paths.entrypoint).ok_or_else(|| {
        Error::new(Class::UntrustedData, "the base's installer program cannot be replaced")
            .why(format!("its installer-base image has no file {}", paths.entrypoint))
    })
}
