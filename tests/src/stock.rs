//! An installer image as siderolabs makes it, without our extension: Talos's own installer program, whose tag is the Talos version, and default
//! kernel arguments. Its kernel is that of the build, profile `vm`: the kernel of Talos would take another quarter of an hour to compile.

use crate::Result;
use crate::image::Assembly;
use crate::settings::Settings;
use std::path::Path;

/// Writes the image `name` as the layout `<dir>/installer.oci`.
pub fn installer(settings: &Settings, name: &str, dir: &Path) -> Result<()> {
    let image = Assembly::open(settings, dir)?;
    image.write(name, &image.cmdline()?, &image.initramfs(&[])?)
}
