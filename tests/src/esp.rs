//! Makes the boot disk that the Talos installer would write: an EFI system partition with systemd-boot and one UKI.
//!
//! Made with mtools in the toolchain. The disk has no partition table: UEFI also boots from a bare FAT file system.

use crate::Result;
use common::sandbox::{Run, Sandbox};
use fs_err as fs;
use std::path::Path;

/// systemd-boot's configuration: no menu, no waiting (loader.conf(5)).
const LOADER: &str = "timeout 0\n";

/// Copies the files of an installer image to the paths that the Talos installer uses.
const SCRIPT: &str = "\
mformat -i /build/esp.img -F -N 54414c4f -v EFI ::
mmd -i /build/esp.img ::EFI ::EFI/boot ::EFI/Linux ::loader
mcopy -i /build/esp.img /build/in/systemd-boot.efi ::EFI/boot/BOOTX64.EFI
mcopy -i /build/esp.img /build/in/vmlinuz.efi \"::EFI/Linux/Talos-$1.efi\"
mcopy -i /build/esp.img /build/loader.conf ::loader/loader.conf
";

/// Writes a disk to `image` with `systemd-boot.efi` and `vmlinuz.efi` from `parts`; `version` is part of the UKI's file name.
pub fn make(sandbox: &Sandbox, parts: &Path, version: &str, image: &Path) -> Result<()> {
    let uki = fs::metadata(parts.join("vmlinuz.efi"))?.len();
    let file = fs::File::create(image)?;
    file.set_len(size(uki))?;
    let loader = image.with_extension("loader.conf");
    fs::write(&loader, LOADER)?;
    let run = Run::script(SCRIPT, &[version]).read(parts, "/build/in").read(&loader, "/build/loader.conf");
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
