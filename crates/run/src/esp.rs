//! The disk that a node boots from, like the one that Talos's installer writes: an EFI system partition with systemd-boot and one UKI.
//!
//! Made with mtools in the toolchain. The disk has no partition table: UEFI also boots from a bare FAT file system.

use std::path::Path;

use common::Result;
use common::sandbox::{Run, Sandbox};

/// systemd-boot in the toolchain, for boot disks that are not made from an installer image.
pub const SYSTEMD_BOOT: &str = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// Copies the files to the paths that Talos's installer uses. systemd-boot shows no menu and does not wait (loader.conf(5)).
const SCRIPT: &str = "\
mformat -i /build/esp.img -F -N 54414c4f -v EFI ::
mmd -i /build/esp.img ::EFI ::EFI/boot ::EFI/Linux ::loader
mcopy -i /build/esp.img /build/systemd-boot.efi ::EFI/boot/BOOTX64.EFI
mcopy -i /build/esp.img /build/uki.efi \"::EFI/Linux/$1.efi\"
echo 'timeout 0' >/tmp/loader.conf
mcopy -i /build/esp.img /tmp/loader.conf ::loader/loader.conf
";

/// Writes a disk to `image` with the boot loader `loader` and the UKI `uki` as `<name>.efi`.
///
/// # Errors
/// I/O errors; those of [`Sandbox::output`].
pub fn make(sandbox: &Sandbox, loader: &Path, uki: &Path, name: &str, image: &Path) -> Result<()> {
    fs_err::File::create(image)?.set_len(size(fs_err::metadata(uki)?.len()))?;
    let run = Run::script(SCRIPT, &[name]).read(loader, "/build/systemd-boot.efi").read(uki, "/build/uki.efi");
    sandbox.output(&run.write(image, "/build/esp.img"))?;
    Ok(())
}

/// Size of the disk: the UKI and the loader in whole MiB; FAT32 needs at least 33 MiB.
fn size(uki: u64) -> u64 {
    ((uki >> 20) + 40) << 20
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_partition_is_larger_than_its_content() {
        assert_eq!(super::size(0), 40 << 20);
        assert_eq!(super::size((30 << 20) + 1), 70 << 20);
    }
}
