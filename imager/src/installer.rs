//! The installer image: the base's installer with our boot files on top, and its verification from the finished layout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Class, Error, Result, Sha256};
use fs_err as fs;
use oci::{Append, Base, FileMap, Layout, Limits, Unpacked, Writer};

use crate::cmdline::TalosDefaults;
use crate::layers::Layers;
use crate::pe::Pe;
use crate::unpack::Listed;
use crate::{initramfs, modules_dep, uki};

/// The unified kernel image in an installer of Talos 1.10 and later.
pub const UKI: &str = "usr/install/amd64/vmlinuz.efi";
/// systemd-boot in an installer.
pub const BOOT: &str = "usr/install/amd64/systemd-boot.efi";
/// What runs when the image is started.
const ENTRYPOINT: &str = "/bin/installer";

/// What is new about an installer image.
#[derive(Clone, Copy, Debug)]
pub struct Installer<'a> {
    /// Full names, such as `ghcr.io/our-org/installer:custom-solana-v1.10.3`.
    pub names: &'a [String],
    /// systemd-boot on the host; the base's, or a signed copy of it.
    pub boot: &'a Path,
    /// The unified kernel image on the host.
    pub uki: &'a Path,
    /// Seconds since the epoch; the time of every file and of the image.
    pub created: u64,
    /// Labels beside those of the base.
    pub labels: &'a BTreeMap<String, String>,
    /// Annotations of the manifest.
    pub annotations: &'a BTreeMap<String, String>,
}

/// The artifacts layer.
///
/// # Errors
/// None for these paths; the type is that of [`FileMap::host`].
pub fn artifacts(boot: &Path, uki: &Path) -> Result<FileMap> {
    let mut files = FileMap::new();
    files.host(BOOT, boot, 0o644)?;
    files.host(UKI, uki, 0o644)?;
    Ok(files)
}

/// Writes the installer image as an OCI layout at `dest`, which appears whole or not at all; gives the manifest's digest.
///
/// # Errors
/// What a file or the layout of the base reports.
pub fn write(dest: &Path, base: &Base, new: &Installer<'_>) -> Result<Sha256> {
    let mut writer = Writer::create(dest)?;
    let layer = writer.layer(&artifacts(new.boot, new.uki)?, new.created)?;
    let append = Append {
        names: new.names,
        created: new.created,
        created_by: "solana-talos imager",
        labels: new.labels.clone(),
        annotations: new.annotations.clone(),
    };
    let digest = oci::installer::append(&mut writer, &base.layout, &base.installer, &layer, append)?;
    writer.finish()?;
    Ok(digest)
}

/// What a verified installer image holds.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The unified kernel image, taken out.
    pub uki: PathBuf,
    /// systemd-boot, taken out.
    pub boot: PathBuf,
    /// The kernel command line.
    pub cmdline: String,
    /// The kernel's release; `.uname` and the kernel agree on it.
    pub release: String,
    /// os-release.
    pub os_release: String,
    /// The layers that `/init` will stack.
    pub layers: Layers,
    /// Every member of the initramfs.
    pub members: Vec<Listed>,
}

/// Opens the layout at `path`, takes the boot files out into the existing directory `work` and checks all that a boot depends on.
///
/// # Errors
/// [`Class::Verification`] when digests, kernel release or layers do not agree, or machined would refuse the command line;
/// [`Class::BadInput`] when a part is missing or malformed.
pub fn verify(path: &Path, work: &Path) -> Result<Verified> {
    let layout = Layout::open(path)?;
    let bad = |why: &str| Error::new(Class::BadInput, "not an installer image of ours").file(path).why(why);
    let image = layout.images()?.into_iter().next().ok_or_else(|| bad("the layout is empty"))?;
    if image.config.config.entrypoint.as_deref() != Some(&[ENTRYPOINT.to_owned()]) {
        return Err(bad("its entrypoint is not /bin/installer"));
    }
    let (uki, boot) = (work.join("vmlinuz.efi"), work.join("systemd-boot.efi"));
    Unpacked::open(&layout, &image, Limits::TALOS)?.extract(&[(UKI, uki.clone()), (BOOT, boot.clone())])?;
    Pe::parse(&fs::read(&boot)?).map_err(|e| e.file(BOOT))?;
    let bytes = fs::read(&uki)?;
    let parts = uki::inspect(&bytes).map_err(|e| e.file(UKI))?;
    TalosDefaults::v1_10()?.verify(parts.cmdline)?;
    let inspected = initramfs::inspect(parts.initrd)?;
    let layers = inspected.layers.ok_or_else(|| bad("the initramfs has no extensions.yaml"))?;
    check_layers(&layers, parts.uname)?;
    Ok(Verified {
        cmdline: parts.cmdline.to_owned(),
        release: parts.uname.to_owned(),
        os_release: parts.os_release.to_owned(),
        layers,
        members: inspected.members,
        uki,
        boot,
    })
}

/// The uppermost layer is what `depmod` said for this kernel; below another one it would be hidden.
fn check_layers(layers: &Layers, release: &str) -> Result<()> {
    let wanted = modules_dep::metadata(release);
    match layers.layers.last() {
        Some(last) if last.metadata == wanted => Ok(()),
        _ => Err(Error::new(Class::Verification, format!("the uppermost layer is not the modules.dep of {release}"))
            .file("extensions.yaml")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_dep_must_be_on_top_and_of_this_kernel() {
        let (dep, other) = (modules_dep::metadata("6.12"), crate::layers::Metadata::default());
        assert!(check_layers(&Layers::number([other.clone(), dep.clone()]), "6.12").is_ok());
        for (layers, release) in [(vec![dep.clone(), other], "6.12"), (vec![dep], "6.13"), (vec![], "6.12")] {
            assert_eq!(check_layers(&Layers::number(layers), release).unwrap_err().class(), Class::Verification);
        }
    }
}
