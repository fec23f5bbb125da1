//! Builds the initramfs of an image: the base, the kernel modules, the extensions, and `modules.dep` of all modules.

use std::collections::BTreeMap;
use std::path::Path;

use common::sandbox::Sandbox;
use common::{Class, Error, Result};

use crate::initramfs::{self, Additions, Firmware, Layer};
use crate::layers::Metadata;
use crate::{modules_dep, squashfs};

/// Layers on top of a base.
#[derive(Clone, Debug)]
pub struct Layers<'a> {
    /// Kernel release, such as `6.12.117-talos`.
    pub release: &'a str,
    /// Directory with `usr/lib/modules/<release>`: signed modules and the kernel's module lists.
    pub kernel: &'a Path,
    /// Extensions: manifest metadata and directory of the root filesystem.
    pub extensions: &'a [(Metadata, &'a Path)],
}

/// Builds the initramfs: kernel modules in `0.sqsh`, one layer per extension, `modules.dep` last.
///
/// `work` is an existing directory for temporary files; every file time is `mtime` (seconds since the epoch).
///
/// # Errors
/// [`Class::UntrustedData`] when the base or an extension is unusable, or two extensions contain the same firmware file.
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
    let scratch = tempfile::tempdir_in(work)?;
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
            return Err(Error::new(Class::UntrustedData, "two extensions contain the same firmware file").file(path));
        }
        all.insert(path, firmware);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_firmware_is_rejected() {
        let one: BTreeMap<_, _> = [("usr/lib/firmware/a".to_owned(), Firmware::Link("b".into()))].into();
        let mut all = BTreeMap::new();
        merge(&mut all, one.clone()).unwrap();
        assert!(merge(&mut all, one).unwrap_err().to_string().contains("usr/lib/firmware/a"));
    }
}
