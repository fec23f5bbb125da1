//! Compares two layouts, down to the files of the layers.

use std::cell::Cell;
use std::io::Read;
use std::path::Path;

use common::{Error, Result, Sha256};
use oci::tarstream::{self, Item, ItemKind};
use oci::types::Named as _;
use oci::unpack::{check_diff_id, decompressed};
use oci::{Artifact, Image, Layer, Layout, Limits};

use super::{Difference, How, bytes, files, pairs, reordered};
use formats::budget::FILE_MAX;

/// One entry of a layer's tar.
struct Entry {
    name: String,
    facts: String,
    size: u64,
    digest: Sha256,
    number: u64,
    /// Offset of the end of its header in the tar.
    header_end: u64,
}

/// Returns the first difference in content of two layouts: images by name, then artifacts, then the index.
///
/// Equal digests count as equal content: the caller has compared the blobs.
pub(super) fn meaning(first: &Path, second: &Path, limits: Limits) -> Result<Option<Difference>> {
    let (a, b) = (Layout::open(first)?, Layout::open(second)?);
    let (images_a, images_b) = (named(a.images()?, image_name), named(b.images()?, image_name));
    let found = pairs(&images_a, &images_b, |(name, _)| name, |(_, x), (_, y)| images(&a, x, &b, y, limits))?;
    if let Some((name, difference)) = found {
        return Ok(Some(difference.inside("image", name)));
    }
    let (artifacts_a, artifacts_b) = (named(a.artifacts()?, artifact_name), named(b.artifacts()?, artifact_name));
    let found = pairs(&artifacts_a, &artifacts_b, |(name, _)| name, |(_, x), (_, y)| artifacts(&a, x, &b, y))?;
    if let Some((name, difference)) = found {
        return Ok(Some(difference.inside("artifact", name)));
    }
    for file in ["index.json", "oci-layout"] {
        if let Some(difference) = files(&first.join(file), &second.join(file))? {
            return Ok(Some(difference.inside("file", file)));
        }
    }
    Ok(None)
}

fn image_name(image: &Image) -> String {
    image.names.first().cloned().unwrap_or_default()
}

/// Returns a name without digests, which differ wherever the images do.
fn artifact_name(artifact: &Artifact) -> String {
    let tag = artifact.name().and_then(|name| name.rsplit_once('.')).map(|(_, kind)| format!("tagged .{kind}"));
    tag.or_else(|| artifact.manifest.artifact_type().as_ref().map(ToString::to_string)).unwrap_or_default()
}

/// Makes names unique.
fn named<T>(list: Vec<T>, name: impl Fn(&T) -> String) -> Vec<(String, T)> {
    let mut seen = std::collections::BTreeMap::new();
    let number = |item: T| {
        let name = name(&item);
        let times: &mut u32 = seen.entry(name.clone()).or_default();
        *times += 1;
        (if *times == 1 { name } else { format!("{name}#{times}") }, item)
    };
    list.into_iter().map(number).collect()
}

fn images(a: &Layout, x: &Image, b: &Layout, y: &Image, limits: Limits) -> Result<Option<Difference>> {
    if x.digest == y.digest {
        return Ok(None);
    }
    let numbered = |image: &Image| -> Vec<(String, Layer)> {
        image.layers.iter().enumerate().map(|(at, layer)| ((at + 1).to_string(), layer.clone())).collect()
    };
    let (layers_x, layers_y) = (numbered(x), numbered(y));
    let found = pairs(&layers_x, &layers_y, |(n, _)| n, |(_, x), (_, y)| layers((a, x), (b, y), limits))?;
    if let Some((number, difference)) = found {
        return Ok(Some(difference.inside("layer", number)));
    }
    let blob = |step, x: Sha256, y: Sha256| -> Result<Option<Difference>> {
        Ok(files(&a.blob_path(x), &b.blob_path(y))?.map(|difference| difference.inside("document", step)))
    };
    match blob("configuration", x.manifest.config().sha256()?, y.manifest.config().sha256()?)? {
        Some(difference) => Ok(Some(difference)),
        None => blob("manifest", x.digest, y.digest),
    }
}

fn artifacts(a: &Layout, x: &Artifact, b: &Layout, y: &Artifact) -> Result<Option<Difference>> {
    let blobs = x.manifest.layers().iter().zip(y.manifest.layers());
    let blobs = blobs.chain([(&x.descriptor, &y.descriptor)]);
    for (x, y) in blobs {
        if x.digest() != y.digest() {
            return files(&a.blob_path(x.sha256()?), &b.blob_path(y.sha256()?));
        }
    }
    Ok(None)
}

/// Returns the first difference of two layers. Both are verified, unless they have the same digest.
///
/// Memory grows with the number of entries and the size of the one that differs, at most [`FILE_MAX`].
///
/// # Errors
/// As [`tarstream::read`]; [`common::Class::Verification`] when the diff ID does not match the image config.
pub fn layers(first: (&Layout, &Layer), second: (&Layout, &Layer), limits: Limits) -> Result<Option<Difference>> {
    if first.1.descriptor.digest() == second.1.descriptor.digest() {
        return Ok(None);
    }
    let (a, b) = (list(first, limits)?, list(second, limits)?);
    if first.1.diff_id == second.1.diff_id {
        let form = |layer: &Layer| format!("{} of {} bytes", layer.descriptor.media_type(), layer.descriptor.size());
        let how = How::Value { first: form(first.1), second: form(second.1) };
        return Ok(Some(Difference::new(how).inside("in", "the compressed form of equal content")));
    }
    let content = |x: &Entry, y: &Entry| {
        if x.digest == y.digest {
            return Ok(None);
        }
        if x.size.max(y.size) > FILE_MAX {
            return Ok(Some(Difference::new(How::Value { first: x.digest.oci(), second: y.digest.oci() })));
        }
        Ok::<_, Error>(bytes(&content(first, x.number, limits)?, &content(second, y.number, limits)?))
    };
    let facts = |x: &Entry, y: &Entry| {
        let how = || How::Value { first: x.facts.clone(), second: y.facts.clone() };
        Ok::<_, Error>((x.facts != y.facts).then(|| Difference::new(how())))
    };
    let found = match pairs(&a, &b, |entry| entry.name.as_str(), content)? {
        Some(found) => Some(found),
        None => pairs(&a, &b, |entry| entry.name.as_str(), facts)?,
    };
    if let Some((name, difference)) = found {
        return Ok(Some(difference.inside("file", name)));
    }
    if reordered(&a, &b, |entry| &entry.name) {
        return Ok(Some(Difference::new(How::Order)));
    }
    outside(first, second, &a)
}

/// Lists every entry with the digest of its content and verifies the layer.
fn list((layout, layer): (&Layout, &Layer), limits: Limits) -> Result<Vec<Entry>> {
    let path = layout.blob_path(layer.descriptor.sha256()?);
    let read = Cell::new(0);
    let stream = Counted { inner: decompressed(layout, layer)?, read: &read };
    let mut found: Vec<(String, Entry)> = Vec::new();
    let whole = tarstream::read(stream, limits, &mut |number, item: &Item, data: &mut dyn Read| {
        let header_end = read.get();
        let (digest, size) = Sha256::of_reader(data)?;
        let (name, facts) = (item.path.clone(), facts(item));
        found.push((name.clone(), Entry { name, facts, size, digest, number, header_end }));
        Ok(())
    })
    .map_err(|e| e.file(&path))?;
    check_diff_id(layer, whole.digest).map_err(|e| e.file(path))?;
    let unique = named(found, |(name, _)| name.clone());
    Ok(unique.into_iter().map(|(name, (_, entry))| Entry { name, ..entry }).collect())
}

fn facts(item: &Item) -> String {
    let kind = match &item.kind {
        ItemKind::File(_) => "file".to_owned(),
        ItemKind::Dir => "directory".to_owned(),
        ItemKind::Symlink(target) => format!("link to {target}"),
        ItemKind::Hardlink(target) => format!("hard link to {target}"),
        ItemKind::Special => "device or pipe".to_owned(),
        ItemKind::Comment => "global PAX header".to_owned(),
    };
    format!("{kind}, mode {:04o}", item.mode)
}

fn content((layout, layer): (&Layout, &Layer), wanted: u64, limits: Limits) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    tarstream::read(decompressed(layout, layer)?, limits, &mut |number, _, data: &mut dyn Read| {
        if number == wanted {
            data.take(FILE_MAX).read_to_end(&mut content)?;
        }
        Ok(())
    })?;
    Ok(content)
}

/// All files are equal, the tars are not: names the entry whose header differs.
fn outside(first: (&Layout, &Layer), second: (&Layout, &Layer), entries: &[Entry]) -> Result<Option<Difference>> {
    let (mut a, mut b) = (decompressed(first.0, first.1)?, decompressed(second.0, second.1)?);
    let Some(at) = mismatch(&mut a, &mut b)? else { return Ok(None) };
    let entry = entries.iter().find(|entry| at < entry.header_end);
    let place = entry.map_or("the end of the tar".to_owned(), |entry| format!("header of {}", entry.name));
    let last = entries.last().map_or(0, |entry| entry.header_end + entry.size);
    Ok(Some(Difference::new(How::Bytes { at, lengths: (last, last) }).inside("in", place)))
}

/// Returns the offset of the first byte in which two streams differ.
pub(super) fn mismatch(first: &mut dyn Read, second: &mut dyn Read) -> Result<Option<u64>> {
    let (mut a, mut b) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut at = 0;
    loop {
        let (read_a, read_b) = (fill(first, &mut a)?, fill(second, &mut b)?);
        let shorter = read_a.min(read_b);
        if let Some(offset) = a[..shorter].iter().zip(&b[..shorter]).position(|(a, b)| a != b) {
            return Ok(Some(at + offset as u64));
        }
        at += shorter as u64;
        if read_a != read_b {
            return Ok(Some(at));
        }
        if read_a == 0 {
            return Ok(None);
        }
    }
}

fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Counts the bytes read.
struct Counted<'a, R> {
    inner: R,
    read: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}
