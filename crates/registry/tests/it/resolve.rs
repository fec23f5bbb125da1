//! Resolves a name without fetching blobs.

use common::Sha256;
use oci::types::{self, MediaType, Named as _};

use crate::layouts;
use crate::memory::{Memory, Quirks};
use crate::setup::Setup;

fn resolve(memory: &Memory, name: &str) -> common::Result<registry::Resolved> {
    registry::resolve(&Setup::default().client(), &format!("{}/{name}", memory.address).parse().unwrap())
}

/// Puts an index of images for these architectures under the tag `v2`; each entry has `digest`.
fn index(memory: &Memory, digest: Sha256, architectures: &[&str]) {
    let entry = |architecture: &&str| {
        let size = memory.state().manifests[&("kernel".to_owned(), digest.oci())].1.len() as u64;
        let mut entry = types::descriptor(MediaType::ImageManifest, digest, size);
        entry.set_platform(Some(types::platform(architecture, "linux")));
        entry
    };
    let manifests = architectures.iter().map(entry).collect();
    let bytes = types::canonical(&types::index(manifests)).unwrap();
    memory.state().manifests.insert(("kernel".to_owned(), "v2".to_owned()), (MediaType::ImageIndex.to_string(), bytes));
}

#[test]
fn a_name_resolves_to_the_manifest_and_its_blobs() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("kernel.oci");
    let digest = layouts::write(&layout, &["ghcr.io/o/kernel:v1"], &[3000, 20], true);
    let memory = Memory::start(Quirks::default());
    Setup::default().push(&layout, &memory.address).unwrap();
    memory.state().log.clear();
    let resolved = resolve(&memory, "kernel:v1").unwrap();
    assert!(resolved.manifest.is(digest));
    let image = &oci::Layout::open(&layout).unwrap().images().unwrap()[0];
    let expected: Vec<_> = std::iter::once(image.manifest.config().digest())
        .chain(image.layers.iter().map(|layer| layer.descriptor.digest()))
        .collect();
    assert_eq!(resolved.blobs.iter().map(|blob| blob.digest()).collect::<Vec<_>>(), expected);
    assert!(memory.state().log.iter().all(|line| !line.contains("/blobs/")), "{:?}", memory.state().log);
    assert_eq!(resolve(&memory, &format!("kernel:gone@{}", digest.oci())).unwrap(), resolved);

    index(&memory, digest, &["arm64", "amd64"]);
    assert_eq!(resolve(&memory, "kernel:v2").unwrap(), resolved);
    for (architectures, why) in [(&["arm64"][..], "lists 0 images"), (&["amd64", "amd64"], "lists 2 images")] {
        index(&memory, digest, architectures);
        let error = resolve(&memory, "kernel:v2").unwrap_err();
        assert!(error.class().exit_code() == 2 && error.to_string().contains(why), "{error}");
    }
    assert!(resolve(&memory, "kernel:v3").unwrap_err().to_string().contains("does not contain v3"));
}
