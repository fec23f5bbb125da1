//! Opens an image: a layout directory, or a tarball of one.

use std::path::{Path, PathBuf};

use common::{Class, Error, Result};
use oci::{Layout, Limits};

/// Opens the layout directory or tarball at `path`; a tarball is unpacked into `work`.
///
/// # Errors
/// [`Class::BadInput`] when `path` does not exist or is not a layout; [`Class::UntrustedData`] for a malformed one or one above `limits`.
pub fn open(path: &Path, work: &Path, limits: Limits) -> Result<Layout> {
    if path.is_dir() {
        return Layout::open(path).map_err(|e| match layouts_below(path).as_slice() {
            [] => e,
            found => e.hint(format!("the directory contains layouts: {}", found.join(", "))),
        });
    }
    let file = fs_err::File::open(path).map_err(|e| {
        Error::new(Class::BadInput, "cannot open the image")
            .file(path)
            .why(e)
            .hint("specify a layout, a tarball of one, or a full reference such as ghcr.io/our-org/kernel:v1")
    })?;
    let layout = work.join("layout");
    oci::tarball::unpack(file, &layout, limits).map_err(|e| e.file(path))?;
    Layout::open(&layout).map_err(|e| e.file(path))
}

/// Returns the layouts in a directory that is not one itself, such as `_out`.
fn layouts_below(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.join("oci-layout").is_file()).collect();
    found.sort();
    found.iter().map(|path| path.display().to_string()).collect()
}
