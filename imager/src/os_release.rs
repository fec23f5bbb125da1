//! Reads `/etc/os-release` of the base; its `PRETTY_NAME` is shown in the boot menu.

use std::path::Path;

use common::sandbox::{Run, Sandbox};
use common::{Class, Error, Result};
use contract::initramfs::ROOTFS;
use fs_err as fs;

use formats::initramfs;

/// Reads it from the root filesystem in the initramfs `base`; `work` is an existing directory for temporary files.
///
/// # Errors
/// [`Class::UntrustedData`] when the root filesystem, os-release, its `ID` or its `PRETTY_NAME` is missing.
pub fn from_base(sandbox: &Sandbox, base: &[u8], work: &Path) -> Result<String> {
    let bad = |why: &str| Error::new(Class::UntrustedData, "cannot read os-release of the base").file(ROOTFS).why(why);
    let rootfs = initramfs::content(base, ROOTFS)?.ok_or_else(|| bad("the root filesystem is missing"))?;
    let dir = tempfile::tempdir_in(work)?;
    fs::write(dir.path().join("rootfs.sqsh"), rootfs)?;
    let program =
        ["unsquashfs", "-no-progress", "-follow-symlinks", "-cat", "/build/base/rootfs.sqsh", "etc/os-release"];
    let text = sandbox.try_output(&Run::new(program).read(dir.path(), "/build/base"))?;
    let text = text.map_err(|_| bad("unsquashfs cannot extract /etc/os-release"))?;
    let text = String::from_utf8(text).map_err(|_| bad("/etc/os-release is not UTF-8"))?;
    check(&text).map_err(|key| bad(&format!("/etc/os-release does not set {key}")))?;
    Ok(text)
}

/// Returns the missing key, if any: systemd-boot ignores an image without them.
fn check(text: &str) -> Result<(), &'static str> {
    let missing = ["ID", "PRETTY_NAME"]
        .into_iter()
        .find(|key| !text.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with('='))));
    missing.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_boot_menu_are_required() {
        assert_eq!(check("NAME=x\nID=talos\nPRETTY_NAME=\"Talos (v1.10.3)\"\n"), Ok(()));
        assert_eq!(check("ID=talos\nNAME=x\n"), Err("PRETTY_NAME"));
        assert_eq!(check("VERSION_ID=1\nPRETTY_NAME=x\n"), Err("ID"));
    }
}
