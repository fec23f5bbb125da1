//! The base's `/etc/os-release`, which becomes the name that the boot menu shows.

use std::path::Path;

use common::sandbox::{Run, Sandbox};
use common::{Class, Error, Result};
use contract::initramfs::ROOTFS;
use fs_err as fs;

use formats::initramfs;

/// Reads it out of the root filesystem in the initramfs `base`; `work` is an existing directory for that filesystem on its way.
///
/// # Errors
/// [`Class::BadInput`] when there is no root filesystem, no os-release in it, or it names no `ID` and `PRETTY_NAME`.
pub fn from_base(sandbox: &Sandbox, base: &[u8], work: &Path) -> Result<String> {
    let bad = |why: &str| Error::new(Class::BadInput, "the base has no usable os-release").file(ROOTFS).why(why);
    let rootfs = initramfs::content(base, ROOTFS)?.ok_or_else(|| bad("there is no root filesystem"))?;
    let dir = tempfile::tempdir_in(work).map_err(|e| Error::io("cannot make a directory", work, &e))?;
    fs::write(dir.path().join("rootfs.sqsh"), rootfs)?;
    let program =
        ["unsquashfs", "-no-progress", "-follow-symlinks", "-cat", "/build/base/rootfs.sqsh", "etc/os-release"];
    let text = sandbox.output(&Run::new(program).read(dir.path(), "/build/base")).map_err(|e| match e.class() {
        Class::BuildFailed => bad("/etc/os-release cannot be read"),
        _ => e,
    })?;
    let text = String::from_utf8(text).map_err(|_| bad("it is not UTF-8"))?;
    check(&text).map_err(|key| bad(&format!("it has no {key}")))?;
    Ok(text)
}

/// systemd-boot passes over an image whose os-release lacks these.
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
    fn wants_what_the_boot_menu_shows() {
        assert_eq!(check("NAME=x\nID=talos\nPRETTY_NAME=\"Talos (v1.10.3)\"\n"), Ok(()));
        assert_eq!(check("ID=talos\nNAME=x\n"), Err("PRETTY_NAME"));
        assert_eq!(check("VERSION_ID=1\nPRETTY_NAME=x\n"), Err("ID"));
    }
}
