//! Opens the file system of a foreign image: list it, take files out, or write it into a directory.
//!
//! Layers are streamed, once to learn what is there and once more for the bytes that are wanted; memory does not grow with their size.
//! Owners and extended attributes are not taken over.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use common::{Class, Error, Result, Sha256, atomic};

use crate::layer::Layer;
use crate::layout::{Image, Layout};
use crate::tarentry::{Item, refused};
use crate::tarstream::{self, Each, Limits, Whole};
use crate::types::{MediaType, Named as _};
use crate::view::{Kind, Node, Origin, View};

/// Takes the paths, the length and the bytes of a file.
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
    /// Reads every layer of `image` through, and compares it with its digest and its diff ID.
    ///
    /// # Errors
    /// [`Class::Verification`] when a digest differs; [`Class::BadInput`] for a layer that is unsound, hostile or above `limits`.
    pub fn open(layout: &'a Layout, image: &'a Image, limits: Limits) -> Result<Self> {
        let mut view = View::default();
        let mut size = 0;
        for (number, layer) in image.layers.iter().enumerate() {
            let left = Limits { image: limits.image.saturating_sub(size), ..limits };
            let mut add = |entry: u64, item: &Item, _: &mut dyn Read| view.add(number, entry, item);
            let whole = stream(layout, layer, left, &mut add)?;
            if whole.digest != layer.diff_id {
                return Err(not_its_diff_id(layer, whole.digest));
            }
            size += whole.size;
        }
        Ok(Self { layout, image, limits, view, size })
    }

    /// What the image holds.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Bytes of all layers, uncompressed.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes the files `wanted` (path in the image, path on the host) out; links are followed inside the image.
    ///
    /// # Errors
    /// [`Class::BadInput`] when one is not there or no regular file; otherwise what the file system reports.
    pub fn extract(&self, wanted: &[(&str, PathBuf)]) -> Result<()> {
        let mut targets = Targets::new();
        for (path, host) in wanted {
            let Some(Node { kind: Kind::File { origin, .. }, .. }) = self.view.get(path) else {
                return Err(Error::new(Class::BadInput, format!("the image holds no file {path}")));
            };
            targets.entry(*origin).or_default().push((host.clone(), 0o644));
        }
        self.copy(&targets)
    }

    /// Calls `each` with the paths, the length and the bytes of every regular file; a file of several names comes once, with all of them.
    ///
    /// # Errors
    /// What `each` reports.
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

    /// Writes the whole file system into the directory `dest`, which it replaces; it is written beside and renamed.
    ///
    /// Links are written as they are and may point out of `dest`: whoever walks it must not follow them. Set-id bits are dropped.
    ///
    /// # Errors
    /// [`Class::BadInput`] when the image holds a device or named pipe, or more than the limit once each link is a copy; otherwise what
    /// the file system reports.
    pub fn apply(&self, dest: &Path) -> Result<()> {
        self.check_written()?;
        let stage = atomic::beside(dest, "part");
        atomic::empty_dir(&stage)?;
        let result = self.fill(&stage).and_then(|()| atomic::replace_dir(&stage, dest));
        if result.is_err() {
            atomic::remove_dir(&stage)?;
        }
        result
    }

    /// Few bytes may have many names, and each is written for itself.
    fn check_written(&self) -> Result<()> {
        let sizes = self.view.iter().map(|(_, node)| if let Kind::File { size, .. } = node.kind { size } else { 0 });
        if sizes.fold(0, u64::saturating_add) > self.limits.image {
            let why = format!("its files and links come to more than {} bytes when written out", self.limits.image);
            return Err(refused(why));
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
                Kind::Special => return Err(refused(format!("{path} is a device or named pipe"))),
            }
        }
        self.copy(&targets)?;
        // Links last: nothing is ever written through one. Modes of directories after that, deepest first.
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

    /// Streams the layers that hold a target and writes each file to where it is wanted.
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

fn not_its_diff_id(layer: &Layer, found: Sha256) -> Error {
    Error::new(Class::Verification, "layer diff ID does not match the image config").why(format!(
        "layer {} has the diff ID {found}, {} is expected",
        layer.descriptor.digest(),
        layer.diff_id
    ))
}

/// Where the bytes of one entry go, with which mode; more than one place where files are linked.
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

/// The verified blob of `layer`, decompressed as it is read. It may come to any length: whoever reads it counts.
///
/// # Errors
/// As [`Layout::blob`].
pub fn decompressed(layout: &Layout, layer: &Layer) -> Result<Box<dyn Read>> {
    let blob = layout.blob(&layer.descriptor)?;
    Ok(match layer.descriptor.media_type() {
        MediaType::ImageLayerGzip => Box::new(flate2::read::MultiGzDecoder::new(std::io::BufReader::new(blob))),
        // zstd refuses windows above 128 MiB by itself.
        MediaType::ImageLayerZstd => Box::new(zstd::Decoder::new(blob)?),
        _ => Box::new(blob),
    })
}

/// Streams the verified blob of `layer`, uncompressed, through [`tarstream::read`].
fn stream(layout: &Layout, layer: &Layer, limits: Limits, each: &mut Each<'_>) -> Result<Whole> {
    let path = layout.blob_path(layer.descriptor.sha256()?);
    tarstream::read(decompressed(layout, layer)?, limits, each).map_err(|e| e.file(path))
}
