//! The initramfs of an image: the base, the kernel's modules, the extensions, and the dependencies of all modules together.

use std::collections::BTreeMap;
use std::path::Path;

use common::sandbox::Sandbox;
use common::{Class, Error, Result};

use crate::initramfs::{self, Additions, Firmware, Layer};
use crate::layers::Metadata;
use crate::{modules_dep, squashfs};

/// What goes on top of a base.
#[derive(Clone, Debug)]
pub struct Layers<'a> {
    /// The kernel's release, such as `6.12.117-talos`.
    pub release: &'a str,
    /// Directory that holds `usr/lib/modules/<release>`, modules signed, with the kernel's own lists.
    pub kernel: &'a Path,
    /// Extensions: the manifest's metadata and the directory of the root filesystem.
    pub extensions: &'a [(Metadata, &'a Path)],
}

/// Makes the initramfs: `0.sqsh` the kernel's modules, then one layer an extension, last `modules.dep`.
///
/// `work` is an existing directory for what is on its way; every time is `mtime` (seconds since the epoch).
///
/// # Errors
/// [`Class::BadInput`] when the base or an extension is unusable or two extensions bring the same firmware; what the sandbox reports.
pub fn initramfs(sandbox: &Sandbox, base: &[u8], layers: &Layers<'_>, work: &Path, mtime: u32) -> Result<Vec<u8>> {
    let mut additions = Additions::default();
    additions.layers.push(Layer {
        metadata: kernel_metadata(layers.release),
        image: squashfs::make(sandbox, layers.kernel, &[], work, mtime)?,
    });
    for (metadata, tree) in layers.extensions {
        let (layer, firmware) = squashfs::layer(sandbox, tree, metadata.clone(), work, mtime)?;
        additions.layers.push(layer);
        merge(&mut additions.firmware, firmware)?;
    }
    let trees: Vec<_> = [layers.kernel].into_iter().chain(layers.extensions.iter().map(|(_, tree)| *tree)).collect();
    let scratch = tempfile::tempdir_in(work).map_err(|e| Error::io("cannot make a directory", work, &e))?;
    let tree = modules_dep::tree(sandbox, layers.release, &trees, scratch.path())?;
    let image = squashfs::make(sandbox, &tree, &[], work, mtime)?;
    additions.layers.push(Layer { metadata: modules_dep::metadata(layers.release), image });
    initramfs::assemble(base, additions, mtime)
}

fn kernel_metadata(release: &str) -> Metadata {
    Metadata {
        name: "kernel-modules".to_owned(),
        version: release.to_owned(),
        author: "solana-talos".to_owned(),
        description: "Modules of the kernel in this image".to_owned(),
        ..Metadata::default()
    }
}

fn merge(all: &mut BTreeMap<String, Firmware>, more: BTreeMap<String, Firmware>) -> Result<()> {
    for (path, firmware) in more {
        if all.contains_key(&path) {
            return Err(Error::new(Class::BadInput, "two extensions bring the same firmware").file(path));
        }
        all.insert(path, firmware);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_that_is_there_twice_is_refused() {
        let one: BTreeMap<_, _> = [("usr/lib/firmware/a".to_owned(), Firmware::Link("b".into()))].into();
        let mut all = BTreeMap::new();
        merge(&mut all, one.clone()).unwrap();
        assert!(merge(&mut all, one).unwrap_err().to_string().contains("usr/lib/firmware/a"));
    }
}
