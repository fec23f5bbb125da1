//! Mounts the layers as an overlay and switches root to it.

use crate::{Result, context, loopdev, mounts};
use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_move, unmount};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const NEW_ROOT: &str = "/root";

/// Returns the `lowerdir` of the overlay: the first directory is on top, so the layers are in reverse order and the root filesystem is last.
#[must_use]
pub fn lowerdir(layers: usize) -> String {
    let mut dirs: Vec<String> = (0..layers).rev().map(|n| format!("/layers/{n}")).collect();
    dirs.push("/layers/rootfs".to_owned());
    dirs.join(":")
}

/// Mounts `rootfs.sqsh` with `layers` over it, read-only, on the new root.
pub fn mount_root(layers: &[String]) -> Result<()> {
    if layers.is_empty() {
        return mount_squashfs("rootfs.sqsh", NEW_ROOT);
    }
    mount_squashfs("rootfs.sqsh", "/layers/rootfs")?;
    for (n, image) in layers.iter().enumerate() {
        mount_squashfs(image, &format!("/layers/{n}"))?;
    }
    context(std::fs::create_dir_all(NEW_ROOT), NEW_ROOT)?;
    let options = format!("lowerdir={}", lowerdir(layers.len()));
    mounts::one("overlay", NEW_ROOT, "overlay", MountFlags::RDONLY, &options)?;
    // The overlay keeps a reference to the layers.
    for n in (0..layers.len()).map(|n| n.to_string()).chain(["rootfs".to_owned()]) {
        let target = format!("/layers/{n}");
        context(unmount(target.as_str(), UnmountFlags::DETACH), &target)?;
    }
    Ok(())
}

fn mount_squashfs(image: &str, target: &str) -> Result<()> {
    let (_device, path) = context(loopdev::attach(&Path::new("/").join(image)), "layer")?;
    context(std::fs::create_dir_all(target), target)?;
    context(mounts::one(&path, target, "squashfs", MountFlags::RDONLY, ""), image)
}

/// Moves `/extensions.yaml`, `/proc`, `/sys` and `/dev` to the new root, frees the initramfs and makes the new root `/`.
pub fn switch_root() -> Result<()> {
    if Path::new("/extensions.yaml").exists() {
        bind_extensions_file()?;
    }
    for dir in ["/proc", "/sys", "/dev"] {
        context(mount_move(dir, format!("{NEW_ROOT}{dir}")), format!("cannot move {dir}"))?;
    }
    let root = context(std::fs::metadata("/"), "/")?.dev();
    free(Path::new("/"), root);
    context(std::env::set_current_dir(NEW_ROOT), NEW_ROOT)?;
    context(mount_move(".", "/"), "cannot move the new root")?;
    context(rustix::process::chroot("."), "chroot")?;
    context(std::env::set_current_dir("/"), "/")
}

/// Bind-mounts the file into the new root, from a small tmpfs because the initramfs is freed.
fn bind_extensions_file() -> Result<()> {
    let keep = "/keep";
    context(std::fs::create_dir_all(keep), keep)?;
    mounts::one("tmpfs", keep, "tmpfs", MountFlags::empty(), "size=1m,mode=0755")?;
    context(std::fs::copy("/extensions.yaml", "/keep/extensions.yaml"), "cannot copy extensions.yaml")?;
    context(
        mount_bind("/keep/extensions.yaml", format!("{NEW_ROOT}/etc/extensions.yaml")),
        "cannot bind extensions.yaml",
    )?;
    context(unmount(keep, UnmountFlags::DETACH), keep)
}

/// Removes the files of the initramfs's device below `dir`; loop devices keep their removed files open.
fn free(dir: &Path, device: u64) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.path().symlink_metadata() else { continue };
        if meta.dev() != device {
            continue;
        }
        if meta.is_dir() {
            free(&entry.path(), device);
            let _ = std::fs::remove_dir(entry.path());
        } else {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn later_layers_are_on_top() {
        assert_eq!(super::lowerdir(2), "/layers/1:/layers/0:/layers/rootfs");
    }
}
