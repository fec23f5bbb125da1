//! Builds and verifies an installer image with the stub, `mksquashfs` and `depmod` of the toolchain.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::path::Path;

use common::Class;
use common::sandbox::Sandbox;
use contract::Line;
use formats::cpio;
use fs_err as fs;
use imager::assemble::{self, Layers};
use imager::base_images::BaseImages;
use imager::cmdline::Cmdline;
use imager::installer::{self, Installer};
use imager::layers::Metadata;
use imager::preset::Preset;
use imager::verify::verify;
use imager::{os_release, squashfs, uki};
use oci::{FileMap, Limits, NewImage, Writer, types::RunConfig};

mod support;
use support::{MTIME, kernel, put, sandbox, shell};

const RELEASE: &str = "6.12.117-talos";
const NAME: &str = "ghcr.io/our-org/installer:custom-solana-v1.10.3";

fn line() -> Line {
    Line::default_release().unwrap()
}

/// Makes a base with the structure of Talos's imager and installer-base images.
fn base(sandbox: &Sandbox, work: &Path) -> BaseImages {
    let tree = work.join("rootfs");
    put(&tree, "etc/os-release", "ID=talos\nPRETTY_NAME=\"Talos (v1.10.3)\"\n");
    put(&tree, "sbin/init", "machined");
    let rootfs = squashfs::make(sandbox, &tree, &[], work, MTIME).unwrap();
    let mut initramfs = cpio::Writer::default();
    initramfs.file("init", 0o755, b"init".to_vec()).unwrap();
    initramfs.file("rootfs.sqsh", 0o644, rootfs).unwrap();
    let efi = sandbox.rootfs().join("usr/lib/systemd/boot/efi");
    let mut files = FileMap::new();
    files.host("usr/install/amd64/systemd-stub.efi", &efi.join("linuxx64.efi.stub"), 0o644).unwrap();
    files.host("usr/install/amd64/systemd-boot.efi", &efi.join("systemd-bootx64.efi"), 0o644).unwrap();
    files
        .bytes("usr/install/amd64/initramfs.xz", zstd::encode_all(&initramfs.finish(0)[..], 3).unwrap(), 0o644)
        .unwrap();
    let mut tools = FileMap::new();
    tools.bytes("bin/installer", "#!", 0o755).unwrap();
    let mut writer = Writer::create(&work.join("base.oci")).unwrap();
    for (name, files, program) in [("imager", files, "/bin/imager"), ("installer-base", tools, "/bin/installer")] {
        let config = RunConfig { entrypoint: Some(vec![program.to_owned()]), ..RunConfig::default() };
        let names = [name.to_owned()];
        writer.image_of(&files, NewImage { names: &names, config, ..NewImage::default() }).unwrap();
    }
    writer.finish().unwrap();
    BaseImages::open(&line(), &work.join("base.oci"), &work.join("base"), Limits::SYSTEM).unwrap()
}

/// Builds an installer image at `work/installer.oci`.
fn build(sandbox: &Sandbox, work: &Path) {
    let base = base(sandbox, work);
    let initramfs = fs::read(&base.boot.initramfs).unwrap();
    let (tree, extension) = (work.join("kernel"), work.join("extension"));
    put(&tree, &format!("usr/lib/modules/{RELEASE}/modules.order"), "");
    put(&tree, &format!("usr/lib/modules/{RELEASE}/modules.builtin"), "kernel/fs/ext4/ext4.ko\n");
    put(&extension, "usr/local/share/doc/solana-optimizer", "readme");
    put(&extension, "usr/lib/firmware/nic.bin", "firmware");
    let metadata = Metadata { name: "solana-optimizer".into(), version: "v1.10.3".into(), ..Metadata::default() };
    let extensions = [(metadata, extension.as_path())];
    let layers = Layers { release: RELEASE, kernel: &tree, extensions: &extensions };
    let initrd = assemble::initramfs(sandbox, &initramfs, &layers, work, MTIME).unwrap();
    let arguments = Preset::named("spec").unwrap().arguments().unwrap();
    let cmdline = Cmdline::compose(&line().arguments, &arguments, &[]).unwrap().to_string();
    let os_release = os_release::from_base(sandbox, &initramfs, work).unwrap();
    let linux = kernel(sandbox);
    let parts = uki::UkiParts {
        os_release: &os_release,
        cmdline: &cmdline,
        linux: &linux,
        initrd: &initrd,
        profile: "ID=main",
    };
    let image = uki::build(&fs::read(&base.boot.stub).unwrap(), &parts).unwrap();
    fs::write(work.join("uki"), image).unwrap();
    let new = Installer {
        names: &[NAME.to_owned()],
        boot_loader: &base.boot.boot_loader,
        uki: &work.join("uki"),
        program: None,
        created: u64::from(MTIME),
        annotations: &BTreeMap::new(),
    };
    installer::write(&line().installer, &work.join("installer.oci"), &base, &new).unwrap();
}

#[test]
fn a_finished_installer_image_verifies() {
    let Some(sandbox) = sandbox() else { return };
    let work = tempfile::tempdir().unwrap();
    build(&sandbox, work.path());
    let out = work.path().join("out");
    fs::create_dir(&out).unwrap();
    let found = verify(&line(), &work.path().join("installer.oci"), &out).unwrap();
    assert_eq!(found.release, RELEASE);
    assert!(
        found.cmdline.contains(" pti=on ") && found.cmdline.ends_with("hugepages=50000 numa_balancing=1"),
        "{}",
        found.cmdline
    );
    assert!(found.os_release.contains("Talos (v1.10.3)"));
    let names: Vec<_> = found.layers.layers.iter().map(|l| l.metadata.name.as_str()).collect();
    assert_eq!(names, ["kernel-modules", "solana-optimizer", "modules.dep"]);
    assert!(found.members.iter().any(|m| m.path == "usr/lib/firmware/nic.bin" && m.size == 8));

    fs::copy(&found.uki, out.join("uki.efi")).unwrap();
    // Our archive follows the base at the next multiple of four.
    let base = fs::metadata(work.path().join("base/boot/initramfs")).unwrap().len().next_multiple_of(4);
    let script = format!(
        "ukify inspect uki.efi --json=short; objcopy -O binary --only-section=.initrd uki.efi initrd; \
         tail -c +{} initrd | zstd -dcq 2>/dev/null | cpio -i --quiet; unsquashfs -ll 2.sqsh",
        base + 1
    );
    let output = shell(&sandbox, &out, &script);
    assert!(output.contains("6.12.117-talos") && output.contains("hugepages=50000"), "{output}");
    assert!(output.contains(&format!("usr/lib/modules/{RELEASE}/modules.dep.bin")), "{output}");
}

#[test]
fn image_is_reproducible() {
    let Some(sandbox) = sandbox() else { return };
    let index = || {
        let work = tempfile::tempdir().unwrap();
        build(&sandbox, work.path());
        fs::read_to_string(work.path().join("installer.oci/index.json")).unwrap()
    };
    assert_eq!(index(), index());
}

#[test]
fn a_flipped_byte_is_detected() {
    let Some(sandbox) = sandbox() else { return };
    let work = tempfile::tempdir().unwrap();
    build(&sandbox, work.path());
    let layout = work.path().join("installer.oci");
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap();
    let largest = blobs.map(|e| e.unwrap().path()).max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).unwrap();
    assert_eq!(verify(&line(), &layout, work.path()).unwrap_err().class(), Class::Verification);
    let error = verify(&line(), &work.path().join("base.oci"), work.path()).unwrap_err();
    assert!(error.to_string().contains("entrypoint"), "{error}");
    assert_eq!(verify(&line(), work.path(), work.path()).unwrap_err().class().exit_code(), 2);
}
