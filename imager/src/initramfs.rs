//! Adds layers to a Talos initramfs: a second archive is appended, the base is not changed.

use std::collections::{BTreeMap, BTreeSet};

use common::{Class, Error, Result};
use contract::initramfs::{INIT, LAYERS, ROOTFS};

use crate::layers::{Layers, Metadata};
use formats::cpio::{Writer, pad4};
use formats::initramfs::{self, Listed};

/// The layers are already compressed, so a higher level gains almost nothing: level 18 takes 15 times as long.
/// The output depends on the level and on the version of the zstd library.
const ZSTD_LEVEL: i32 = 12;

/// A squashfs layer with its metadata.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Written to `extensions.yaml`.
    pub metadata: Metadata,
    /// The squashfs image.
    pub image: Vec<u8>,
}

/// A file of `usr/lib/firmware`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// File content.
    File(Vec<u8>),
    /// Target of a symbolic link.
    Link(String),
}

/// Additions to a base.
#[derive(Clone, Debug, Default)]
pub struct Additions {
    /// Layers from the lowest to the highest.
    pub layers: Vec<Layer>,
    /// Files of `usr/lib/firmware` by path in the initramfs: drivers need them before the layers are mounted.
    pub firmware: BTreeMap<String, Firmware>,
}

/// Appends the additions to `base`. `mtime` is in seconds since the epoch.
///
/// # Errors
/// [`Class::UntrustedData`] when `base` is not a Talos initramfs or already has layers.
pub fn assemble(base: &[u8], additions: Additions, mtime: u32) -> Result<Vec<u8>> {
    check_base(base)?;
    let mut out = base.to_vec();
    pad4(&mut out);
    let appended = archive(additions.layers, additions.firmware, mtime)?;
    out.extend(
        compress(&appended).map_err(|e| Error::new(Class::Infrastructure, "cannot compress the layers").why(e))?,
    );
    pad4(&mut out);
    Ok(out)
}

/// Checks that a base has an init, a root filesystem and no layers: a second list would hide the first.
fn check_base(base: &[u8]) -> Result<()> {
    let bad = |why: &str| {
        Err(Error::new(Class::UntrustedData, "the base initramfs is not a Talos initramfs")
            .file("initramfs.xz")
            .why(why)
            .hint("pass the imager image of a Talos release with --base, or omit --base to use the testbed"))
    };
    let members = initramfs::list(base)?;
    let has = |path: &str| members.iter().any(|member| member.path == path);
    if let Some(missing) = [INIT, ROOTFS].into_iter().find(|path| !has(path)) {
        return bad(&format!("/{missing} is missing"));
    }
    if has(LAYERS) {
        return bad(&format!("it already contains {LAYERS}; use an initramfs without extensions"));
    }
    Ok(())
}

fn archive(layers: Vec<Layer>, firmware: BTreeMap<String, Firmware>, mtime: u32) -> Result<Vec<u8>> {
    let list = Layers::number(layers.iter().map(|layer| layer.metadata.clone()));
    let mut writer = Writer::default();
    writer.file(LAYERS, 0o644, list.to_yaml()?.into_bytes())?;
    for (layer, entry) in layers.into_iter().zip(&list.layers) {
        writer.file(&entry.image, 0o644, layer.image)?;
    }
    for (path, firmware) in firmware {
        match firmware {
            Firmware::File(content) => writer.file(&path, 0o644, content)?,
            Firmware::Link(target) => writer.symlink(&path, &target)?,
        }
    }
    Ok(writer.finish(mtime))
}

/// Compresses into one frame with one thread, so that the bytes do not depend on the machine.
fn compress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.compress(bytes)
}

/// Contents of an assembled initramfs.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// Every member in unpack order.
    pub members: Vec<Listed>,
    /// The list of layers, if present.
    pub layers: Option<Layers>,
}

/// Reads an initramfs and checks that it contains every listed layer.
///
/// # Errors
/// [`Class::UntrustedData`] for malformed parts, [`Class::Verification`] for a listed layer that is missing or not a squashfs image.
pub fn inspect(image: &[u8]) -> Result<Inspected> {
    let mut members = Vec::new();
    let mut squashfs = BTreeSet::new();
    let mut layers = None;
    initramfs::walk(image, &mut |part, compression, member| {
        if member.path == LAYERS {
            let text = std::str::from_utf8(member.content)
                .map_err(|e| Error::new(Class::UntrustedData, "the list of layers is malformed").file(LAYERS).why(e))?;
            layers = Some(Layers::from_yaml(text)?);
        }
        if member.content.starts_with(b"hsqs") {
            squashfs.insert(member.path.to_owned());
        }
        members.push(Listed::new(part, compression, member));
        Ok(())
    })?;
    for entry in layers.iter().flat_map(|layers: &Layers| &layers.layers) {
        if !squashfs.contains(&entry.image) {
            return Err(Error::new(
                Class::Verification,
                format!("layer {} is missing or not a squashfs image", entry.image),
            )
            .file(LAYERS));
        }
    }
    Ok(Inspected { members, layers })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn base() -> Vec<u8> {
        let mut writer = Writer::default();
        writer.file("init", 0o755, b"\x7fELF".to_vec()).unwrap();
        writer.file("rootfs.sqsh", 0o644, b"hsqs root".to_vec()).unwrap();
        zstd::encode_all(&writer.finish(0)[..], 3).unwrap()
    }

    pub(crate) fn layer(name: &str) -> Layer {
        let metadata = Metadata { name: name.into(), version: "v1".into(), ..Metadata::default() };
        Layer { metadata, image: format!("hsqs {name}").into_bytes() }
    }

    fn additions() -> Additions {
        Additions {
            layers: vec![layer("kernel-modules"), layer("modules.dep")],
            firmware: [("usr/lib/firmware/nic.bin".to_owned(), Firmware::File(b"fw".to_vec()))].into(),
        }
    }

    #[test]
    fn layers_are_appended_to_the_base() {
        let base = base();
        let image = assemble(&base, additions(), 7).unwrap();
        assert!(image.starts_with(&base));
        let inspected = inspect(&image).unwrap();
        let paths: Vec<_> =
            inspected.members.iter().filter(|m| m.mode & 0o100_000 != 0).map(|m| (m.part, m.path.as_str())).collect();
        assert_eq!(
            paths,
            [
                (0, "init"),
                (0, "rootfs.sqsh"),
                (1, "0.sqsh"),
                (1, "1.sqsh"),
                (1, "extensions.yaml"),
                (1, "usr/lib/firmware/nic.bin")
            ]
        );
        assert_eq!(inspected.layers.as_ref().unwrap().layers[1].metadata.name, "modules.dep");
        assert_eq!(image, assemble(&base, additions(), 7).unwrap(), "the same input must give the same bytes");
        assert_ne!(image, assemble(&base, additions(), 8).unwrap());
    }

    /// The base is not compressed, so only the appended part depends on the zstd library; a new version of it may change this digest.
    #[test]
    fn digest_is_reproducible() {
        let base = zstd::decode_all(&base()[..]).unwrap();
        let digest = common::Sha256::of(assemble(&base, additions(), 7).unwrap()).to_string();
        assert_eq!(digest, "05ace7e3ca7c39844a42f946ab58ae249cd7e05732a0c8ed3b9ed8c904a004e5");
    }

    #[test]
    fn a_base_that_is_not_talos_is_rejected() {
        let mut writer = Writer::default();
        writer.file("init", 0o755, Vec::new()).unwrap();
        for (bad, why) in [
            (writer.finish(0), "rootfs.sqsh"),
            (zstd::encode_all(&b"no cpio"[..], 1).unwrap(), "newc"),
            (b"ELF".to_vec(), "neither cpio"),
            (assemble(&base(), additions(), 0).unwrap(), "already"),
        ] {
            let error = assemble(&bad, Additions::default(), 0).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_missing_layer_is_reported() {
        let mut broken = additions();
        broken.layers[0].image = b"not squashfs".to_vec();
        let image = assemble(&base(), broken, 0).unwrap();
        assert_eq!(inspect(&image).unwrap_err().class(), Class::Verification);
    }
}
