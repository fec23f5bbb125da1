//! Writes a base: the images that siderolabs calls `imager` and `installer-base`, in one layout.

use std::collections::BTreeMap;
use std::path::Path;

use common::Result;
use contract::{DEFAULT_RELEASE, Line, initramfs};
use formats::cpio;
use oci::types::RunConfig;
use oci::{FileMap, NewImage, Writer};

/// systemd's stub and boot loader in the toolchain.
const EFI: &str = "usr/lib/systemd/boot/efi";
/// Debian package of these two.
pub const EFI_PACKAGE: &str = "systemd-boot-efi";
/// Compression level of the initramfs, which is almost only a compressed root filesystem.
const ZSTD_LEVEL: i32 = 12;

/// Content of a base.
#[derive(Debug)]
pub struct BaseLayout<'a> {
    /// First part of the images' names.
    pub name: &'a str,
    /// Root filesystem of the toolchain, from which stub and boot loader are taken.
    pub toolchain: &'a Path,
    /// The initramfs; see [`initramfs()`].
    pub initramfs: &'a [u8],
    /// Files of the image `installer-base`.
    pub installer: &'a FileMap,
    /// Seconds since the epoch; the time of every file and of the images.
    pub epoch: u64,
}

impl BaseLayout<'_> {
    /// Writes the layout `dest`.
    pub fn write(&self, dest: &Path) -> Result<()> {
        let efi = self.toolchain.join(EFI);
        let talos = Line::default_release()?;
        let mut imager = FileMap::new();
        imager.host(&talos.imager.stub, &efi.join("linuxx64.efi.stub"), 0o644)?;
        imager.host(&talos.imager.boot_loader, &efi.join("systemd-bootx64.efi"), 0o644)?;
        imager.bytes(&talos.imager.initramfs, self.initramfs, 0o644)?;
        let mut writer = Writer::create(dest)?;
        self.add(&mut writer, "imager", &imager, config(&talos, None))?;
        let entrypoint = Some(talos.installer.entrypoint.as_str());
        self.add(&mut writer, "installer-base", self.installer, config(&talos, entrypoint))?;
        writer.finish()
    }

    fn add(&self, writer: &mut Writer, image: &str, files: &FileMap, config: RunConfig) -> Result<()> {
        let names = [format!("{}/{image}:{DEFAULT_RELEASE}", self.name)];
        let image = NewImage { names: &names, created: self.epoch, config, ..NewImage::default() };
        writer.image_of(files, image).map(drop)
    }
}

fn config(talos: &Line, entrypoint: Option<&str>) -> RunConfig {
    RunConfig {
        entrypoint: entrypoint.map(|program| vec![program.to_owned()]),
        env: None,
        labels: Some(BTreeMap::from([(talos.installer.version_label.clone(), DEFAULT_RELEASE.to_owned())])),
        other: BTreeMap::new(),
    }
}

/// Returns an initramfs of the program `init` and the root filesystem image `rootfs`.
pub fn initramfs(init: &Path, rootfs: &Path, epoch: u64) -> Result<Vec<u8>> {
    let mut archive = cpio::Writer::default();
    archive.file(initramfs::INIT, 0o755, fs_err::read(init)?)?;
    archive.file(initramfs::ROOTFS, 0o644, fs_err::read(rootfs)?)?;
    let bytes = archive.finish(u32::try_from(epoch).unwrap_or(u32::MAX));
    Ok(zstd::bulk::compress(&bytes, ZSTD_LEVEL)?)
}
