//! Order, skipping, mounting, and quirks of registries.

use common::Sha256;
use registry::Existing;

use crate::layouts;
use crate::memory::{Memory, Quirks};
use crate::setup::{Setup, assert_same, waited};

const NAMES: [&str; 2] = ["ghcr.io/our-org/kernel:v1", "ghcr.io/our-org/kernel:latest"];

/// A layout with one image of these layers, and a registry.
struct Scene {
    dir: tempfile::TempDir,
    layout: std::path::PathBuf,
    digest: Sha256,
    memory: Memory,
}

impl Scene {
    fn new(sizes: &[usize], artifacts: bool, quirks: Quirks) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = dir.path().join("kernel.oci");
        let digest = layouts::write(&layout, &NAMES, sizes, artifacts);
        Self { dir, layout, digest, memory: Memory::start(quirks) }
    }

    fn push(&self, setup: &Setup<'_>) -> common::Result<Vec<registry::Tagged>> {
        setup.push(&self.layout, &self.memory.address)
    }
}

fn position(log: &[String], what: impl Fn(&str) -> bool) -> usize {
    log.iter().position(|line| what(line)).unwrap_or_else(|| panic!("{log:#?}"))
}

#[test]
fn pushes_in_order_and_pulls_the_same() {
    for referrers in [false, true] {
        let quirks = Quirks { referrers, ..Quirks::default() };
        let Scene { dir, layout, digest, memory } = Scene::new(&[100_000, 40_000], true, quirks);
        let setup = Setup::default();
        let tagged = setup.push(&layout, &format!("{}/acme", memory.address)).unwrap();
        let names: Vec<_> = tagged.iter().map(|t| (t.name.as_str(), t.digest, t.before)).collect();
        let name = |tag: &str| format!("{}/acme/kernel:{tag}", memory.address);
        assert_eq!(names, [(name("v1").as_str(), digest, None), (name("latest").as_str(), digest, None)]);
        assert_eq!(memory.tag("acme/kernel", "v1"), Some(digest));

        let log = memory.state().log.clone();
        let put = |what: &str| position(&log, |line| line == format!("PUT /v2/acme/kernel/manifests/{what}"));
        let artifacts = oci::Layout::open(&layout).unwrap().artifacts().unwrap();
        let by = |text: &str| {
            let of = |a: &&oci::Artifact| format!("{:?}", a.manifest).contains(text);
            put(artifacts.iter().find(of).unwrap().descriptor.digest().as_ref())
        };
        let blobs_done = log.iter().rposition(|line| line.starts_with("PATCH")).unwrap();
        let order = [
            blobs_done,
            put(&digest.oci()),
            by("spdx"),
            by("slsa.dev"),
            by("cosign/sign/v1"),
            put(&format!("sha256-{digest}.sig")),
        ];
        assert!(order.is_sorted(), "{order:?} {log:#?}");
        // Read back after the last artifact; the first tag after the last blob was read back.
        let read = log.iter().rposition(|line| line.starts_with("GET /v2/acme/kernel/blobs/sha256:")).unwrap();
        assert!(read > order[5] && put("v1") > read && put("latest") > put("v1"), "{log:#?}");
        let listed = log.iter().any(|line| *line == format!("PUT /v2/acme/kernel/manifests/sha256-{digest}"));
        assert_eq!(listed, !referrers);

        let out = dir.path().join("out.oci");
        let pulled = setup.pull(&name("v1"), &out).unwrap();
        assert_eq!((pulled.digest, pulled.artifacts), (digest, 4));
        assert_same(&layout, &out, digest);
        assert_eq!(waited(&setup), 0);
    }
}

#[test]
fn a_second_push_sends_and_moves_nothing() {
    let scene = Scene::new(&[50_000], true, Quirks::default());
    let setup = Setup { parallel: 4, ..Setup::default() };
    scene.push(&setup).unwrap();
    let received = scene.memory.state().received;
    let before = scene.memory.state().log.len();
    let tagged = scene.push(&setup).unwrap();
    assert!(tagged.iter().all(|tag| !tag.moved()));
    assert_eq!(scene.memory.state().received, received);
    let log = scene.memory.state().log[before..].to_vec();
    assert!(!log.iter().any(|line| line.starts_with("POST") || line.starts_with("PATCH")), "{log:#?}");
    assert!(setup.events.text().contains("0 bytes sent, 0 mounted from other repositories"), "{}", setup.events.text());
}

/// Pushes another image under the same names, once as `existing` says.
fn another(scene: &Scene, existing: Existing) -> (Sha256, common::Result<Vec<registry::Tagged>>) {
    let layout = scene.dir.path().join("another.oci");
    let digest = layouts::write(&layout, &NAMES, &[2000], true);
    let setup = Setup { existing, ..Setup::default() };
    (digest, setup.push(&layout, &scene.memory.address))
}

#[test]
fn a_tag_of_another_image_is_kept_unless_it_is_to_be_replaced() {
    let scene = Scene::new(&[1000], true, Quirks::default());
    scene.push(&Setup::default()).unwrap();
    let received = scene.memory.state().received;
    let (digest, pushed) = another(&scene, Existing::Keep);
    let error = pushed.unwrap_err();
    assert_eq!(error.class().exit_code(), 2);
    let text = error.to_string();
    for word in ["kernel:v1\n", "kernel:latest\n", &scene.digest.oci(), &digest.oci(), "--replace-tag", "--tag TAG"] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    assert_eq!(scene.memory.state().received, received, "something was uploaded");
    assert_eq!(scene.memory.tag("kernel", "v1"), Some(scene.digest));

    let (digest, pushed) = another(&scene, Existing::Replace);
    let tagged = pushed.unwrap();
    assert!(tagged.iter().all(|tag| tag.before == Some(scene.digest) && tag.digest == digest && tag.moved()));
    assert_eq!((scene.memory.tag("kernel", "v1"), scene.memory.tag("kernel", "latest")), (Some(digest), Some(digest)));
}

/// One of the tags is new: neither is set.
#[test]
fn one_tag_of_another_image_stops_all() {
    let scene = Scene::new(&[1000], false, Quirks::default());
    let older = scene.dir.path().join("older.oci");
    let digest = layouts::write(&older, &NAMES[1..], &[2000], false);
    Setup::default().push(&older, &scene.memory.address).unwrap();
    let error = scene.push(&Setup::default()).unwrap_err().to_string();
    assert!(error.contains("the tag names another image") && !error.contains("kernel:v1"), "{error}");
    assert_eq!((scene.memory.tag("kernel", "v1"), scene.memory.tag("kernel", "latest")), (None, Some(digest)));
}

/// A tag that another push sets after the first look-up is kept too.
#[test]
fn a_tag_that_appears_during_the_push_is_kept() {
    let scene = Scene::new(&[1000], true, Quirks { rival: Some("latest"), ..Quirks::default() });
    let error = scene.push(&Setup::default()).unwrap_err().to_string();
    assert!(error.contains("kernel:latest") && error.contains(&scene.digest.oci()), "{error}");
    assert_eq!(scene.memory.tag("kernel", "v1"), None);
    assert!(scene.memory.tag("kernel", "latest").is_some_and(|digest| digest != scene.digest));
}

/// Some registries do not let anybody read from a repository that does not exist yet.
#[test]
fn a_repository_that_cannot_be_read_before_it_exists_is_pushed_to() {
    let scene = Scene::new(&[1000], true, Quirks { denies_unknown: true, ..Quirks::default() });
    scene.push(&Setup::default()).unwrap();
    assert_eq!(scene.memory.tag("kernel", "v1"), Some(scene.digest));
}

#[test]
fn blobs_are_mounted_from_other_repositories() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("kernel.oci");
    let digest = layouts::write(&layout, &["ghcr.io/o/a:1", "ghcr.io/o/b:1"], &[50_000], false);
    let memory = Memory::start(Quirks::default());
    let setup = Setup::default();
    setup.push(&layout, &memory.address).unwrap();
    assert_eq!((memory.tag("a", "1"), memory.tag("b", "1")), (Some(digest), Some(digest)));
    assert!(memory.state().received < 60_000, "{}", memory.state().received);
}

#[test]
fn registry_quirks_are_handled() {
    let odd = [
        ("GHCR", Quirks { longest_patch: Some(8 << 10), ..Quirks::default() }),
        ("ECR", Quirks { one_patch: true, ..Quirks::default() }),
        ("large chunks", Quirks { least_chunk: Some(64 << 10), ..Quirks::default() }),
    ];
    for (name, quirks) in odd {
        let scene = Scene::new(&[100_000], false, quirks.clone());
        scene.push(&Setup::default()).unwrap();
        assert_eq!(scene.memory.tag("kernel", "v1"), Some(scene.digest), "{name}");
        let log = scene.memory.state().log.clone();
        if quirks.least_chunk.is_some() {
            assert_eq!(log.iter().filter(|line| line.starts_with("PATCH")).count(), 2, "{name}");
        } else {
            assert!(log.iter().any(|line| line.starts_with("PUT") && line.contains("uploads")), "{name}");
        }
    }
}

#[test]
fn a_request_that_is_too_large_is_reported_and_not_enlarged() {
    let scene = Scene::new(&[100_000], false, Quirks { largest_request: Some(8 << 10), ..Quirks::default() });
    let setup = Setup::default();
    let error = scene.push(&setup).unwrap_err().to_string();
    assert!(error.contains("413") && error.contains("smaller --chunk"), "{error}");
    let log = scene.memory.state().log.clone();
    assert!(!log.iter().any(|line| line.starts_with("PUT")), "{log:#?}");
    assert_eq!((log.iter().filter(|line| line.starts_with("PATCH")).count(), waited(&setup)), (1, 0));
}

#[test]
fn two_images_for_one_tag_are_refused_before_the_first_request() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.oci"), dir.path().join("two.oci"));
    layouts::write(&one, &NAMES, &[1000], false);
    layouts::write(&two, &NAMES[1..], &[2000], false);
    let memory = Memory::start(Quirks::default());
    let setup = Setup::default();
    let push = |layouts: [&std::path::Path; 2]| {
        let plans = layouts.map(|layout| registry::plans(layout, Some(&memory.address)).unwrap()).concat();
        registry::push(&setup.client(), &setup.events, &plans, &registry::digests_only, Existing::Keep)
    };
    let error = push([&one, &two]).unwrap_err();
    assert_eq!(error.class().exit_code(), 2);
    let error = error.to_string();
    assert!(error.contains("kernel:latest") && error.contains("one.oci") && error.contains("two.oci"), "{error}");
    assert!(memory.state().log.is_empty());
    push([&one, &one]).unwrap();
}

#[test]
fn a_full_registry_is_reported_and_no_tag_changes() {
    let scene = Scene::new(&[100_000], false, Quirks { room: Some(50_000), ..Quirks::default() });
    let setup = Setup::default();
    let error = scene.push(&setup).unwrap_err();
    assert!(error.to_string().contains("the registry is full") && error.to_string().contains("507"), "{error}");
    assert_eq!((error.class().exit_code(), waited(&setup)), (6, 0));
    assert_eq!(scene.memory.tag("kernel", "v1"), None);
}

#[test]
fn an_image_that_fails_verification_gets_no_tag() {
    let refusing = Setup { verify: Some("signed by another key"), ..Setup::default() };
    let Scene { dir: _dir, layout, digest, memory } = Scene::new(&[100_000], true, Quirks::default());
    let error = refusing.push(&layout, &memory.address).unwrap_err();
    assert!(error.to_string().contains("signed by another key"), "{error}");
    assert_eq!((memory.tag("kernel", "v1"), memory.tag("kernel", &digest.oci())), (None, Some(digest)));

    // The registry returns a layer with one byte changed.
    let layer = layouts::layer(&layout);
    let memory = Memory::start(Quirks { corrupt: Some(layer), ..Quirks::default() });
    let error = Setup::default().push(&layout, &memory.address).unwrap_err();
    assert_eq!(error.class().exit_code(), 5);
    assert!(error.to_string().contains(&layer.to_string()), "{error}");
    assert_eq!(memory.tag("kernel", "v1"), None);
}

#[test]
fn a_malformed_layout_is_reported_before_the_first_request() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::start(Quirks::default());
    let push = |layout: &std::path::Path| Setup::default().push(layout, &memory.address).unwrap_err();
    let fresh = |name: &str| {
        let layout = dir.path().join(name);
        let digest = layouts::write(&layout, &NAMES, &[1000], true);
        let layer = layouts::layer(&layout);
        (layout, digest, layer)
    };
    let (layout, _, layer) = fresh("missing.oci");
    std::fs::remove_file(layouts::blob(&layout, layer)).unwrap();
    let error = push(&layout);
    assert!(
        error.to_string().contains("a blob of the OCI layout is missing")
            && error.to_string().contains(&layer.to_string()),
        "{error}"
    );

    let (layout, _, layer) = fresh("changed.oci");
    let mut bytes = std::fs::read(layouts::blob(&layout, layer)).unwrap();
    bytes[20] ^= 1;
    std::fs::write(layouts::blob(&layout, layer), bytes).unwrap();
    assert_eq!(push(&layout).class().exit_code(), 5);

    let (layout, ..) = fresh("type.oci");
    let index = std::fs::read_to_string(layout.join("index.json")).unwrap();
    let index = index.replace("vnd.oci.image.manifest.v1+json\",\"platform", "vnd.acme+json\",\"platform");
    std::fs::write(layout.join("index.json"), index).unwrap();
    let error = push(&layout);
    assert!(error.to_string().contains("it contains no image"), "{error}");

    // Signatures of another image: a replay.
    let (layout, digest, _) = fresh("replay.oci");
    let other = dir.path().join("other.oci");
    layouts::write(&other, &NAMES, &[2000], false);
    for blob in layouts::blobs(&other) {
        std::fs::copy(other.join("blobs/sha256").join(&blob), layout.join("blobs/sha256").join(&blob)).unwrap();
    }
    let read = |dir: &std::path::Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(dir.join("index.json")).unwrap()).unwrap()
    };
    let (mut index, theirs) = (read(&layout), read(&other));
    let kept = index["manifests"].as_array().unwrap().iter().filter(|m| m["digest"] != digest.oci());
    index["manifests"] = theirs["manifests"].as_array().unwrap().iter().chain(kept).cloned().collect();
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
    let error = push(&layout);
    assert!(error.to_string().contains("is not in the layout"), "{error}");
    assert!(memory.state().log.is_empty(), "{:?}", memory.state().log);
}

#[test]
fn progress_has_a_rate() {
    let (scene, setup) = (Scene::new(&[50_000], false, Quirks::default()), Setup::default());
    scene.push(&setup).unwrap();
    let text = setup.events.text();
    let line = text.lines().find(|line| line.contains("\"event\":\"transfer\"")).unwrap();
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(value["done"], value["total"], "{line}");
    assert!(value["total"].as_u64().unwrap() > 50_000 && value["rate"].is_u64(), "{line}");
}

#[test]
fn plain_http_beyond_loopback_needs_the_option() {
    let scene = Scene::new(&[10], false, Quirks::default());
    // The host does not exist; the client must try TLS.
    let setup = Setup { attempts: 1, ..Setup::default() };
    let error = setup.push(&scene.layout, "registry.invalid:5000").unwrap_err();
    assert!(error.to_string().contains("registry.invalid:5000"), "{error}");
}
