//! Writes OCI layout directories: in a staging directory, renamed into place when complete (image-layout.md).

use std::collections::BTreeMap;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use common::{Class, Error, Result, Sha256, atomic};

use crate::filemap::FileMap;
use crate::layer::{self, Layer};
use crate::layout::Layout;
use crate::time::rfc3339;
use crate::types::{
    self, Descriptor, Digest, History, ImageConfig, Manifest, MediaType, Named as _, RootFs, RunConfig,
};

/// Description of a new image.
#[derive(Clone, Debug, Default)]
pub struct NewImage<'a> {
    /// Names in the index (`org.opencontainers.image.ref.name`); at least one.
    pub names: &'a [String],
    /// Creation time in seconds since the epoch.
    pub created: u64,
    /// How a container is started.
    pub config: RunConfig,
    /// Layers, lowest first; already stored in the layout.
    pub layers: &'a [Layer],
    /// One entry per layer; may be empty.
    pub history: Vec<History>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// A layout being written. Dropping it without [`Writer::finish`] removes the staging directory.
#[derive(Debug)]
pub struct Writer {
    stage: PathBuf,
    dest: PathBuf,
    manifests: Vec<Descriptor>,
}

/// Checks that `dest` may be replaced: it does not exist, or is a layout or an empty directory.
pub fn check_replaceable(dest: &Path) -> Result<()> {
    let empty = std::fs::read_dir(dest).is_ok_and(|mut items| items.next().is_none());
    if dest.symlink_metadata().is_err() || dest.join("oci-layout").is_file() || empty {
        return Ok(());
    }
    Err(Error::new(Class::BadInput, "cannot write an OCI layout here")
        .file(dest)
        .why("the path exists and is not an OCI layout")
        .hint("remove it, or choose another name"))
}

impl Writer {
    /// Creates a writer of the layout `dest`.
    ///
    /// # Errors
    /// [`Class::BadInput`] when `dest` exists and is not a layout: it is never replaced.
    pub fn create(dest: &Path) -> Result<Self> {
        check_replaceable(dest)?;
        let stage = atomic::sibling(dest, "part");
        atomic::empty_dir(&stage)?;
        fs_err::create_dir_all(stage.join("blobs/sha256"))?;
        Ok(Self { stage, dest: dest.to_owned(), manifests: Vec::new() })
    }

    /// Stores a layer of `files`; every entry has the modification time `mtime` (seconds since the epoch).
    pub fn layer(&mut self, files: &FileMap, mtime: u64) -> Result<Layer> {
        let part = self.stage.join("layer.part");
        let mut sink = BufWriter::with_capacity(1 << 16, fs_err::File::create(&part)?);
        let layer = layer::write(files, mtime, &mut sink)?;
        sink.flush()?;
        fs_err::rename(&part, self.blob(layer.descriptor.sha256()?))?;
        Ok(layer)
    }

    /// Copies a verified blob from another layout.
    pub fn copy(&mut self, from: &Layout, blob: &Descriptor) -> Result<()> {
        let mut source = from.blob(blob)?;
        let mut target = fs_err::File::create(self.blob(blob.sha256()?))?;
        std::io::copy(&mut source, &mut target)?;
        Ok(())
    }

    /// Stores config and manifest of `image` for linux/amd64 and lists it in the index; returns the manifest's digest.
    ///
    /// # Errors
    /// [`Class::BadInput`] for an image without a name or with the name of another image.
    pub fn image(&mut self, image: &NewImage<'_>) -> Result<Sha256> {
        let config = self.json(MediaType::ImageConfig, &config(image))?;
        let layers = image.layers.iter().map(|layer| layer.descriptor.clone()).collect();
        let mut manifest = types::manifest(config, layers)?;
        manifest.set_annotations(types::annotations(&image.annotations));
        let mut manifest = self.json(MediaType::ImageManifest, &manifest)?;
        manifest.set_platform(Some(types::linux_amd64()));
        if image.names.is_empty() {
            return Err(Error::new(Class::BadInput, "an image in a layout needs a name"));
        }
        for name in image.names {
            if self.manifests.iter().any(|m| m.annotation(types::REF_NAME) == Some(name.as_str())) {
                return Err(Error::new(Class::BadInput, format!("two images of one layout are named {name}")));
            }
            manifest.annotate(types::REF_NAME, name);
            self.manifests.push(manifest.clone());
        }
        manifest.sha256()
    }

    /// As [`Writer::image`], with one layer of `files` as old as the image.
    pub fn image_of(&mut self, files: &FileMap, image: NewImage<'_>) -> Result<Sha256> {
        let layers = [self.layer(files, image.created)?];
        self.image(&NewImage { layers: &layers, ..image })
    }

    /// Writes the layout `dest` with one image of one layer of `files`; returns the manifest's digest.
    pub fn one_image(dest: &Path, files: &FileMap, image: NewImage<'_>) -> Result<Sha256> {
        let mut writer = Self::create(dest)?;
        let digest = writer.image_of(files, image)?;
        writer.finish()?;
        Ok(digest)
    }

    /// Stores `bytes` as a blob.
    pub fn bytes(&self, media_type: impl Into<MediaType>, bytes: &[u8]) -> Result<Descriptor> {
        let digest = Sha256::of(bytes);
        fs_err::write(self.blob(digest), bytes)?;
        Ok(types::descriptor(media_type, digest, bytes.len() as u64))
    }

    /// Stores the manifest of an artifact and lists it in the index, under `name` if given. Its blobs must be in the layout already.
    pub fn artifact(&mut self, manifest: &Manifest, name: Option<&str>) -> Result<Descriptor> {
        let written = self.json(MediaType::ImageManifest, manifest)?;
        let mut entry = written.clone();
        entry.set_artifact_type(manifest.artifact_type().clone());
        entry.set_annotations(types::annotations(name.map(|name| (types::REF_NAME, name))));
        self.manifests.push(entry);
        Ok(written)
    }

    /// Copies the blob at `path`; the caller has verified that its digest is `digest`.
    pub fn file(&self, path: &Path, digest: Sha256) -> Result<()> {
        Ok(fs_err::copy(path, self.blob(digest)).map(drop)?)
    }

    /// Adds an index entry for a manifest that is in the layout already.
    pub fn list(&mut self, entry: Descriptor) {
        self.manifests.push(entry);
    }

    /// Writes the index and renames the layout into place; on an error the destination is unchanged.
    pub fn finish(mut self) -> Result<()> {
        let index = types::index(std::mem::take(&mut self.manifests));
        fs_err::write(self.stage.join("index.json"), types::canonical(&index)?)?;
        fs_err::write(self.stage.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        atomic::replace_dir(&self.stage, &self.dest)
    }

    fn json(&self, media_type: MediaType, value: &impl serde::Serialize) -> Result<Descriptor> {
        self.bytes(media_type, &types::canonical(value)?)
    }

    fn blob(&self, digest: Sha256) -> PathBuf {
        self.stage.join("blobs/sha256").join(digest.to_string())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Already gone after `finish`; `drop` cannot report errors.
        let _ = std::fs::remove_dir_all(&self.stage);
    }
}

fn config(image: &NewImage<'_>) -> ImageConfig {
    let diff_ids = image.layers.iter().map(|layer| Digest(layer.diff_id)).collect();
    ImageConfig {
        created: Some(rfc3339(image.created)),
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        config: image.config.clone(),
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids },
        history: image.history.clone(),
    }
}
