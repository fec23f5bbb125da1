//! Verifies a finished installer image.

use std::path::{Path, PathBuf};

use common::{Class, Error, Result};
use contract::Line;
use contract::initramfs::LAYERS;
use fs_err as fs;
use oci::{Layout, Limits, Unpacked};

use crate::layers::Layers;
use crate::{cmdline, initramfs, modules_dep, uki};
use formats::initramfs::Listed;
use formats::pe::Pe;

/// Contents of a verified installer image.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The extracted unified kernel image.
    pub uki: PathBuf,
    /// The extracted systemd-boot.
    pub boot_loader: PathBuf,
    /// The kernel command line.
    pub cmdline: String,
    /// Kernel release, the same in `.uname` and the kernel image.
    pub release: String,
    /// Text of os-release.
    pub os_release: String,
    /// Layers that `/init` mounts.
    pub layers: Layers,
    /// Every member of the initramfs.
    pub members: Vec<Listed>,
}

/// Opens the layout at `path`, extracts the boot files into the existing directory `work` and checks everything a boot depends on.
///
/// # Errors
/// [`Class::Verification`] when digests, kernel release or layers do not match, or machined would reject the command line;
/// [`Class::UntrustedData`] when a part is missing or malformed.
pub fn verify(line: &Line, path: &Path, work: &Path) -> Result<Verified> {
    let paths = &line.installer;
    let layout = Layout::open(path)?;
    let bad = |why: &str| {
        Error::new(Class::UntrustedData, "not an installer image built by solana-talos").file(path).why(why)
    };
    let image = layout.images()?.into_iter().next().ok_or_else(|| bad("the layout contains no image"))?;
    if image.config.config.entrypoint.as_deref() != Some(std::slice::from_ref(&paths.entrypoint)) {
        return Err(bad(&format!("the entrypoint is not {}", paths.entrypoint)));
    }
    let (uki, boot_loader) = (work.join("vmlinuz.efi"), work.join("systemd-boot.efi"));
    Unpacked::open(&layout, &image, Limits::SYSTEM)?
        .extract(&[(&paths.uki, uki.clone()), (&paths.boot_loader, boot_loader.clone())])?;
    Pe::parse(&fs::read(&boot_loader)?).map_err(|e| e.file(&paths.boot_loader))?;
    let bytes = fs::read(&uki)?;
    let parts = uki::inspect(&bytes).map_err(|e| e.file(&paths.uki))?;
    cmdline::verify(&line.arguments, parts.cmdline)?;
    let inspected = initramfs::inspect(parts.initrd)?;
    let layers = inspected.layers.ok_or_else(|| bad(&format!("{LAYERS} is missing in the initramfs")))?;
    check_layers(&layers, parts.uname)?;
    Ok(Verified {
        cmdline: parts.cmdline.to_owned(),
        release: parts.uname.to_owned(),
        os_release: parts.os_release.to_owned(),
        layers,
        members: inspected.members,
        uki,
        boot_loader,
    })
}

/// Checks that `modules.dep` of this kernel is the top layer; another layer above could hide it.
fn check_layers(layers: &Layers, release: &str) -> Result<()> {
    let wanted = modules_dep::metadata(release);
    match layers.layers.last() {
        Some(last) if last.metadata == wanted => Ok(()),
        _ => Err(Error::new(Class::Verification, format!("the top layer is not modules.dep of kernel {release}"))
            .file(LAYERS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_layer_must_be_modules_dep_of_this_kernel() {
        let (dep, other) = (modules_dep::metadata("6.12"), crate::layers::Metadata::default());
        assert!(check_layers(&Layers::number([other.clone(), dep.clone()]), "6.12").is_ok());
        for (layers, release) in [(vec![dep.clone(), other], "6.12"), (vec![dep], "6.13"), (vec![], "6.12")] {
            assert_eq!(check_layers(&Layers::number(layers), release).unwrap_err().class(), Class::Verification);
        }
    }
}
