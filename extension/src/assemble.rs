//! Assembles the files of an extension image from a root filesystem and a manifest.

use std::path::Path;

use common::{Class, Result};
use oci::FileMap;

use crate::manifest::Manifest;
use crate::paths::{self, Found, Kind};
use crate::validate::{self, Target};
use crate::violation::Violation;

/// Returns the files of the extension image: `manifest` and the tree under the host directory `rootfs`.
///
/// Modes and owners on the host are ignored: [`FileMap::tree`] normalises them.
///
/// # Errors
/// [`Class::BadInput`] with every Talos rule that is violated.
pub fn assemble(rootfs: &Path, manifest: &Manifest, target: &Target) -> Result<FileMap> {
    let entry = |path: &str, kind| Found { path: path.to_owned(), kind, mode: 0, host: rootfs.to_owned() };
    let mut found = vec![entry("manifest.yaml", Kind::File), entry("rootfs", Kind::Dir)];
    found.extend(paths::walk(rootfs, "rootfs/")?.into_iter().map(|found| Found { mode: 0, ..found }));
    let manifest = Manifest::parse(&manifest.emit()?)?;
    let violations = validate::check(&found, Some(&manifest), target, Vec::new())?.violations;
    if !violations.is_empty() {
        return Err(Violation::error(Class::BadInput, &violations));
    }
    let mut files = FileMap::new();
    files.bytes("manifest.yaml", manifest.emit()?, 0o644)?;
    files.tree("rootfs", rootfs)?;
    Ok(files)
}
