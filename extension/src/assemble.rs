//! From a root filesystem and a manifest to the files of an extension image.

use std::path::Path;

use common::Result;
use oci::FileMap;

use crate::manifest::Manifest;
use crate::paths::{self, Found, Kind};
use crate::validate::{self, Target};
use crate::violation::Violation;

/// The files of the extension image: `manifest` and the tree under the host's directory `rootfs`.
///
/// Modes and owners of the host do not matter: they are made regular ([`FileMap::tree`]).
///
/// # Errors
/// [`common::Class::BadInput`] with every rule of Talos that is broken; otherwise what the file system reports.
pub fn assemble(rootfs: &Path, manifest: &Manifest, target: &Target) -> Result<FileMap> {
    let entry = |path: &str, kind| Found { path: path.to_owned(), kind, mode: 0, host: rootfs.to_owned() };
    let mut found = vec![entry("manifest.yaml", Kind::File), entry("rootfs", Kind::Dir)];
    found.extend(paths::walk(rootfs, "rootfs/")?.into_iter().map(|found| Found { mode: 0, ..found }));
    let manifest = Manifest::parse(&manifest.emit()?)?;
    let broken = validate::check(&found, Some(&manifest), target, Vec::new())?.broken;
    if !broken.is_empty() {
        return Err(Violation::error(&broken));
    }
    let mut files = FileMap::new();
    files.bytes("manifest.yaml", manifest.emit()?, 0o644)?;
    files.tree("rootfs", rootfs)?;
    Ok(files)
}
