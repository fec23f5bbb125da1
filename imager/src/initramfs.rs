//! Adds layers to a Talos initramfs: the base stays byte for byte as it is, a second archive follows it.

use std::collections::{BTreeMap, BTreeSet};

use common::{Class, Error, Result};
use contract::initramfs::{INIT, LAYERS, ROOTFS};

use crate::layers::{Layers, Metadata};
use formats::cpio::{Writer, pad4};
use formats::initramfs::{self, Listed};

/// The layers are compressed already, so more gains next to nothing: level 18 takes 15 times as long over them.
/// Our bytes depend on the level and on the version of the zstd library.
const ZSTD_LEVEL: i32 = 12;
/// Where the kernel looks for microcode, in a plain archive before everything else
/// (kernel `Documentation/arch/x86/microcode.rst`).
const MICROCODE: &str = "kernel/x86/microcode";

/// A squashfs layer and what it is.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Goes into `extensions.yaml`.
    pub metadata: Metadata,
    /// The squashfs image.
    pub image: Vec<u8>,
}

/// A file of `usr/lib/firmware`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// Its content.
    File(Vec<u8>),
    /// The target of a symbolic link.
    Link(String),
}

/// What is added to a base.
#[derive(Clone, Debug, Default)]
pub struct Additions {
    /// From the lowest to the highest.
    pub layers: Vec<Layer>,
    /// Files of `usr/lib/firmware`, taken out of the extensions so that drivers find them before the layers are
    /// mounted; keys are paths in the initramfs.
    pub firmware: BTreeMap<String, Firmware>,
    /// CPU microcode by file name (`AuthenticAMD.bin`, `GenuineIntel.bin`); goes before the base, uncompressed.
    pub microcode: BTreeMap<String, Vec<u8>>,
}

/// Puts microcode, `base` and the additions together. `mtime` is in seconds since the epoch.
///
/// # Errors
/// [`Class::BadInput`] when `base` is not a Talos initramfs, has layers already, or an addition has no usable path.
pub fn assemble(base: &[u8], additions: Additions, mtime: u32) -> Result<Vec<u8>> {
    check_base(base)?;
    let mut out = microcode(additions.microcode, mtime)?;
    out.extend_from_slice(base);
    pad4(&mut out);
    let appended = archive(additions.layers, additions.firmware, mtime)?;
    out.extend(
        compress(&appended).map_err(|e| Error::new(Class::Infrastructure, "cannot compress the layers").why(e))?,
    );
    pad4(&mut out);
    Ok(out)
}

/// A base has an init and the root filesystem, and no layers yet: a second list would hide the first.
fn check_base(base: &[u8]) -> Result<()> {
    let bad = |why: &str| {
        Err(Error::new(Class::BadInput, "the base's initramfs is not Talos's")
            .file("initramfs.xz")
            .why(why)
            .hint("give --base the imager image of a Talos release, or leave it out for the testbed"))
    };
    let members = initramfs::list(base)?;
    let has = |path: &str| members.iter().any(|member| member.path == path);
    if let Some(missing) = [INIT, ROOTFS].into_iter().find(|path| !has(path)) {
        return bad(&format!("it has no /{missing}"));
    }
    if has(LAYERS) {
        return bad(&format!("it has an {LAYERS} already; take an initramfs without extensions"));
    }
    Ok(())
}

fn microcode(files: BTreeMap<String, Vec<u8>>, mtime: u32) -> Result<Vec<u8>> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let mut writer = Writer::default();
    for (name, content) in files {
        writer.file(&format!("{MICROCODE}/{name}"), 0o644, content)?;
    }
    Ok(writer.finish(mtime))
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

/// One frame, one thread: the bytes do not depend on the machine.
fn compress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.compress(bytes)
}

/// What an assembled initramfs holds, read back from its bytes.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// Every member, in the order of unpacking.
    pub members: Vec<Listed>,
    /// The list of layers, if there is one.
    pub layers: Option<Layers>,
}

/// Reads an initramfs back and checks that the layers it lists are there.
///
/// # Errors
/// [`Class::BadInput`] for malformed parts, [`Class::Verification`] for a listed layer that is missing or no squashfs.
pub fn inspect(image: &[u8]) -> Result<Inspected> {
    let mut members = Vec::new();
    let mut squashfs = BTreeSet::new();
    let mut layers = None;
    initramfs::walk(image, &mut |part, compression, member| {
        if member.path == LAYERS {
            let text = std::str::from_utf8(member.content)
                .map_err(|e| Error::new(Class::BadInput, "malformed list of layers").why(e))?;
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
                format!("the layer {} is missing or no squashfs", entry.image),
            )
            .file(LAYERS));
        }
    }
    Ok(Inspected { members, layers })
}

/// Whether the image begins with a plain archive of microcode.
#[must_use]
pub fn has_microcode(inspected: &Inspected) -> bool {
    inspected.members.iter().any(|m| m.part == 0 && m.compression.is_none() && m.path.starts_with(MICROCODE))
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
            microcode: [("AuthenticAMD.bin".to_owned(), b"ucode".to_vec())].into(),
        }
    }

    #[test]
    fn the_base_stays_and_the_layers_follow() {
        let base = base();
        let image = assemble(&base, Additions { microcode: BTreeMap::new(), ..additions() }, 7).unwrap();
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
        assert!(!has_microcode(&inspected));
    }

    /// The base is plain here, so that only our own part depends on the zstd library: a new one may change this digest, and says so.
    #[test]
    fn the_same_parts_give_the_recorded_digest() {
        let base = zstd::decode_all(&base()[..]).unwrap();
        let digest = common::Sha256::of(assemble(&base, additions(), 7).unwrap()).to_string();
        assert_eq!(digest, "90bd0902f45662c702efc9512e9d8d9e8f155eb73b3afefa56824d47ccaccfbf");
    }

    #[test]
    fn microcode_comes_first_and_plain() {
        let image = assemble(&base(), additions(), 7).unwrap();
        assert!(image.starts_with(b"070701"));
        assert!(has_microcode(&inspect(&image).unwrap()));
        assert_eq!(image, assemble(&base(), additions(), 7).unwrap(), "the same input gives the same bytes");
        assert_ne!(image, assemble(&base(), additions(), 8).unwrap());
    }

    #[test]
    fn refuses_a_base_that_is_not_talos() {
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
    fn a_missing_layer_is_found() {
        let mut broken = additions();
        broken.layers[0].image = b"not squashfs".to_vec();
        let image = assemble(&base(), broken, 0).unwrap();
        assert_eq!(inspect(&image).unwrap_err().class(), Class::Verification);
    }
}
