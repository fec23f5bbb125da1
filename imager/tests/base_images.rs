//! Base images, recognised by content, and the image built on them.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::path::Path;

use common::{Class, Result};
use contract::Line;
use fs_err as fs;
use imager::base_images::BaseImages;
use imager::installer::{Installer, write};
use oci::types::Named as _;
use oci::{FileMap, Layout, Limits, NewImage, Writer, layer, types};

mod support;
use support::{put, sandbox, shell};

const EPOCH: u64 = 1_735_689_600;
/// A line that differs from the supported ones in every value.
const OTHER: &str = include_str!("../contract/tests/lines/v1.99.toml");

fn line() -> Line {
    Line::default_release().unwrap()
}

/// Returns the paths of the boot files in an imager image of `line`.
fn boot_files(line: &Line) -> [&str; 3] {
    [&line.imager.stub, &line.imager.boot_loader, &line.imager.initramfs]
}

/// Writes a layout with an imager image with the first `boot` boot files and, unless `layers` is 0, an installer-base image.
fn base(line: &Line, dest: &Path, boot: usize, layers: usize) {
    let mut writer = Writer::create(dest).unwrap();
    let mut files = FileMap::new();
    for path in &boot_files(line)[..boot] {
        files.bytes(path, format!("content of {path}"), 0o644).unwrap();
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
        image(&mut writer, "installer-base", Some(&line.installer.entrypoint), &installer);
    }
    writer.finish().unwrap();
}

fn image(writer: &mut Writer, name: &str, entrypoint: Option<&str>, layers: &[oci::Layer]) {
    let config = types::RunConfig {
        entrypoint: entrypoint.map(|program| vec![program.to_owned()]),
        env: Some(vec!["PATH=/bin".into()]),
        labels: Some(BTreeMap::from([("version".into(), "v1.10.3".into())])),
        other: BTreeMap::from([("WorkingDir".into(), "/".into())]),
    };
    let names = [name.to_owned()];
    writer.image(&NewImage { names: &names, created: EPOCH, config, layers, ..NewImage::default() }).unwrap();
}

fn open(line: &Line, path: &Path, work: &Path) -> Result<BaseImages> {
    BaseImages::open(line, path, work, Limits::SYSTEM)
}

fn check(line: &Line, path: &Path, work: &Path) {
    let base = open(line, path, work).unwrap();
    for (file, path) in [&base.boot.stub, &base.boot.boot_loader, &base.boot.initramfs].iter().zip(boot_files(line)) {
        assert_eq!(fs::read_to_string(file).unwrap(), format!("content of {path}"));
    }
    assert_eq!(base.installer.names, ["installer-base"]);
}

#[test]
fn directories_and_tarballs_are_opened() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("base");
    base(&line(), &layout, 3, 1);
    check(&line(), &layout, &dir.path().join("work"));
    let mut files = FileMap::new();
    files.tree("", &layout).unwrap();
    let mut gz = Vec::new();
    layer::write(&files, EPOCH, &mut gz).unwrap();
    put(dir.path(), "base.tar.gz", gz);
    check(&line(), &dir.path().join("base.tar.gz"), &dir.path().join("work-gz"));
}

/// Checks that opening `path` fails with the error for unusable bases, and that its text contains `words`.
fn refused(path: &Path, words: &[&str]) {
    let work = tempfile::tempdir().unwrap();
    let error = open(&line(), path, work.path()).unwrap_err();
    assert_eq!(error.class().exit_code(), 2, "{error}");
    let text = error.to_string();
    let first = format!("{} does not contain Talos's imager and installer-base images", path.display());
    assert!(text.starts_with(&first), "{text}");
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn unusable_bases_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base");
    refused(&path, &["skopeo copy"]);
    fs::create_dir(&path).unwrap();
    refused(&path, &["oci-layout"]);
    base(&line(), &path, 2, 1);
    refused(&path, &["initramfs.xz): not found", "/bin/installer): found", "linux/amd64: imager, installer-base"]);
    base(&line(), &path, 3, 0);
    refused(&path, &["initramfs.xz): found", "/bin/installer): not found", "linux/amd64: imager"]);
    put(dir.path(), "file", "not a tar archive");
    refused(&dir.path().join("file"), &["why"]);
    let mut files = FileMap::new();
    files.bytes("other", "x", 0o644).unwrap();
    layer::write(&files, EPOCH, fs::File::create(dir.path().join("file")).unwrap()).unwrap();
    refused(&dir.path().join("file"), &["oci-layout"]);
}

#[test]
fn paths_come_from_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let other = Line::parse("v1.99.toml", OTHER).unwrap();
    base(&other, &dir.path().join("base"), 3, 1);
    check(&other, &dir.path().join("base"), &dir.path().join("work"));
    refused(&dir.path().join("base"), &["/bin/installer): not found"]);
    let new = appended(&other, dir.path()).image("installer:new").unwrap();
    assert_eq!(new.config.config.entrypoint.as_deref(), Some(&["/sbin/install".to_owned()][..]));
    let work = dir.path().join("out");
    fs::create_dir(&work).unwrap();
    oci::Unpacked::open(&Layout::open(&dir.path().join("installer.oci")).unwrap(), &new, Limits::SYSTEM)
        .unwrap()
        .extract(&[(&other.installer.uki, work.join("uki")), (&other.installer.boot_loader, work.join("loader"))])
        .unwrap();
    assert_eq!(fs::read_to_string(work.join("uki")).unwrap(), "uki");
}

/// The size limit of one image applies to all images of a layout together.
#[test]
fn images_of_a_base_share_one_size_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base");
    let mut writer = Writer::create(&path).unwrap();
    let mut files = FileMap::new();
    files.bytes("other", vec![0; 1 << 20], 0o644).unwrap();
    let layer = writer.layer(&files, EPOCH).unwrap();
    for name in ["a", "b", "c"] {
        image(&mut writer, name, Some(name), std::slice::from_ref(&layer));
    }
    writer.finish().unwrap();
    let open = |image| {
        let limits = Limits { image, ..Limits::SYSTEM };
        BaseImages::open(&line(), &path, &dir.path().join("work"), limits).unwrap_err()
    };
    assert!(open(8 << 20).to_string().contains("imager image"));
    assert!(open(2 << 20).to_string().contains("decompresses to more"));
}

#[test]
fn a_damaged_base_fails_verification() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base");
    base(&line(), &path, 3, 1);
    let layout = Layout::open(&path).unwrap();
    let layer = layout.image("imager").unwrap().layers[0].descriptor.sha256().unwrap().to_string();
    let blob = path.join("blobs/sha256").join(layer);
    let mut bytes = fs::read(&blob).unwrap();
    bytes[9] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let error = open(&line(), &path, &dir.path().join("work")).unwrap_err();
    assert_eq!(error.class(), Class::Verification, "{error}");
}

/// Appends boot files to the installer-base image in `dir/base`; returns the resulting layout `dir/installer.oci`.
fn appended(line: &Line, dir: &Path) -> Layout {
    let base = open(line, &dir.join("base"), &dir.join("work")).unwrap();
    put(dir, "uki", "uki");
    let new = Installer {
        names: &["installer:new".to_owned()],
        boot_loader: &base.boot.boot_loader,
        uki: &dir.join("uki"),
        program: None,
        created: EPOCH,
        annotations: &BTreeMap::from([("note".into(), "y".into())]),
    };
    write(&line.installer, &dir.join("installer.oci"), &base, &new).unwrap();
    Layout::open(&dir.join("installer.oci")).unwrap()
}

#[test]
fn the_layer_is_appended_and_the_config_kept() {
    // Number of layers in the base, and of those kept.
    for (layers, kept) in [(1, 1), (2, 1), (3, 3)] {
        let dir = tempfile::tempdir().unwrap();
        base(&line(), &dir.path().join("base"), 3, layers);
        let old = Layout::open(&dir.path().join("base")).unwrap().image("installer-base").unwrap();
        let new = appended(&line(), dir.path()).image("installer:new").unwrap();
        assert_eq!(new.layers.len(), kept + 1);
        assert_eq!(new.layers[..kept], old.layers[..kept], "layers of the base were changed");
        assert_eq!(new.config.history.len(), kept + 1);
        assert_eq!(new.config.history[kept].created_by.as_deref(), Some("solana-talos imager"));
        assert_eq!(new.config.config.entrypoint, old.config.config.entrypoint);
        assert_eq!(new.config.config.env, old.config.config.env);
        assert_eq!(new.config.config.other["WorkingDir"], "/");
        assert_eq!(new.label("version"), Some("v1.10.3"));
        assert_eq!(new.manifest.annotations().as_ref().unwrap()["note"], "y");
    }
}

/// In Talos's images `/bin` is a link to `usr/bin`: the program is replaced behind the link.
#[test]
fn the_installer_program_is_replaced_where_the_entrypoint_leads() {
    let dir = tempfile::tempdir().unwrap();
    base(&line(), &dir.path().join("base"), 3, 1);
    let opened = |with_program: bool| {
        let mut writer = Writer::create(&dir.path().join("linked")).unwrap();
        let mut files = FileMap::new();
        if with_program {
            files.insert("bin", oci::Entry::Symlink { target: "usr/bin".into() }).unwrap();
            files.bytes("usr/bin/installer", "old", 0o755).unwrap();
        }
        for path in boot_files(&line()) {
            files.bytes(path, "x", 0o644).unwrap();
        }
        let layer = writer.layer(&files, EPOCH).unwrap();
        image(&mut writer, "imager", None, std::slice::from_ref(&layer));
        image(&mut writer, "installer-base", Some("/bin/installer"), &[layer]);
        writer.finish().unwrap();
        open(&line(), &dir.path().join("linked"), &dir.path().join("work")).unwrap()
    };
    put(dir.path(), "uki", "uki");
    let replace = |base: &BaseImages| {
        let new = Installer {
            names: &["installer:new".to_owned()],
            boot_loader: &base.boot.boot_loader,
            uki: &dir.path().join("uki"),
            program: Some(b"new"),
            created: EPOCH,
            annotations: &BTreeMap::new(),
        };
        write(&line().installer, &dir.path().join("installer.oci"), base, &new)
    };
    replace(&opened(true)).unwrap();
    let layout = Layout::open(&dir.path().join("installer.oci")).unwrap();
    let mut image = layout.image("installer:new").unwrap();
    image.layers.remove(0);
    let unpacked = oci::Unpacked::open(&layout, &image, Limits::SYSTEM).unwrap();
    assert!(unpacked.view().get("bin").is_none(), "the layer replaces the link");
    unpacked.extract(&[("usr/bin/installer", dir.path().join("program"))]).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("program")).unwrap(), "new");

    let error = replace(&opened(false)).unwrap_err();
    assert_eq!(error.class(), Class::UntrustedData, "{error}");
    assert!(error.to_string().contains("has no file /bin/installer"), "{error}");
}

#[test]
fn umoci_unpacks_the_image() {
    let Some(sandbox) = sandbox() else { return };
    let dir = tempfile::tempdir().unwrap();
    base(&line(), &dir.path().join("base"), 3, 2);
    appended(&line(), dir.path());
    shell(&sandbox, dir.path(), "umoci unpack --rootless --image installer.oci:installer:new out");
    let list = shell(&sandbox, dir.path(), "cd out/rootfs; find . -type f | sort");
    assert_eq!(
        list.lines().collect::<Vec<_>>(),
        ["./layer-0", "./usr/install/amd64/systemd-boot.efi", "./usr/install/amd64/vmlinuz.efi"]
    );
    let text = shell(&sandbox, dir.path(), "skopeo inspect --config oci:installer.oci:installer:new");
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["config"]["Entrypoint"][0], "/bin/installer");
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
}
