//! Makes squashfs images with `mksquashfs` of the toolchain.
//!
//! squashfs-tools 4.6 writes the same bytes for any number of processors; the block size is the default.

use std::collections::BTreeMap;
use std::path::Path;

use common::sandbox::{Run, Sandbox};
use common::{Class, Error, Result};
use contract::FIRMWARE;
use fs_err as fs;

use crate::initramfs::{Firmware, Layer};
use crate::layers::Metadata;

/// Returns the `mksquashfs` command line from `/build/tree` to `/build/out/layer.sqsh`.
///
/// Every file is owned by root, every time is `mtime` (seconds since the epoch), and extended attributes of the host are ignored.
#[must_use]
pub fn arguments(mtime: u32, exclude: &[&str]) -> Vec<String> {
    let time = mtime.to_string();
    let fixed = [
        "mksquashfs",
        "/build/tree",
        "/build/out/layer.sqsh",
        "-noappend",
        "-all-root",
        "-root-mode",
        "0755",
        "-no-xattrs",
    ];
    let compression = ["-comp", "zstd", "-Xcompression-level", "18"];
    let times = ["-mkfs-time", &time, "-all-time", &time];
    let run = ["-reproducible", "-exit-on-error", "-no-recovery", "-no-progress", "-quiet"];
    let words = fixed.iter().chain(&compression).chain(&times).chain(&run);
    // `-e` takes all following arguments.
    let exclude = if exclude.is_empty() { vec![] } else { [&["-e"], exclude].concat() };
    words.copied().chain(exclude).map(str::to_owned).collect()
}

/// Makes a squashfs image of the directory `tree` without the paths in `exclude`; `work` is an existing directory for temporary files.
pub fn make(sandbox: &Sandbox, tree: &Path, exclude: &[&str], work: &Path, mtime: u32) -> Result<Vec<u8>> {
    let out = tempfile::tempdir_in(work)?;
    let run = Run::new(arguments(mtime, exclude)).read(tree, "/build/tree").write(out.path(), "/build/out");
    sandbox.run(&run, &mut |_| {})?;
    Ok(fs::read(out.path().join("layer.sqsh"))?)
}

/// Makes the layer of the extension with the root filesystem `tree` and returns it with its firmware, which is not in the layer.
///
/// # Errors
/// [`Class::UntrustedData`] for firmware that is neither a file nor a symbolic link.
pub fn layer(
    sandbox: &Sandbox,
    tree: &Path,
    metadata: Metadata,
    work: &Path,
    mtime: u32,
) -> Result<(Layer, BTreeMap<String, Firmware>)> {
    let mut firmware = BTreeMap::new();
    if tree.join(FIRMWARE).is_dir() {
        collect(tree, FIRMWARE, &mut firmware)?;
    }
    let exclude: &[&str] = if firmware.is_empty() { &[] } else { &[FIRMWARE] };
    let image = make(sandbox, tree, exclude, work, mtime)?;
    Ok((Layer { metadata, image }, firmware))
}

fn collect(tree: &Path, path: &str, out: &mut BTreeMap<String, Firmware>) -> Result<()> {
    for entry in fs::read_dir(tree.join(path))? {
        let entry = entry?;
        let bad = |why: &str| Error::new(Class::UntrustedData, "unsupported firmware file").file(entry.path()).why(why);
        let name = entry.file_name().into_string().map_err(|_| bad("the name is not UTF-8"))?;
        let path = format!("{path}/{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(tree, &path, out)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(entry.path())?;
            let target = target.to_str().ok_or_else(|| bad("the link's target is not UTF-8"))?;
            out.insert(path, Firmware::Link(target.to_owned()));
        } else if kind.is_file() {
            out.insert(path, Firmware::File(fs::read(entry.path())?));
        } else {
            return Err(bad("neither a file nor a symbolic link"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusions_are_the_last_arguments() {
        let line = arguments(7, &["usr/lib/firmware"]).join(" ");
        assert!(line.contains("-Xcompression-level 18 -mkfs-time 7 -all-time 7"), "{line}");
        assert!(line.ends_with("-quiet -e usr/lib/firmware"), "{line}");
        assert!(!arguments(7, &[]).contains(&"-e".to_owned()));
    }

    #[test]
    fn firmware_is_collected_and_sockets_are_rejected() {
        let tree = tempfile::tempdir().unwrap();
        let dir = tree.path().join("usr/lib/firmware/mellanox");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("a.bin"), "fw").unwrap();
        std::os::unix::fs::symlink("a.bin", dir.join("b.bin")).unwrap();
        let mut found = BTreeMap::new();
        collect(tree.path(), FIRMWARE, &mut found).unwrap();
        assert_eq!(found["usr/lib/firmware/mellanox/a.bin"], Firmware::File(b"fw".to_vec()));
        assert_eq!(found["usr/lib/firmware/mellanox/b.bin"], Firmware::Link("a.bin".into()));
        let _socket = std::os::unix::net::UnixListener::bind(dir.join("s")).unwrap();
        assert!(collect(tree.path(), FIRMWARE, &mut found).unwrap_err().to_string().contains("neither"));
    }
}
