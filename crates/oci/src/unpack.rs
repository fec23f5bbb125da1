//! Opens the file system of an untrusted image: lists it, extracts files, or unpacks it into a directory.
//!
//! Layers are streamed, once for the list of entries and once more for the content; memory does not grow with their size.
//! Owners and extended attributes are ignored.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use common::{Class, Error, Result, Sha256, atomic};

use crate::layer::Layer;
use crate::layout::{Image, Layout};
use crate::tarentry::{Item, malformed};
use crate::tarstream::{self, Each, Limits, Whole};
use crate::types::{MediaType, Named as _};
use crate::view::{Kind, Node, Origin, View};

/// Receives the paths, size and content of a file.
pub type Visit<'a> = dyn FnMut(&[&str], u64, &mut dyn Read) -> Result<()> + 'a;

/// An image whose layers have been read and verified.
#[derive(Debug)]
pub struct Unpacked<'a> {
    layout: &'a Layout,
    image: &'a Image,
    limits: Limits,
    view: View,
    size: u64,
}

impl<'a> Unpacked<'a> {
    /// Reads every layer of `image` and verifies its digest and diff ID.
    ///
    /// # Errors
    /// [`Class::Verification`] for a digest mismatch; [`Class::UntrustedData`] for a layer that is malformed or above `limits`.
    pub fn open(layout: &'a Layout, image: &'a Image, limits: Limits) -> Result<Self> {
        let mut view = View::default();
        let mut size = 0;
        for (number, layer) in image.layers.iter().enumerate() {
            let left = Limits { image: limits.image.saturating_sub(size), ..limits };
            let mut add = |entry: u64, item: &Item, _: &mut dyn Read| view.add(number, entry, item);
            let whole = stream(layout, layer, left, &mut add)?;
            check_diff_id(layer, whole.digest)?;
            size += whole.size;
        }
        Ok(Self { layout, image, limits, view, size })
    }

    /// The files of the image.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Uncompressed size of all layers in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Extracts the files `wanted` (path in the image, path on the host); links are followed inside the image.
    pub fn extract(&self, wanted: &[(&str, PathBuf)]) -> Result<()> {
        let mut targets = Targets::new();
        for (path, host) in wanted {
            let Some(Node { kind: Kind::File { origin, .. }, .. }) = self.view.get(path) else {
                return Err(Error::new(Class::UntrustedData, format!("the image contains no file {path}")));
            };
            targets.entry(*origin).or_default().push((host.clone(), 0o644));
        }
        self.copy(&targets)
    }

    /// Calls `each` with the paths, size and content of every regular file; once per file, with the paths of all hard links.
    pub fn visit(&self, each: &mut Visit<'_>) -> Result<()> {
        let mut files: BTreeMap<Origin, (u64, Vec<&str>)> = BTreeMap::new();
        for (path, node) in self.view.iter() {
            if let Kind::File { size, origin } = &node.kind {
                files.entry(*origin).or_insert((*size, Vec::new())).1.push(path);
            }
        }
        for (number, layer) in self.image.layers.iter().enumerate() {
            let mut give = |entry: u64, _: &Item, data: &mut dyn Read| match files.get(&Origin { layer: number, entry })
            {
                Some((size, paths)) => each(paths, *size, data),
                None => Ok(()),
            };
            stream(self.layout, layer, self.limits, &mut give)?;
        }
        Ok(())
    }

    /// Unpacks the file system into a staging directory and replaces `dest` with it.
    ///
    /// Symbolic links are kept and may point out of `dest`: do not follow them. Set-id bits are dropped.
    ///
    /// # Errors
    /// [`Class::UntrustedData`] for a device or named pipe, or above the limit once each hard link is a copy.
    pub fn apply(&self, dest: &Path) -> Result<()> {
        self.check_written()?;
        let stage = atomic::sibling(dest, "part");
        atomic::empty_dir(&stage)?;
        let result = self.fill(&stage).and_then(|()| atomic::replace_dir(&stage, dest));
        if result.is_err() {
            atomic::remove_dir(&stage)?;
        }
        result
    }

    /// Hard links are written as copies, so a small image could fill the disk.
    fn check_written(&self) -> Result<()> {
        let sizes = self.view.iter().map(|(_, node)| if let Kind::File { size, .. } = node.kind { size } else { 0 });
        if sizes.fold(0, u64::saturating_add) > self.limits.image {
            let why = format!("its files and hard links have more than {} bytes when unpacked", self.limits.image);
            return Err(malformed(why));
        }
        Ok(())
    }

    fn fill(&self, root: &Path) -> Result<()> {
        let mut targets = Targets::new();
        for (path, node) in self.view.iter() {
            let host = root.join(path);
            match &node.kind {
                Kind::Dir => fs_err::create_dir(host)?,
                Kind::File { origin, .. } => targets.entry(*origin).or_default().push((host, node.mode & 0o777)),
                Kind::Symlink(_) => {}
                Kind::Special => return Err(malformed(format!("{path} is a device or named pipe"))),
            }
        }
        self.copy(&targets)?;
        // Links last, so that nothing is written through one; then modes of directories, deepest first.
        for (path, node) in self.view.iter().collect::<Vec<_>>().into_iter().rev() {
            let host = root.join(path);
            match &node.kind {
                Kind::Symlink(target) => fs_err::os::unix::fs::symlink(target, host)?,
                Kind::Dir => fs_err::set_permissions(host, Permissions::from_mode(node.mode & 0o777 | 0o700))?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Streams the layers that contain a target and writes each file to its targets.
    fn copy(&self, targets: &Targets) -> Result<()> {
        for (number, layer) in self.image.layers.iter().enumerate() {
            if !targets.keys().any(|origin| origin.layer == number) {
                continue;
            }
            let mut take =
                |entry: u64, _: &Item, data: &mut dyn Read| match targets.get(&Origin { layer: number, entry }) {
                    Some(hosts) => write_all(hosts, data),
                    None => Ok(()),
                };
            stream(self.layout, layer, self.limits, &mut take)?;
        }
        Ok(())
    }
}

/// Compares the digest of the tar of `layer` with its diff ID.
///
/// # Errors
/// [`Class::Verification`] when they differ.
pub fn check_diff_id(layer: &Layer, found: Sha256) -> Result<()> {
    if found == layer.diff_id {
        return Ok(());
    }
    Err(Error::new(Class::Verification, "layer diff ID does not match the image config").why(format!(
        "layer {} has the diff ID {found}, expected {}",
        layer.descriptor.digest(),
        layer.diff_id
    )))
}

/// Target paths and modes of each entry; several for hard links.
type Targets = BTreeMap<Origin, Vec<(PathBuf, u32)>>;

fn write_all(hosts: &[(PathBuf, u32)], data: &mut dyn Read) -> Result<()> {
    let Some(((first, mode), others)) = hosts.split_first() else { return Ok(()) };
    let mut file = fs_err::File::create(first)?;
    std::io::copy(data, &mut file).map_err(|e| Error::io("cannot write a file of a layer", first, &e))?;
    fs_err::set_permissions(first, Permissions::from_mode(*mode))?;
    for (host, mode) in others {
        fs_err::copy(first, host)?;
        fs_err::set_permissions(host, Permissions::from_mode(*mode))?;
    }
    Ok(())
}

/// Opens the verified blob of `layer`, decompressed as it is read. Its length is not limited: the caller must count.
///
/// # Errors
/// [`Class::UntrustedData`] for another media type than those of tars.
pub fn decompressed(layout: &Layout, layer: &Layer) -> Result<Box<dyn Read>> {
    let blob = layout.blob(&layer.descriptor)?;
    Ok(match layer.descriptor.media_type() {
        MediaType::ImageLayer => Box::new(blob),
        MediaType::ImageLayerGzip => Box::new(flate2::read::MultiGzDecoder::new(std::io::BufReader::new(blob))),
        // zstd itself rejects windows above 128 MiB.
        MediaType::ImageLayerZstd => Box::new(zstd::Decoder::new(blob)?),
        other => {
            return Err(Error::new(Class::UntrustedData, "cannot read an image layer")
                .why(format!("unknown media type {:?}", other.as_ref()))
                .hint("layers can be tars: plain, gzip or zstd, with the media types of OCI or Docker"));
        }
    })
}

/// Streams the verified blob of `layer`, uncompressed, through [`tarstream::read`].
fn stream(layout: &Layout, layer: &Layer, limits: Limits, each: &mut Each<'_>) -> Result<Whole> {
    let path = layout.blob_path(layer.descriptor.sha256()?);
    tarstream::read(decompressed(layout, layer)?, limits, each).map_err(|e| e.file(path))
}
