//! Installer images that are broken on purpose.

use crate::image::{self, Assembly};
use crate::settings::Settings;
use crate::{Result, signature};
use anyhow::Context as _;
use fs_err as fs;
use imager::layers::Metadata;
use std::path::Path;

/// Bytes that are left of the initramfs in [`panicking`].
const TRUNCATED: usize = 1 << 20;
/// Name of the module in [`forged`] with a bit flipped.
pub const TAMPERED: &str = "tampered";

/// Writes the image `name` as the layout `<dir>/installer.oci`: its initramfs is truncated in the middle of `/init`, so the kernel panics.
pub fn panicking(settings: &Settings, name: &str, dir: &Path) -> Result<()> {
    let image = Assembly::open(settings, dir)?;
    let whole = image.base_initramfs()?;
    let truncated = whole.get(..TRUNCATED).context("the initramfs of the base is too small")?;
    image.write(name, &image.cmdline()?, truncated)
}

/// As [`panicking`], with the arguments and the extension of the build, but forged modules: `solana_optimizer` signed with another key, and
/// [`TAMPERED`], a copy with its signature and one bit flipped.
pub fn forged(settings: &Settings, name: &str, dir: &Path) -> Result<()> {
    let extension = dir.join("extension");
    fs::create_dir_all(&extension)?;
    let tree = image::unpack(settings, "solana-optimizer.oci", "rootfs", &extension)?.join("rootfs");
    let modules = tree.join(contract::MODULES).join(image::release(&tree)?).join("extras");
    let file = modules.join("solana_optimizer.ko");
    let module = fs::read(&file)?;
    fs::write(&file, signature::sign_with_unknown_key(&settings.sandbox, &module, &dir.join("unknown-key"))?)?;
    fs::write(modules.join(format!("{TAMPERED}.ko")), signature::flip_bit(&module)?)?;
    let metadata =
        Metadata { name: "solana-optimizer".to_owned(), version: "forged".to_owned(), ..Metadata::default() };
    let cmdline = fs::read_to_string(settings.out.join("cmdline"))?;
    let image = Assembly::open(settings, dir)?;
    image.write(name, cmdline.trim_end(), &image.initramfs(&[(metadata, &tree)])?)
}
