//! Bases: found by what they hold, refused by name; and the image that is built on one.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::Class;
use oci::{Append, Base, FileMap, Layout, Limits, NewImage, Writer, installer, layer, types};
use support::{EPOCH, RawTar, run, tempdir, toolchain, tree};

const IMAGER: [&str; 3] = ["systemd-stub.efi", "systemd-boot.efi", "initramfs.xz"];

/// Writes a layout with an imager image that holds `boot` and, if wanted, an installer-base image of `layers` layers.
fn base(dest: &Path, boot: &[&str], layers: usize) {
    let mut writer = Writer::create(dest).unwrap();
    let mut files = FileMap::new();
    for name in boot {
        files.bytes(&format!("usr/install/amd64/{name}"), format!("content of {name}"), 0o644).unwrap();
    }
    let imager = writer.layer(&files, EPOCH).unwrap();
    image(&mut writer, "imager", None, &[imager]);
    let mut installer = Vec::new();
    for number in 0..layers {
        let mut files = FileMap::new();
        files.bytes(&format!("layer-{number}"), "x", 0o644).unwrap();
        installer.push(writer.layer(&files, EPOCH).unwrap());
    }
    if layers > 0 {
        image(&mut writer, "installer-base", Some("/bin/installer"), &installer);
    }
    writer.finish().unwrap();
}

fn image(writer: &mut Writer, name: &str, entrypoint: Option<&str>, layers: &[oci::Layer]) {
    let config = types::RunConfig {
        entrypoint: entrypoint.map(|program| vec![program.to_owned()]),
        env: Some(vec!["PATH=/bin".into()]),
        labels: Some(BTreeMap::from([
            ("alpha.talos.dev/version".into(), "v1.10.3".into()),
            ("old".into(), "1".into()),
        ])),
        other: BTreeMap::from([("WorkingDir".into(), "/".into())]),
    };
    let names = [name.to_owned()];
    let annotations = BTreeMap::new();
    writer.image(&NewImage { names: &names, created: EPOCH, config, layers, history: vec![], annotations }).unwrap();
}

fn check(path: &Path, work: &Path) {
    let base = Base::open(path, work, Limits::TALOS).unwrap();
    assert_eq!(fs::read_to_string(&base.boot.stub).unwrap(), "content of systemd-stub.efi");
    assert_eq!(fs::read_to_string(&base.boot.boot).unwrap(), "content of systemd-boot.efi");
    assert_eq!(fs::read_to_string(&base.boot.initramfs).unwrap(), "content of initramfs.xz");
    assert_eq!(base.version(), Some("v1.10.3"));
    assert_eq!(base.installer.names, ["installer-base"]);
}

#[test]
fn a_directory_and_tarballs_of_it_are_opened() {
    let dir = tempdir();
    let layout = dir.path().join("base");
    base(&layout, &IMAGER, 1);
    check(&layout, &dir.path().join("work"));
    let mut files = FileMap::new();
    files.tree("", &layout).unwrap();
    let mut gz = Vec::new();
    layer::write(&files, EPOCH, &mut gz).unwrap();
    fs::write(dir.path().join("base.tar.gz"), &gz).unwrap();
    check(&dir.path().join("base.tar.gz"), &dir.path().join("work-gz"));
    let mut tar = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(gz.as_slice()), &mut tar).unwrap();
    fs::write(dir.path().join("base.tar"), &tar).unwrap();
    check(&dir.path().join("base.tar"), &dir.path().join("work-tar"));
}

/// Everything that is no base gives the same first line, and says what was looked for.
fn refused(path: &Path, words: &[&str]) {
    let work = tempdir();
    let error = Base::open(path, work.path(), Limits::TALOS).unwrap_err();
    assert_eq!(error.class(), Class::BadInput, "{error}");
    let text = error.to_string();
    assert!(text.starts_with(&format!("{} is no Talos imager or installer-base image", path.display())), "{text}");
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn what_is_no_base_is_refused_by_name() {
    let dir = tempdir();
    let path = dir.path().join("base");
    refused(&path, &["skopeo copy"]);
    fs::create_dir(&path).unwrap();
    refused(&path, &["oci-layout"]);
    base(&path, &IMAGER[..2], 1);
    refused(&path, &["initramfs.xz: not found", "/bin/installer: found", "seen: imager, installer-base"]);
    base(&path, &IMAGER, 0);
    refused(&path, &["initramfs.xz: found", "/bin/installer: not found", "seen: imager"]);
    let file = dir.path().join("file");
    fs::write(&file, "no tar at all").unwrap();
    refused(&file, &["why"]);
    fs::write(&file, RawTar::default().file("other", "x").done()).unwrap();
    refused(&file, &["oci-layout"]);
    fs::write(&file, RawTar::default().file("../oci-layout", "x").done()).unwrap();
    refused(&file, &["out of the image"]);
    fs::write(&file, RawTar::default().file("manifest.json", "[]").done()).unwrap();
    refused(&file, &["docker-archive:"]);
}

/// A download that broke off is the file's fault, not this machine's.
#[test]
fn half_a_tarball_is_no_base() {
    let dir = tempdir();
    let layout = dir.path().join("base");
    base(&layout, &IMAGER, 1);
    fs::write(layout.join("blobs/sha256").join("0".repeat(64)), noise(1 << 16)).unwrap();
    let mut files = FileMap::new();
    files.tree("", &layout).unwrap();
    let mut gz = Vec::new();
    layer::write(&files, EPOCH, &mut gz).unwrap();
    let half = dir.path().join("half.tar.gz");
    for cut in [gz.len() / 8, gz.len() / 2, gz.len() - 1] {
        fs::write(&half, &gz[..cut]).unwrap();
        refused(&half, &["a layer cannot be used"]);
    }
}

/// What gzip cannot shorten.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// Each image of a layout may be within the limits; so must be all that are looked into.
#[test]
fn a_base_of_many_images_is_read_no_further_than_one() {
    let dir = tempdir();
    let path = dir.path().join("base");
    let mut writer = Writer::create(&path).unwrap();
    let mut files = FileMap::new();
    files.bytes("other", vec![0; 1 << 20], 0o644).unwrap();
    let layer = writer.layer(&files, EPOCH).unwrap();
    for name in ["a", "b", "c"] {
        image(&mut writer, name, Some(name), std::slice::from_ref(&layer));
    }
    writer.finish().unwrap();
    let open = |image| Base::open(&path, &dir.path().join("work"), Limits { image, ..Limits::TALOS }).unwrap_err();
    assert!(open(8 << 20).to_string().contains("imager image"));
    assert!(open(2 << 20).to_string().contains("unfolds to more"));
}

#[test]
fn a_damaged_base_is_a_failed_verification() {
    let dir = tempdir();
    let path = dir.path().join("base");
    base(&path, &IMAGER, 1);
    let layout = Layout::open(&path).unwrap();
    let layer = layout.image("imager").unwrap().layers[0].descriptor.digest.0.to_string();
    let blob = path.join("blobs/sha256").join(layer);
    let mut bytes = fs::read(&blob).unwrap();
    bytes[9] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let error = Base::open(&path, &dir.path().join("work"), Limits::TALOS).unwrap_err();
    assert_eq!(error.class(), Class::Verification, "{error}");
}

/// Puts a layer on top of the installer-base image in `dir/base` and gives the result's layout, `dir/installer.oci`.
fn appended(dir: &Path) -> Layout {
    let base = Base::open(&dir.join("base"), &dir.join("work"), Limits::TALOS).unwrap();
    let dest = dir.join("installer.oci");
    let mut writer = Writer::create(&dest).unwrap();
    let mut files = FileMap::new();
    files.bytes("usr/install/amd64/vmlinuz.efi", "uki", 0o644).unwrap();
    let layer = writer.layer(&files, EPOCH).unwrap();
    let names = ["installer:new".to_owned()];
    let new = Append {
        names: &names,
        created: EPOCH,
        created_by: "solana-talos imager",
        labels: BTreeMap::from([("old".into(), "2".into())]),
        annotations: BTreeMap::from([("note".into(), "y".into())]),
    };
    installer::append(&mut writer, &base.layout, &base.installer, &layer, new).unwrap();
    writer.finish().unwrap();
    Layout::open(&dest).unwrap()
}

#[test]
fn a_layer_goes_on_top_and_the_configuration_stays() {
    // Layers of the base, and how many of them are kept.
    for (layers, kept) in [(1, 1), (2, 1), (3, 3)] {
        let dir = tempdir();
        base(&dir.path().join("base"), &IMAGER, layers);
        let old = Layout::open(&dir.path().join("base")).unwrap().image("installer-base").unwrap();
        let new = appended(dir.path()).image("installer:new").unwrap();
        assert_eq!(new.layers.len(), kept + 1);
        assert_eq!(new.layers[..kept], old.layers[..kept], "the base's layers were touched");
        assert_eq!(new.config.history.len(), kept + 1);
        assert_eq!(new.config.history[kept].created_by.as_deref(), Some("solana-talos imager"));
        assert_eq!(new.config.config.entrypoint, old.config.config.entrypoint);
        assert_eq!(new.config.config.env, old.config.config.env);
        assert_eq!(new.config.config.other["WorkingDir"], "/");
        assert_eq!((new.label("alpha.talos.dev/version"), new.label("old")), (Some("v1.10.3"), Some("2")));
        assert_eq!(new.manifest.annotations["note"], "y");
    }
}

#[test]
fn umoci_unpacks_the_image_on_the_base() {
    let Some(sandbox) = toolchain() else { return };
    let dir = tempdir();
    base(&dir.path().join("base"), &IMAGER, 2);
    appended(dir.path());
    run(&sandbox, dir.path(), "umoci unpack --rootless --image installer.oci:installer:new out").unwrap();
    let found = tree(&dir.path().join("out/rootfs"));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["layer-0", "usr/install/amd64/vmlinuz.efi"]);
    let text = run(&sandbox, dir.path(), "skopeo inspect --config oci:installer.oci:installer:new").unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["config"]["Entrypoint"][0], "/bin/installer");
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
}
