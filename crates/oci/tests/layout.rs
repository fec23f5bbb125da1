//! Layout directories: written atomically, verified on reading.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::fs;
use std::path::Path;

use common::{Class, Sha256};
use oci::types::{self, MediaType, Named as _};
use oci::{FileMap, Layout, NewImage, Writer};
use support::{NAME, fails, sample, tempdir};

#[test]
fn reads_back_what_it_wrote() {
    let dir = tempdir();
    let dest = dir.path().join("a.oci");
    let digest = sample(&dest, "hello\n");
    let image = Layout::open(&dest).unwrap().image(NAME).unwrap();
    assert_eq!(image.digest, digest);
    assert_eq!(image.names, [NAME, "ghcr.io/our-org/sample:latest"]);
    assert_eq!(image.label("alpha.talos.dev/version"), Some("v1.10.3"));
    assert_eq!(image.config.created.as_deref(), Some("2025-01-01T00:00:00Z"));
    assert_eq!(image.layers.len(), 1);
    assert_eq!(image.config.rootfs.diff_ids[0].0, image.layers[0].diff_id);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was left next to the layout");
}

#[test]
fn manifests_are_reproducible() {
    let dir = tempdir();
    let digest = sample(&dir.path().join("a.oci"), "hello\n");
    assert_eq!(digest.to_string(), "03fa7d82597f0367b88244cf8d676271ffd66bd7b7efd9914da623afab4131a2");
    assert_ne!(digest, sample(&dir.path().join("b.oci"), "other\n"));
}

/// `oci-spec` is an independent implementation of the specification.
#[test]
fn the_documents_parse_with_oci_spec() {
    use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest, OciLayout};
    let dir = tempdir();
    let dest = dir.path().join("a.oci");
    sample(&dest, "hello\n");
    assert_eq!(OciLayout::from_file(dest.join("oci-layout")).unwrap().image_layout_version(), "1.0.0");
    let index = ImageIndex::from_file(dest.join("index.json")).unwrap();
    let manifest = ImageManifest::from_file(blob(&dest, index.manifests()[0].digest().digest())).unwrap();
    let config = ImageConfiguration::from_file(blob(&dest, manifest.config().digest().digest())).unwrap();
    assert_eq!(config.config().as_ref().unwrap().entrypoint().as_ref().unwrap(), &["/bin/tool"]);
    assert_eq!(config.os().to_string(), "linux");
}

#[test]
fn json_is_canonical() {
    let dir = tempdir();
    let dest = dir.path().join("a.oci");
    let digest = sample(&dest, "hello\n");
    for text in [fs::read(dest.join("index.json")).unwrap(), fs::read(blob(&dest, &digest.to_string())).unwrap()] {
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(serde_json::to_vec(&value).unwrap(), text);
    }
}

#[test]
fn artifacts_are_not_listed_as_images() {
    let dir = tempdir();
    let (from, to) = (dir.path().join("a.oci"), dir.path().join("b.oci"));
    let subject = sample(&from, "hello\n");
    let mut writer = Writer::create(&to).unwrap();
    let blob = writer.bytes("text/plain", b"a note").unwrap();
    let mut config = writer.bytes(MediaType::EmptyJSON, b"{}").unwrap();
    let mut note = types::manifest(config.clone(), vec![blob]).unwrap();
    note.set_artifact_type(Some("application/vnd.example.note".into()));
    note.set_subject(Some(types::descriptor(MediaType::ImageManifest, subject, 1)));
    writer.artifact(&note, None).unwrap();
    config.set_media_type(MediaType::ImageConfig);
    note.set_artifact_type(None).set_config(config);
    let tag = format!("sha256-{subject}.sig");
    writer.artifact(&note, Some(&tag)).unwrap();
    writer.finish().unwrap();
    let layout = Layout::open(&to).unwrap();
    assert!(layout.images().unwrap().is_empty());
    let artifacts = layout.artifacts().unwrap();
    assert_eq!(artifacts[0].manifest.subject().as_ref().unwrap().sha256().unwrap(), subject);
    assert_eq!(artifacts.iter().map(|a| a.name()).collect::<Vec<_>>(), [None, Some(tag.as_str())]);
    assert!(Layout::open(&from).unwrap().artifacts().unwrap().is_empty());
}

#[test]
fn a_dropped_writer_keeps_the_old_layout() {
    let dir = tempdir();
    let dest = dir.path().join("a.oci");
    let digest = sample(&dest, "hello\n");
    let mut writer = Writer::create(&dest).unwrap();
    writer.layer(&FileMap::new(), 0).unwrap();
    drop(writer);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(Layout::open(&dest).unwrap().image(NAME).unwrap().digest, digest);
}

#[test]
fn a_directory_that_is_not_a_layout_is_never_replaced() {
    let dir = tempdir();
    fs::write(dir.path().join("precious"), "x").unwrap();
    assert_eq!(Writer::create(dir.path()).unwrap_err().class(), Class::BadInput);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn duplicate_and_missing_names_are_rejected() {
    let dir = tempdir();
    let mut writer = Writer::create(&dir.path().join("a.oci")).unwrap();
    let names = [NAME.to_owned(), NAME.to_owned()];
    for names in [&names[..], &[]] {
        let image = NewImage { names, ..NewImage::default() };
        assert_eq!(writer.image(&image).unwrap_err().class(), Class::BadInput);
    }
}

#[test]
fn a_flipped_byte_in_any_blob_is_found() {
    let dir = tempdir();
    let dest = dir.path().join("a.oci");
    sample(&dest, "hello\n");
    let layout = Layout::open(&dest).unwrap();
    let layer = layout.image(NAME).unwrap().layers[0].descriptor.clone();
    for item in fs::read_dir(dest.join("blobs/sha256")).unwrap() {
        let path = item.unwrap().path();
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&path, bad).unwrap();
        assert_eq!(
            fails(layout.images().and_then(|_| layout.blob(&layer)), path.to_str().unwrap()).class(),
            Class::Verification
        );
        fs::write(&path, good).unwrap();
    }
    layout.images().and_then(|_| layout.blob(&layer)).unwrap();
}

#[test]
fn a_truncated_or_missing_blob_is_reported() {
    let dir = tempdir();
    let dest = dir.path().join("a.oci");
    let digest = sample(&dest, "hello\n").to_string();
    let layout = Layout::open(&dest).unwrap();
    let path = blob(&dest, &digest);
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[1..]).unwrap();
    assert_eq!(fails(layout.images(), "bytes").class(), Class::Verification);
    fs::remove_file(&path).unwrap();
    assert_eq!(fails(layout.images(), &digest).class(), Class::UntrustedData);
}

#[test]
fn unknown_documents_are_rejected() {
    for (file, from, to, word) in [
        ("oci-layout", "1.0.0", "2.0.0", "imageLayoutVersion"),
        ("index.json", "\"schemaVersion\":2", "\"schemaVersion\":1", "schemaVersion"),
        ("index.json", "sha256:", "sha512:", "digest"),
        ("index.json", "\"manifests\":[", "\"manifests\":7,\"old\":[", "sequence"),
        ("index.json", "{", "", "is malformed"),
    ] {
        let dir = tempdir();
        let dest = dir.path().join("a.oci");
        sample(&dest, "hello\n");
        let text = fs::read_to_string(dest.join(file)).unwrap();
        fs::write(dest.join(file), text.replacen(from, to, 1)).unwrap();
        assert_eq!(fails(Layout::open(&dest).and_then(|layout| layout.images()), word).class(), Class::UntrustedData);
    }
}

/// The digest matches, the content is unsupported.
#[test]
fn unknown_manifests_are_rejected() {
    for (from, to, word) in [
        ("\"schemaVersion\":2", "\"schemaVersion\":3", "schemaVersion"),
        ("\"layers\":[", "\"layers\":[],\"old\":[", "layers"),
    ] {
        let dir = tempdir();
        let layout = with_manifest(&dir.path().join("a.oci"), |text| text.replacen(from, to, 1));
        assert_eq!(fails(layout.images(), word).class(), Class::UntrustedData);
    }
}

/// The sample with another manifest.
fn with_manifest(dest: &Path, change: impl Fn(&str) -> String) -> Layout {
    let old = sample(dest, "hello\n").to_string();
    let text = change(&fs::read_to_string(blob(dest, &old)).unwrap());
    let new = Sha256::of(&text).to_string();
    fs::write(blob(dest, &new), &text).unwrap();
    let mut index: types::Index = serde_json::from_slice(&fs::read(dest.join("index.json")).unwrap()).unwrap();
    let mut entries = index.manifests().clone();
    for entry in &mut entries {
        entry.set_digest(format!("sha256:{new}").parse().unwrap()).set_size(text.len() as u64);
    }
    index.set_manifests(entries);
    fs::write(dest.join("index.json"), types::canonical(&index).unwrap()).unwrap();
    Layout::open(dest).unwrap()
}

/// image-index.md: "Implementations MUST NOT generate an error if an unknown media type is encountered"; so for digests.
#[test]
fn entries_of_unknown_types_are_passed_over() {
    let digest = Sha256::of("x").to_string();
    for entry in [
        format!(r#"{{"mediaType":"application/xml","digest":"sha256:{digest}","size":1}}"#),
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha512:{digest}{digest}","size":1}}"#
        ),
        r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"blake3:abc","size":1}"#.to_owned(),
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{digest}","size":1,
            "platform":{{"architecture":"unknown","os":"unknown"}}}}"#
        ),
    ] {
        let dir = tempdir();
        let dest = dir.path().join("a.oci");
        sample(&dest, "hello\n");
        let text = fs::read_to_string(dest.join("index.json")).unwrap();
        fs::write(dest.join("index.json"), text.replacen("\"manifests\":[", &format!("\"manifests\":[{entry},"), 1))
            .unwrap();
        let layout = Layout::open(&dest).unwrap();
        assert_eq!(layout.images().unwrap().len(), 1, "{entry}");
    }
}

/// A Helm chart or another artifact is no image, and not known by its entry in the index.
#[test]
fn a_manifest_with_another_config_is_an_artifact() {
    let dir = tempdir();
    let layout =
        with_manifest(&dir.path().join("a.oci"), |text| text.replacen("image.config.v1", "chart.config.v1", 1));
    assert!(layout.images().unwrap().is_empty());
    let artifacts = layout.artifacts().unwrap();
    assert_eq!(artifacts[0].manifest.config().media_type().as_ref(), "application/vnd.oci.chart.config.v1+json");
}

/// Docker's types, and those of layers that need not be distributed. An unknown one is an error only where the layer is read.
#[test]
fn layers_of_many_types() {
    let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
    for gzip in [
        "docker.image.rootfs.diff.tar.gzip",
        "docker.image.rootfs.foreign.diff.tar.gzip",
        "oci.image.layer.nondistributable.v1.tar+gzip",
    ] {
        let dir = tempdir();
        let layout =
            with_manifest(&dir.path().join("a.oci"), |text| text.replace(layer, &format!("application/vnd.{gzip}")));
        let image = layout.image(NAME).unwrap();
        assert!(oci::Unpacked::open(&layout, &image, oci::Limits::SYSTEM).unwrap().view().iter().count() > 0, "{gzip}");
    }
    for (other, known) in [("diff.tar", MediaType::ImageLayer), ("diff.tar.zstd", MediaType::ImageLayerZstd)] {
        let of_docker = MediaType::from(format!("application/vnd.docker.image.rootfs.{other}").as_str());
        assert_eq!(types::oci_type(&of_docker), known);
    }
    let dir = tempdir();
    let layout = with_manifest(&dir.path().join("a.oci"), |text| text.replace(layer, "application/vnd.acme.squashfs"));
    let image = layout.image(NAME).unwrap();
    let error = fails(
        oci::Unpacked::open(&layout, &image, oci::Limits::SYSTEM),
        "unknown media type \"application/vnd.acme.squashfs\"",
    );
    assert_eq!(error.class(), Class::UntrustedData);
}

/// Go writes empty lists and missing structures as null.
#[test]
fn lists_that_are_null_or_absent_are_empty() {
    let index = |text: &str| types::read::<types::Index>(text.as_bytes());
    for empty in [r#"{"schemaVersion":2,"manifests":null}"#, r#"{"schemaVersion":2,"annotations":null,"subject":null}"#]
    {
        assert!(index(empty).unwrap().manifests().is_empty(), "{empty}");
    }
    let entry = |platform: &str| {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"a/b","digest":"sha256:{}","size":1,"urls":null,"platform":{platform}}}]}}"#,
            Sha256::of("")
        );
        index(&text).unwrap().manifests()[0].platform().clone()
    };
    for unclear in ["null", "{}", r#"{"os":"linux"}"#, r#"{"architecture":"","os":""}"#] {
        assert_eq!(entry(unclear), None, "{unclear}");
    }
    assert!(entry(r#"{"architecture":"arm64","os":"linux","os.features":null}"#).is_some());
    for bad in ["null", "[]", r#"{"manifests":null}"#, r#"{"schemaVersion":2,"manifests":{}}"#] {
        assert!(index(bad).is_err(), "{bad}");
    }
    let config = r#"{"architecture":"amd64","os":"linux","config":null,"history":null,"rootfs":{"type":"layers","diff_ids":null}}"#;
    let config: types::ImageConfig = serde_json::from_str(config).unwrap();
    assert_eq!(
        (config.history.len(), config.rootfs.diff_ids.len(), config.config),
        (0, 0, types::RunConfig::default())
    );
}

/// The layout `dest` with an `index.json` of these entries.
fn indexed(dest: &Path, entries: &[types::Descriptor]) -> Layout {
    fs::write(dest.join("index.json"), index(entries)).unwrap();
    Layout::open(dest).unwrap()
}

fn index(entries: &[types::Descriptor]) -> Vec<u8> {
    types::canonical(&types::index(entries.to_vec())).unwrap()
}

fn put(dest: &Path, media_type: MediaType, bytes: &[u8]) -> types::Descriptor {
    fs::write(blob(dest, &Sha256::of(bytes).to_string()), bytes).unwrap();
    types::descriptor(media_type, Sha256::of(bytes), bytes.len() as u64)
}

/// Some kilobytes could list one manifest a million times.
#[test]
fn indexes_that_multiply_each_other() {
    let dir = tempdir();
    let dest = dir.path().join("a.oci");
    let digest = sample(&dest, "hello\n");
    let size = fs::metadata(blob(&dest, &digest.to_string())).unwrap().len();
    let mut image = types::descriptor(MediaType::ImageManifest, digest, size);
    image.annotate(types::REF_NAME, NAME);
    let inner = |count| put(&dest, MediaType::ImageIndex, &index(&vec![image.clone(); count]));
    let layout = indexed(&dest, &vec![inner(10); 10]);
    let images = layout.images().unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].names, [NAME], "a name is listed once");
    let layout = indexed(&dest, &vec![inner(1000); 1000]);
    assert_eq!(fails(layout.images(), "more than 10000 entries").class(), Class::UntrustedData);
}

#[test]
fn documents_above_the_limit_of_the_layout() {
    let dir = tempdir();
    let dest = dir.path().join("a.oci");
    sample(&dest, "hello\n");
    let mut long = index(&[]);
    long.resize(4 << 20, b' ');
    let long = put(&dest, MediaType::ImageIndex, &long);
    let layout = indexed(&dest, &vec![long.clone(); 16]);
    assert!(layout.images().unwrap().is_empty());
    let error = indexed(&dest, &vec![long; 17]).images().unwrap_err();
    assert_eq!(error.class(), Class::UntrustedData);
    assert!(error.to_string().contains("more than 67108864 bytes"), "{error}");
    let mut note = put(&dest, MediaType::ImageManifest, &[b' '; 4 << 20]);
    note.set_artifact_type(Some("note".into())).set_size(128 << 20);
    fails(indexed(&dest, &[note]).artifacts(), "more than 67108864 bytes");
}

#[test]
fn too_many_layers() {
    let dir = tempdir();
    for (count, taken) in [(128, true), (129, false)] {
        let tars = vec![Vec::new(); count];
        let layout =
            support::raw_layout(&dir.path().join(count.to_string()), &MediaType::ImageLayer, &tars, support::plain);
        let images = layout.images();
        assert_eq!(images.is_ok(), taken);
        if let Err(error) = images {
            assert_eq!(error.class(), Class::UntrustedData);
            assert!(error.to_string().contains("it has 129 layers (max 128)"), "{error}");
        }
    }
}

#[test]
fn a_directory_without_the_file_oci_layout() {
    assert_eq!(fails(Layout::open(tempdir().path()), "oci-layout").class(), Class::BadInput);
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    let dir = tempdir();
    let dest = dir.path().join("a.oci");
    sample(&dest, "hello\n");
    fails(Layout::open(&dest).unwrap().image("nope"), NAME);
}

fn blob(layout: &Path, digest: &str) -> std::path::PathBuf {
    layout.join("blobs/sha256").join(digest)
}
