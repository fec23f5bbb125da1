//! Artifacts that third parties attach to an image, and the limits.

use std::sync::Arc;

use common::Sha256;
use oci::types::{self, MediaType};

use crate::http::{Answer, serve};
use crate::layouts;
use crate::memory::{Memory, Quirks};
use crate::proxy::{Fault, Proxy, pass};
use crate::pull::pushed;
use crate::setup::{Setup, assert_same};

/// Puts a manifest into the registry and returns its digest.
fn put(memory: &Memory, media_type: &str, text: &str) -> Sha256 {
    let entry = (media_type.to_owned(), text.as_bytes().to_vec());
    let key = ("kernel".to_owned(), Sha256::of(text).oci());
    memory.state().manifests.insert(key, entry);
    Sha256::of(text)
}

#[test]
fn malformed_artifacts_are_skipped_with_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, layout, digest) = pushed(dir.path(), Quirks::default());
    let tag = |name: String| ("kernel".to_owned(), name);
    let image = String::from_utf8(std::fs::read(layouts::blob(&layout, digest)).unwrap()).unwrap();
    let types = [MediaType::ImageManifest, MediaType::ImageIndex];
    let [manifest, index] = [types[0].as_ref(), types[1].as_ref()];
    let subject =
        format!(r#""subject":{{"mediaType":"{manifest}","digest":"{}","size":{}}}"#, digest.oci(), image.len());
    let layer_of_other_size = image.replacen("\"size\":", "\"size\":1", 9).replacen('{', &format!("{{{subject},"), 1);
    let old = "application/vnd.oci.artifact.manifest.v1+json";
    let theirs = [
        (
            index,
            put(&memory, index, &format!(r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":[],{subject}}}"#)),
        ),
        (old, put(&memory, old, &format!(r#"{{"mediaType":"{old}","blobs":[],{subject}}}"#))),
        (manifest, Sha256::of("gone")),
        (manifest, put(&memory, manifest, "[]")),
        // An image without a subject, and one with another size of a layer.
        (manifest, put(&memory, manifest, &format!("{image} "))),
        (manifest, put(&memory, manifest, &layer_of_other_size)),
    ];
    let fallback = tag(format!("sha256-{digest}"));
    let listed = memory.state().manifests[&fallback].1.clone();
    let listed: types::Index = types::read(&listed).unwrap();
    let ours = listed.manifests().len();
    let theirs_listed = theirs.iter().map(|(media_type, digest)| types::descriptor(*media_type, *digest, 9));
    let listed = types::index(listed.manifests().iter().cloned().chain(theirs_listed).collect());
    let listed = (index.to_owned(), types::canonical(&listed).unwrap());
    memory.state().manifests.insert(fallback, listed);
    let att = (index.to_owned(), br#"{"schemaVersion":2,"manifests":[]}"#.to_vec());
    memory.state().manifests.insert(tag(format!("sha256-{digest}.att")), att);

    let (setup, out) = (Setup::default(), dir.path().join("out.oci"));
    let pulled = setup.pull(&format!("{}/kernel:v1", memory.address), &out).unwrap();
    assert_eq!((pulled.digest, pulled.artifacts), (digest, ours + 1));
    assert_same(&layout, &out, digest);
    let again = Setup::default();
    again.push(&layout, &memory.address).unwrap();
    for events in [setup.events.text(), again.events.text()] {
        let warnings: Vec<&str> = events.lines().filter(|line| line.contains("\"warning\"")).collect();
        assert_eq!(warnings.len(), theirs.len() + 1, "{warnings:#?}");
        for (_, digest) in &theirs {
            assert!(warnings.iter().any(|line| line.contains(&digest.oci())), "{digest}: {warnings:#?}");
        }
    }
}

/// Passes requests on, but answers those for referrers, by the API or the fallback tag, with `answer`.
fn instead(memory: &Memory, answer: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static) -> String {
    let upstream = Proxy::start(&memory.address, |_, _| Fault::None).address;
    serve(Arc::new(move |head, body, stream| match answer(head.path()) {
        Some(answer) => answer.send(stream, head, usize::MAX),
        None => pass(&upstream, head, body, stream, Fault::None),
    }))
}

fn warnings(setup: &Setup<'_>) -> Vec<String> {
    setup.events.text().lines().filter(|line| line.contains("\"warning\"")).map(str::to_owned).collect()
}

/// Signatures may be missing then, but the image is there.
#[test]
fn whatever_the_list_of_referrers_is_the_image_is_pulled() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, _, digest) = pushed(dir.path(), Quirks::default());
    let is_lookup = |path: &str| path.contains("/referrers/") || is_fallback(path);
    let typed = |kind: &str, body: &str| Answer::new(200).header("Content-Type", kind).body(body);
    let answers = [
        ("401", Answer::new(401), true),
        ("403", Answer::new(403), true),
        ("404", Answer::new(404), false),
        ("400", Answer::new(400), true),
        ("HTML", typed("text/html", "<html>sign in</html>"), true),
        ("no index", typed(MediaType::ImageIndex.as_ref(), "[]"), true),
    ];
    for (name, answer, warned) in answers {
        let address = instead(&memory, move |path| is_lookup(path).then(|| answer.clone()));
        let (setup, out) = (Setup::default(), dir.path().join(name));
        let pulled = setup.pull(&format!("{address}/kernel:v1"), &out).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(pulled.digest, digest, "{name}");
        oci::Layout::open(&out).unwrap().images().unwrap();
        let warnings = warnings(&setup);
        assert_eq!(warnings.len(), usize::from(warned), "{name}: {warnings:?}");
        assert!(
            warnings.iter().all(|line| line.contains("/kernel: skipping the list of referrers")),
            "{name}: {warnings:?}"
        );
    }
}

fn is_fallback(path: &str) -> bool {
    path.rsplit_once("/manifests/sha256-").is_some_and(|(_, rest)| !rest.contains('.'))
}

/// GitLab's registry takes the fallback tag for the digest of the image (oras-project/oras-go#1396).
#[test]
fn the_fallback_tag_may_be_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, layout, digest) = pushed(dir.path(), Quirks::default());
    let key = |reference: String| ("kernel".to_owned(), reference);
    let image = memory.state().manifests[&key(digest.oci())].clone();
    memory.state().manifests.insert(key(format!("sha256-{digest}")), image);
    let setup = Setup::default();
    let pulled = setup.pull(&format!("{}/kernel:v1", memory.address), &dir.path().join("out.oci")).unwrap();
    assert_eq!(pulled.digest, digest);
    let warnings = warnings(&setup);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(&format!("kernel:sha256-{digest} is not a list of referrers")), "{warnings:?}");
    // A push would drop what is there, so it fails, and says where.
    let error = Setup::default().push(&layout, &memory.address).unwrap_err().to_string();
    for word in [&memory.address, &format!("sha256-{digest}"), "image.manifest.v1", "delete that tag"] {
        assert!(error.contains(word), "{word}: {error}");
    }
}

#[test]
fn too_many_referrers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, _, digest) = pushed(dir.path(), Quirks::default());
    let entry = |n: u32| types::descriptor(MediaType::ImageManifest, Sha256::of(n.to_string()), 9);
    let manifests = (0..1001).map(entry).collect();
    let entry = (MediaType::ImageIndex.to_string(), types::canonical(&types::index(manifests)).unwrap());
    memory.state().manifests.insert(("kernel".to_owned(), format!("sha256-{digest}")), entry);
    let before = memory.state().log.len();
    let error = Setup::default().pull(&format!("{}/kernel:v1", memory.address), &dir.path().join("o")).unwrap_err();
    assert!(error.to_string().contains("more than 1000 entries"), "{error}");
    assert!(memory.state().log.len() < before + 10);
}

#[test]
fn too_many_blobs_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, ..) = pushed(dir.path(), Quirks::default());
    let blob = |n: u32| format!(r#"{{"mediaType":"a/b","digest":"{}","size":1}}"#, Sha256::of(n.to_string()).oci());
    let layers: Vec<String> = (0..10_001).map(blob).collect();
    let image = format!(r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#, blob(99_999), layers.join(","));
    let digest = put(&memory, MediaType::ImageManifest.as_ref(), &image);
    let reference = format!("{}/kernel@{}", memory.address, digest.oci());
    let error = Setup::default().pull(&reference, &dir.path().join("o")).unwrap_err();
    assert!(error.to_string().contains("too many blobs"), "{error}");
}
