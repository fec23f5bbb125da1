//! Base images from registries. `update` locks their digests; a build only uses locked digests.

use common::event::Sink;
use common::stage::{Finished, Input, Stage};
use common::store::Store;
use common::{Class, Error, Result, atomic};
use lock::{BaseImage, Blob, Lock};
use oci::types::{self, Descriptor, Manifest, MediaType, Named as _};
use oci::{Reference, Writer};
use registry::clock::System;

use crate::context::Context;
use crate::network::{Network, Pace};

/// Writes the images of a base into one layout.
pub const STAGE: Stage = Stage::ours("base-layout", env!("CARGO_PKG_NAME"));

/// Resolves `references` to lock entries; `sink` gets a warning for each retry.
pub fn resolve(network: &Network, sink: &dyn Sink, references: &[Reference]) -> Result<Vec<BaseImage>> {
    let clock = System::start();
    let client = network.client(Pace::default(), &clock, sink)?;
    let mut bases = Vec::new();
    for reference in references {
        let image = registry::resolve(&client, reference)?;
        let blob = |blob: &Descriptor| Ok(Blob { sha256: blob.sha256()?, size: blob.size() });
        let blob = image.blobs.iter().map(blob).collect::<Result<_>>()?;
        let (sha256, size) = (image.manifest.sha256()?, image.manifest.size());
        bases.push(BaseImage { reference: reference.to_string(), sha256, size, blob });
    }
    bases.sort_by(|a, b| a.reference.cmp(&b.reference));
    bases.dedup();
    Ok(bases)
}

/// Returns the lock entries for `references`.
pub fn locked(lock: &Lock, references: &[Reference]) -> Result<Vec<BaseImage>> {
    let find = |reference: &Reference| {
        let name = reference.to_string();
        lock.base.iter().find(|base| base.reference == name).cloned().ok_or_else(|| {
            let list: Vec<_> = references.iter().map(ToString::to_string).collect();
            Error::new(Class::BadInput, format!("base image {name} is not locked"))
                .file(lock::FILE)
                .why("a build only uses images whose digest is in the lock")
                .hint(format!("run `solana-talos update --base {}` and commit the lock", list.join(",")))
        })
    };
    references.iter().map(find).collect()
}

/// Pulls missing blobs of `bases` into the store; returns the number of images pulled.
pub fn fetch(context: &Context, network: &Network, bases: &[BaseImage]) -> Result<usize> {
    let mut missing = Vec::new();
    for base in bases {
        for digest in base.digests() {
            if context.store.find(&digest)?.is_none() {
                missing.push(base);
                break;
            }
        }
    }
    if context.offline && !missing.is_empty() {
        return Err(toolchain::offline(missing.iter().map(|base| base.reference.as_str())));
    }
    for base in &missing {
        pull(context, network, base)?;
    }
    Ok(missing.len())
}

fn pull(context: &Context, network: &Network, base: &BaseImage) -> Result<()> {
    let name = base.reference.split('@').next().unwrap_or_default();
    let reference: Reference = format!("{name}@{}", base.sha256.oci()).parse()?;
    let work = context.cache.join("unfinished").join(format!("base-{}.oci", &base.sha256.to_string()[..16]));
    network.pull(Pace::default(), context.sink(), &reference, &work)?;
    for digest in base.digests() {
        context.store.insert(&work.join("blobs/sha256").join(digest.to_string()), &digest)?;
    }
    atomic::remove_dir(&work)
}

/// Writes `bases`, whose blobs are in the store, into one layout: `base.oci` in the stage's directory.
pub fn layout(context: &Context, bases: &[BaseImage]) -> Result<Finished> {
    let entries: Vec<_> = bases.iter().map(|base| (&base.reference, base.sha256.to_string())).collect();
    let bases = Input::known_by(entries, bases);
    let store = Input::unkeyed("it returns blobs by their digests", &context.store);
    context.stages().run(STAGE, (bases, store), |work, (bases, store)| {
        let mut writer = Writer::create(&work.dir().join("base.oci"))?;
        for base in *bases {
            for digest in base.digests() {
                let missing = || toolchain::offline(std::iter::once(base.reference.as_str()));
                writer.file(&store.find(&digest)?.ok_or_else(missing)?, digest)?;
            }
            writer.list(entry(&store, base)?);
        }
        writer.finish()
    })
}

/// Returns the index entry of `base`.
fn entry(store: &Store, base: &BaseImage) -> Result<Descriptor> {
    let path = store.path(&base.sha256);
    let manifest: Manifest = types::read(&fs_err::read(&path)?)
        .map_err(|e| Error::new(Class::UntrustedData, "manifest of the base image is malformed").file(&path).why(e))?;
    let media_type = manifest.media_type().clone().unwrap_or(MediaType::ImageManifest);
    let mut entry = types::descriptor(media_type, base.sha256, base.size);
    entry.set_platform(Some(types::linux_amd64()));
    entry.annotate(types::REF_NAME, &base.reference);
    Ok(entry)
}
