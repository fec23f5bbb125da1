//! Pulls are resumed, verified, and atomic.

use std::path::Path;

use crate::layouts::{self, layer};
use crate::memory::{Memory, Quirks};
use crate::proxy::{Fault, Proxy};
use crate::setup::{Setup, assert_same, waited};
use common::Sha256;

pub fn pushed(dir: &Path, quirks: Quirks) -> (Memory, std::path::PathBuf, Sha256) {
    let layout = dir.join("kernel.oci");
    let digest = layouts::write(&layout, &["ghcr.io/o/kernel:v1"], &[300_000, 20_000], true);
    let memory = Memory::start(quirks);
    Setup::default().push(&layout, &memory.address).unwrap();
    (memory, layout, digest)
}

/// Returns the requested ranges.
fn ranges(memory: &Memory) -> Vec<String> {
    let headers = &memory.state().headers;
    headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("range")).map(|(_, value)| value.clone()).collect()
}

#[test]
fn an_interrupted_download_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, layout, digest) = pushed(dir.path(), Quirks::default());
    let path = format!("/blobs/{}", layer(&layout).oci());
    let proxy = Proxy::start(&memory.address, move |_, head| {
        if head.path().ends_with(&path) { Fault::CutAnswer(100_000) } else { Fault::None }
    });
    let setup = Setup::default();
    let out = dir.path().join("out.oci");
    setup.pull(&format!("{}/kernel:v1", proxy.address), &out).unwrap();
    assert_same(&layout, &out, digest);
    let ranges = ranges(&memory);
    assert!(ranges.len() >= 2 && ranges.iter().all(|range| !range.starts_with("bytes=0-")), "{ranges:?}");
    assert!(waited(&setup) > 0);
}

#[test]
fn a_second_pull_resumes_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, layout, digest) = pushed(dir.path(), Quirks::default());
    let out = dir.path().join("out.oci");
    let path = format!("/blobs/{}", layer(&layout).oci());
    let cut = path.clone();
    let proxy = Proxy::start(&memory.address, move |n, head| match n {
        _ if !head.path().ends_with(&cut) => Fault::None,
        _ if head.header("range").is_none() => Fault::CutAnswer(250_000),
        _ => Fault::DropRequest,
    });
    let error = Setup::default().pull(&format!("{}/kernel:v1", proxy.address), &out).unwrap_err();
    assert!(error.to_string().contains("run the same command again") && !out.exists(), "{error}");
    memory.state().headers.clear();
    let tagged = format!("{}/kernel:v1", memory.address);
    Setup::default().pull(&format!("{tagged}@{}", digest.oci()), &out).unwrap();
    assert_same(&layout, &out, digest);
    // Signatures contain the name with its tag, without the digest.
    assert_eq!(oci::Layout::open(&out).unwrap().images().unwrap()[0].names, [tagged]);
    let ranges = ranges(&memory);
    assert_eq!(ranges.len(), 1);
    assert!(ranges[0].starts_with("bytes=250000-"), "{ranges:?}");
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .filter(|n| n.to_string_lossy().starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_corrupt_partial_blob_is_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, layout, digest) = pushed(dir.path(), Quirks::default());
    let part = dir.path().join(".out.oci.pull/blobs/sha256").join(format!("{}.part", layer(&layout)));
    std::fs::create_dir_all(part.parent().unwrap()).unwrap();
    std::fs::write(part, vec![7; 1000]).unwrap();
    std::fs::write(dir.path().join(".out.oci.pull/blobs/sha256").join(layer(&layout).to_string()), "short").unwrap();
    let out = dir.path().join("out.oci");
    Setup::default().pull(&format!("{}/kernel:v1", memory.address), &out).unwrap();
    assert_same(&layout, &out, digest);
}

#[test]
fn a_truncated_blob_ends_the_pull() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, layout, _) = pushed(dir.path(), Quirks::default());
    let size = std::fs::metadata(layouts::blob(&layout, layer(&layout))).unwrap().len();
    for (with_length, expected, class) in
        [(true, format!("got {} bytes, expected {size}", size / 2), 5), (false, "run the same command".to_owned(), 6)]
    {
        let memory = Memory::start(Quirks { half: Some((layer(&layout), with_length)), ..Quirks::default() });
        memory.state().blobs = whole.state().blobs.clone();
        memory.state().manifests = whole.state().manifests.clone();
        let out = dir.path().join("out.oci");
        let error = Setup::default().pull(&format!("{}/kernel:v1", memory.address), &out).unwrap_err();
        assert!(error.to_string().contains(&expected), "{error}");
        assert_eq!(error.class().exit_code(), class, "{error}");
        let path = format!("/blobs/{}", layer(&layout).oci());
        let requests = memory.state().log.iter().filter(|line| line.ends_with(&path)).count();
        assert!(requests <= 8 && !out.exists(), "{requests}");
        // The partial blob is incomplete: the next pull fails at once.
        let error = Setup::default().pull(&format!("{}/kernel:v1", memory.address), &out).unwrap_err();
        assert!(error.to_string().contains(&expected), "{error}");
        std::fs::remove_dir_all(dir.path().join(".out.oci.pull")).unwrap();
    }
}

#[test]
fn pulls_to_one_destination_are_serialized() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, layout, digest) = pushed(dir.path(), Quirks::default());
    let proxy = Proxy::start(&memory.address, |_, _| Fault::Delay(40));
    let (reference, out) = (format!("{}/kernel:v1", proxy.address), dir.path().join("out.oci"));
    std::thread::scope(|scope| {
        let pull = || Setup::default().pull(&reference, &out).map_err(|e| e.to_string());
        let pulls: Vec<_> = (0..3).map(|_| scope.spawn(pull)).collect();
        for pull in pulls {
            pull.join().unwrap().unwrap();
        }
    });
    assert_same(&layout, &out, digest);
    let names = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.starts_with('.')));
}

#[test]
fn a_digest_mismatch_is_refused_and_leaves_the_old_layout() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("kernel.oci");
    let digest = layouts::write(&layout, &["ghcr.io/o/kernel:v1"], &[300_000], true);
    let whole = Memory::start(Quirks::default());
    Setup::default().push(&layout, &whole.address).unwrap();
    let memory = Memory::start(Quirks { corrupt: Some(layer(&layout)), ..Quirks::default() });
    *memory.state() = std::mem::take(&mut *whole.state());
    let out = dir.path().join("out.oci");
    let old = layouts::write(&out, &["ghcr.io/o/old:v1"], &[10], false);
    let pull = |reference: &str| Setup::default().pull(&format!("{}/{reference}", memory.address), &out).unwrap_err();
    let error = pull("kernel:v1");
    assert_eq!(error.class().exit_code(), 5);
    assert!(error.to_string().contains(&layer(&layout).to_string()), "{error}");
    assert_eq!(oci::Layout::open(&out).unwrap().images().unwrap()[0].digest, old);

    // A manifest with another digest than requested.
    let key = ("kernel".to_owned(), digest.oci());
    memory.state().manifests.get_mut(&key).unwrap().1.push(b' ');
    assert_eq!(pull(&format!("kernel@{}", digest.oci())).class().exit_code(), 5);
    assert_eq!(pull("kernel:v2").class().exit_code(), 2);
    assert_eq!(pull("nothing:v1").class().exit_code(), 2);
    assert_eq!(pull("kernel").class().exit_code(), 2);
    let nowhere = dir.path().join("nowhere.oci");
    Setup::default().pull(&format!("{}/kernel:v2", memory.address), &nowhere).unwrap_err();
    assert!(!nowhere.exists() && !nowhere.with_file_name(".nowhere.oci.pull").exists());
}

#[test]
fn hostile_manifests_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, layout, digest) = pushed(dir.path(), Quirks::default());
    let out = dir.path().join("out.oci");
    let good = String::from_utf8(std::fs::read(layouts::blob(&layout, digest)).unwrap()).unwrap();
    let layer = layer(&layout);
    let size = std::fs::metadata(layouts::blob(&layout, layer)).unwrap().len();
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(5 << 20));
    for (bad, expected, class) in [
        (good.replace("image.manifest.v1", "acme"), "unknown media type", 2),
        (good.replace(&size.to_string(), &(size - 1).to_string()), "bytes", 5),
        (good.replace(&size.to_string(), "18446744073709551615"), "expected 18446744073709551615", 5),
        (good.replace("\"schemaVersion\":2", "\"schemaVersion\":1"), "schemaVersion", 2),
        (good.replace("sha256:", "md5:"), "sha256", 2),
        ("[]".to_owned(), "", 2),
        (long, "longer than", 2),
    ] {
        assert_ne!(bad, good);
        let key = ("kernel".to_owned(), "evil".to_owned());
        let entry = ("application/vnd.oci.image.manifest.v1+json".to_owned(), bad.clone().into_bytes());
        memory.state().manifests.insert(key, entry);
        let error = Setup { attempts: 2, ..Setup::default() }
            .pull(&format!("{}/kernel:evil", memory.address), &out)
            .unwrap_err();
        let short: String = bad.chars().take(400).collect();
        assert!(error.to_string().contains(expected), "{short}\n{error}");
        assert_eq!(error.class().exit_code(), class, "{short}\n{error}");
        assert!(!out.exists());
    }
}

/// A copy does not fail on a media type it does not know (image-spec, manifest.md); only what reads the layer does.
#[test]
fn an_unknown_layer_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, layout, digest) = pushed(dir.path(), Quirks::default());
    let good = String::from_utf8(std::fs::read(layouts::blob(&layout, digest)).unwrap()).unwrap();
    let entry =
        ("application/vnd.oci.image.manifest.v1+json".to_owned(), good.replace("tar+gzip", "tar+rot13").into_bytes());
    memory.state().manifests.insert(("kernel".to_owned(), "odd".to_owned()), entry);
    let out = dir.path().join("out.oci");
    Setup::default().pull(&format!("{}/kernel:odd", memory.address), &out).unwrap();
    let layout = oci::Layout::open(&out).unwrap();
    let image = layout.images().unwrap().remove(0);
    layout.blob(&image.layers[0].descriptor).unwrap();
    let error = oci::Unpacked::open(&layout, &image, oci::Limits::SYSTEM).unwrap_err().to_string();
    assert!(error.contains("tar+rot13"), "{error}");
}

#[test]
fn an_index_is_pulled_with_all_its_images() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, layout, digest) = pushed(dir.path(), Quirks::default());
    let size = std::fs::metadata(layouts::blob(&layout, digest)).unwrap().len();
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{size},"platform":{{"architecture":"amd64","os":"linux"}}}}]}}"#,
        digest.oci()
    );
    let key = ("kernel".to_owned(), "many".to_owned());
    let entry = ("application/vnd.oci.image.index.v1+json".to_owned(), index.clone().into_bytes());
    memory.state().manifests.insert(key, entry);
    let out = dir.path().join("out.oci");
    let pulled = Setup::default().pull(&format!("{}/kernel:many", memory.address), &out).unwrap();
    assert_eq!(pulled.digest, Sha256::of(&index));
    let images = oci::Layout::open(&out).unwrap().images().unwrap();
    assert_eq!((images.len(), images[0].digest), (1, digest));
    // It can be pushed to another registry unchanged.
    let next = Memory::start(Quirks::default());
    Setup::default().push(&out, &next.address).unwrap();
    assert_eq!(next.tag("kernel", "many"), Some(Sha256::of(&index)));
}

#[test]
fn a_directory_that_is_not_a_layout_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, ..) = pushed(dir.path(), Quirks::default());
    let out = dir.path().join("mine");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("letter"), "dear").unwrap();
    let before = memory.state().log.len();
    let error = Setup::default().pull(&format!("{}/kernel:v1", memory.address), &out).unwrap_err();
    assert!(error.to_string().contains("is not an OCI layout"), "{error}");
    assert_eq!(
        (std::fs::read_to_string(out.join("letter")).unwrap().as_str(), memory.state().log.len()),
        ("dear", before)
    );
}
