//! Targets for layouts, layers and archives.

use std::io::Read;
use std::path::Path;

use common::Sha256;
use formats::squashfs::{Image, Kind};
use inspect::contents::Contents;
use oci::tarstream::{self, Item, Limits};
use oci::types::{self, MediaType};
use oci::view::View;
use oci::{Layer, Layout, Unpacked};

/// Small, so that inputs above the limits are found quickly.
const LIMITS: Limits = Limits { entries: 500, file: 1 << 20, layer: 8 << 20, image: 16 << 20 };

/// The tar of a layer.
pub fn tar(data: &[u8]) {
    let mut view = View::default();
    let _ = tarstream::read(data, LIMITS, &mut |entry, item: &Item, data: &mut dyn Read| {
        let read = std::io::copy(data, &mut std::io::sink()).unwrap_or(0);
        assert!(read <= LIMITS.file, "more bytes than the limit");
        assert!(!item.path.split('/').any(|part| part == ".."), "{}", item.path);
        view.add(0, entry, item)
    });
}

/// A compressed layer, read for a report and unpacked into a directory, outside of which nothing may be written. The first byte selects the
/// compression.
pub fn layer(data: &[u8]) {
    let Some((kind, blob)) = data.split_first() else { return };
    let media_types = [MediaType::ImageLayer, MediaType::ImageLayerGzip, MediaType::ImageLayerZstd];
    let media_type = media_types[usize::from(kind % 3)].clone();
    let Ok(dir) = tempfile::tempdir() else { return };
    let _ = unpack(dir.path(), media_type, blob);
    for entry in std::fs::read_dir(dir.path()).into_iter().flatten().flatten() {
        assert!(
            ["a.oci", "jail"].iter().any(|name| entry.file_name() == *name),
            "{:?} was written outside",
            entry.path()
        );
    }
}

fn unpack(dir: &Path, media_type: MediaType, blob: &[u8]) -> common::Result<()> {
    let root = dir.join("a.oci");
    let blobs = root.join("blobs/sha256");
    fs_err::create_dir_all(&blobs)?;
    let put = |bytes: &[u8]| fs_err::write(blobs.join(Sha256::of(bytes).to_string()), bytes);
    put(blob)?;
    fs_err::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let layout = Layout::open(&root)?;
    let descriptor = types::descriptor(media_type, Sha256::of(blob), blob.len() as u64);
    let mut layer = Layer { descriptor, diff_id: Sha256::of(blob) };
    let mut tar = oci::unpack::decompressed(&layout, &layer)?.take(LIMITS.layer);
    layer.diff_id = Sha256::of_reader(&mut tar)?.0;
    let diff_ids = [layer.diff_id.oci()];
    let rootfs = serde_json::json!({"type": "layers", "diff_ids": diff_ids});
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).to_string();
    put(config.as_bytes())?;
    let config = types::descriptor(MediaType::ImageConfig, Sha256::of(&config), config.len() as u64);
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [layer.descriptor]}).to_string();
    put(manifest.as_bytes())?;
    let manifest = types::descriptor(MediaType::ImageManifest, Sha256::of(&manifest), manifest.len() as u64);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]}).to_string();
    fs_err::write(root.join("index.json"), index)?;
    for image in layout.images()? {
        let unpacked = Unpacked::open(&layout, &image, LIMITS)?;
        fs_err::create_dir_all(dir.join("jail"))?;
        let _ = unpacked.apply(&dir.join("jail/root"));
        let _ = Contents::read(&layout, &image, LIMITS);
    }
    Ok(())
}

/// The documents of a layout, separated by the byte 0xff: index, then blobs. `@n` is replaced by the digest of blob n, `#n` by its length.
pub fn layout(data: &[u8]) {
    let mut documents = data.split(|byte| *byte == 0xff);
    let Ok(mut index) = String::from_utf8(documents.next().unwrap_or_default().to_vec()) else { return };
    let Ok(dir) = tempfile::tempdir() else { return };
    let blobs = dir.path().join("blobs/sha256");
    if fs_err::create_dir_all(&blobs).is_err() {
        return;
    }
    let mut known: Vec<(String, String)> = Vec::new();
    for (at, blob) in documents.take(8).enumerate() {
        let mut blob = String::from_utf8_lossy(blob).into_owned();
        for (mark, value) in &known {
            blob = blob.replace(mark, value);
        }
        let digest = Sha256::of(&blob);
        known.push((format!("@{at}"), digest.oci()));
        known.push((format!("#{at}"), blob.len().to_string()));
        let _ = fs_err::write(blobs.join(digest.to_string()), blob);
    }
    for (mark, value) in &known {
        index = index.replace(mark, value);
    }
    let _ = fs_err::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
    let _ = fs_err::write(dir.path().join("index.json"), index);
    if let Ok(layout) = Layout::open(dir.path()) {
        let _ = (layout.images(), layout.artifacts());
        let _ = inspect::report::report(&layout, LIMITS);
    }
}

/// One cpio archive.
pub fn cpio(data: &[u8]) {
    if let Ok((members, read)) = formats::cpio::read(data) {
        assert!(read <= data.len() && members.iter().all(|member| member.content.len() <= data.len()));
    }
}

/// Concatenated archives and compressed streams.
pub fn initramfs(data: &[u8]) {
    let _ = formats::initramfs::list(data);
    let _ = imager::initramfs::inspect(data);
    let _ = inspect::parts::Parts::of(data);
}

/// A squashfs image and its small files.
pub fn squashfs(data: &[u8]) {
    let Ok(image) = Image::open(data) else { return };
    for entry in image.entries().iter().take(100) {
        if let Kind::File(file) = &entry.kind {
            let read = image.content(file, 1 << 20);
            assert!(read.is_err() || read.is_ok_and(|bytes| bytes.len() as u64 == file.size), "{}", entry.path);
        }
    }
}
