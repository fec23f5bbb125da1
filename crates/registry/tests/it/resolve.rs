//! Resolves a name without fetching layers.

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
    let fetched: Vec<_> = memory.state().log.iter().filter(|line| line.contains("/blobs/")).cloned().collect();
    assert_eq!(fetched, [format!("GET /v2/kernel/blobs/{}", expected[0])], "only the config, for the platform");
    assert_eq!(resolve(&memory, &format!("kernel:gone@{}", digest.oci())).unwrap(), resolved);

    index(&memory, digest, &["arm64", "amd64"]);
    assert_eq!(resolve(&memory, "kernel:v2").unwrap(), resolved);
    index(&memory, digest, &["arm64"]);
    rejected(&memory, "kernel:v2", "it has 0 images for linux/amd64");
    assert!(resolve(&memory, "kernel:v3").unwrap_err().to_string().contains("does not contain v3"));
}

fn rejected(memory: &Memory, name: &str, why: &str) {
    let error = resolve(memory, name).unwrap_err();
    assert!(error.class().exit_code() == 2 && error.to_string().contains(why), "{why}: {error}");
}

/// Puts a document under a tag and returns its descriptor.
fn put(memory: &Memory, media_type: MediaType, text: &str, tag: &str) -> types::Descriptor {
    for reference in [tag.to_owned(), Sha256::of(text).oci()] {
        let entry = (media_type.to_string(), text.as_bytes().to_vec());
        memory.state().manifests.insert(("kernel".to_owned(), reference), entry);
    }
    types::descriptor(media_type, Sha256::of(text), text.len() as u64)
}

/// An image for linux and the architecture `of`.
fn image(memory: &Memory, of: &str) -> types::Descriptor {
    let config = format!(r#"{{"architecture":"{of}","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}}}}"#);
    let digest = Sha256::of(&config).oci();
    memory.state().blobs.insert(("kernel".to_owned(), digest.clone()), config.clone().into_bytes());
    let config = format!(r#"{{"mediaType":"{}","digest":"{digest}","size":{}}}"#, MediaType::ImageConfig, config.len());
    put(memory, MediaType::ImageManifest, &format!(r#"{{"schemaVersion":2,"config":{config},"layers":null}}"#), of)
}

fn index_of(memory: &Memory, entries: &[types::Descriptor], tag: &str) -> types::Descriptor {
    let text = String::from_utf8(types::canonical(&types::index(entries.to_vec())).unwrap()).unwrap();
    put(memory, MediaType::ImageIndex, &text, tag)
}

#[test]
fn an_index_in_an_index_is_searched() {
    let memory = Memory::start(Quirks::default());
    let (amd64, arm64) = (image(&memory, "amd64"), image(&memory, "arm64"));
    assert!(resolve(&memory, "kernel:amd64").unwrap().manifest.is(amd64.sha256().unwrap()));
    // Without platforms the configs decide.
    let inner = index_of(&memory, &[arm64.clone(), amd64.clone()], "inner");
    index_of(&memory, &[inner.clone(), inner.clone(), amd64.clone()], "nested");
    assert!(
        resolve(&memory, "kernel:nested").unwrap().manifest.is(amd64.sha256().unwrap()),
        "one image, listed three times"
    );
    let mut deep = inner;
    for level in 0..3 {
        deep = index_of(&memory, &[deep], &format!("deep{level}"));
    }
    resolve(&memory, "kernel:deep1").unwrap();
    rejected(&memory, "kernel:deep2", "nested too deeply");
    let text = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#,
        serde_json::to_string(&amd64).unwrap().replace("manifest", "config")
    );
    let mut other = put(&memory, MediaType::ImageManifest, &text, "other");
    other.set_platform(Some(types::linux_amd64()));
    index_of(&memory, &[amd64, other], "two");
    rejected(&memory, "kernel:two", "it has 2 images for linux/amd64");
}

#[test]
fn what_no_build_can_use_is_refused() {
    let memory = Memory::start(Quirks::default());
    image(&memory, "arm64");
    rejected(&memory, "kernel:arm64", "it is an image for linux/arm64, not for linux/amd64");
    let config = format!(
        r#"{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{}","size":2}}"#,
        Sha256::of("{}").oci()
    );
    let artifact = format!(r#"{{"schemaVersion":2,"artifactType":"text/x-note","config":{config},"layers":[]}}"#);
    put(&memory, MediaType::ImageManifest, &artifact, "artifact");
    rejected(&memory, "kernel:artifact", "it is an artifact of type \"text/x-note\", not an image");
}
