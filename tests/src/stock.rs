//! An installer image as siderolabs makes it, without our extension: Talos's own installer program, whose tag is the Talos version, and default
//! kernel arguments.

use crate::image::{Assembly, Kernel};
use crate::modules::project;
use crate::settings::{STOCK, Settings};
use crate::{Result, caches};
use anyhow::{Context as _, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether stock Talos has a kernel of its own, of profile `stock`. It takes a quarter of an hour to compile, so in a usual run the build's,
/// profile `vm`, stands for it.
#[must_use]
pub fn has_own_kernel() -> bool {
    std::env::var_os(STOCK).is_some()
}

/// Writes the image `name` as the layout `<dir>/installer.oci`.
pub fn installer(settings: &Settings, name: &str, dir: &Path) -> Result<()> {
    let image = match has_own_kernel() {
        true => Assembly::with_kernel(settings, kernel(settings)?, dir)?,
        false => Assembly::open(settings, dir)?,
    };
    image.write(name, &image.cmdline()?, &image.initramfs(&[])?)
}

/// Compiles the kernel of profile `stock`, unless it is in the cache.
fn kernel(settings: &Settings) -> Result<Kernel> {
    let mut command = Command::new(settings.program()?);
    command.arg("--project").arg(project()).arg("--cache").arg(caches::shared(settings)?);
    command.args(["kernel", "--profile", "stock", "build", "--without-module"]);
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{command:?} failed");
    let text = String::from_utf8(output.stdout)?;
    let stage = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(PathBuf::from).with_context(|| format!("no stage `{name}` in {text:?}"))
    };
    Ok(Kernel { vmlinuz: stage("kernel")?.join("vmlinuz"), modules: stage("modules")?.join("signed") })
}
