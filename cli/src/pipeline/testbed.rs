//! The default base: a small userland of our own that follows Talos's boot contract, in the form of Talos's imager and installer-base images.

use std::collections::BTreeMap;
use std::path::Path;

use common::event::Event;
use common::sandbox::Run;
use common::stage::{Finished, Leftover};
use common::{Class, Error, Result};
use imager::preset::Preset;
use imager::{cpio, machine_config};
use images::types::RunConfig;
use images::{FileMap, NewImage, Writer};

use crate::context::Context;
use crate::pipeline::kernel::Prepared;
use crate::pipeline::names::TALOS_VERSION;

/// systemd's stub and boot loader in the toolchain.
const EFI: &str = "usr/lib/systemd/boot/efi";
/// Compression of the base's own archive; it is small, so the level hardly matters.
const ZSTD_LEVEL: i32 = 12;

const FETCH: &str = "cargo fetch --locked --manifest-path /build/guest/Cargo.toml";
/// Succeeds when every crate is there.
const OFFLINE: &str = "cargo fetch --locked --offline --manifest-path /build/guest/Cargo.toml";
const BUILD: &str = r"
cd /build/guest
cargo build --release --offline --locked
for program in init machined installer; do cp /build/target/x86_64-unknown-linux-gnu/release/$program /build/out/; done
";
/// Of this target only: the others' crates are in no program.
const METADATA: &str = "cargo metadata --offline --locked --format-version 1 --filter-platform x86_64-unknown-linux-gnu \
     --manifest-path /build/guest/Cargo.toml >/build/out/metadata.json";
const ROOTFS: &str = r#"
mkdir -p /build/out/tree/sbin
cp -R /build/guest/rootfs/. /build/out/tree/
cp /build/bin/machined /build/out/tree/sbin/init
cp /build/out/testbed.json /build/out/tree/etc/testbed.json
mksquashfs /build/out/tree /build/out/rootfs.sqsh -pf /build/guest/rootfs.pseudo -all-root -noappend -no-xattrs -no-progress -quiet \
    -comp zstd -mkfs-time "$1" -all-time "$1"
rm -rf /build/out/tree
"#;

/// Cargo of the toolchain over the guest, with a home of its own in the cache.
fn cargo(context: &Context, script: &str) -> Result<Run> {
    let home = context.cache.join("cargo");
    std::fs::create_dir_all(&home).map_err(|e| Error::io("cannot make cargo's home", &home, &e))?;
    let run = Run::script(script, &[]).env("CARGO_HOME", "/build/cargo").env("CARGO_TARGET_DIR", "/build/target");
    Ok(run.read(&context.path("tests/guest"), "/build/guest").write(&home, "/build/cargo"))
}

/// Fetches the crates of the guest; the only step of it that needs the network.
///
/// # Errors
/// When the registry cannot be reached.
pub fn fetch(context: &Context, prepared: &Prepared<'_>) -> Result<()> {
    let mut line = |line: &str| context.sink().emit(&Event::Output { stage: "fetch", line });
    prepared.toolchain.sandbox.run(&cargo(context, FETCH)?.with_network(), &mut line).map_err(|e| {
        Error::new(Class::Infrastructure, "cannot fetch the crates of the testbed")
            .why(e)
            .hint("check the network; once fetched they stay in the cache")
    })
}

/// What crates the programs of the guest are built with, as `metadata.json` in the stage's directory.
///
/// # Errors
/// As [`base`].
pub fn metadata(context: &Context, prepared: &Prepared<'_>) -> Result<Finished> {
    let forge = prepared.forge();
    let guest = context.path("tests/guest");
    let fingerprint = forge.fingerprint("testbed-crates").with("recipe", METADATA).with_tree("guest", &guest)?;
    forge.cache.run(&fingerprint, Leftover::Discard, |work, line| {
        if forge.sandbox.run(&cargo(context, OFFLINE)?, &mut |_| ()).is_err() {
            fetch(context, prepared)?;
        }
        forge.sandbox.run(&cargo(context, METADATA)?.write(work, "/build/out"), line)
    })
}

/// The programs of the guest, static: `init`, `machined` and `installer` in the stage's directory.
fn programs(context: &Context, prepared: &Prepared<'_>) -> Result<Finished> {
    let guest = context.path("tests/guest");
    let forge = prepared.forge();
    let fingerprint = forge.fingerprint("testbed-programs").with("recipe", BUILD).with_tree("guest", &guest)?;
    forge.cache.run(&fingerprint, Leftover::Discard, |work, line| {
        let target = work.join("target");
        common::atomic::empty_dir(&target)?;
        if forge.sandbox.run(&cargo(context, OFFLINE)?, &mut |_| ()).is_err() {
            fetch(context, prepared)?;
        }
        let build = cargo(context, BUILD)?.env("SOURCE_DATE_EPOCH", prepared.pin.epoch.to_string());
        forge.sandbox.run(&build.write(&target, "/build/target").write(work, "/build/out"), line)?;
        common::atomic::remove_dir(&target)
    })
}

/// The base, as the layout `base.oci` in the stage's directory; its machine configuration is that of `preset`.
///
/// # Errors
/// When the guest does not compile or a part of the toolchain is missing.
pub fn base(context: &Context, prepared: &Prepared<'_>, preset: &Preset) -> Result<Finished> {
    let message = "the base is `testbed`, a test userland of ours: this is not Talos (give Talos's images with --base)";
    context.sink().emit(&Event::Warning { message });
    let programs = programs(context, prepared)?;
    let guest = context.path("tests/guest");
    let config = machine_config::testbed(preset)?;
    let forge = prepared.forge();
    let fingerprint = forge
        .fingerprint("testbed-base")
        .with("programs", programs.key.to_string())
        .with("recipe", ROOTFS)
        .with("config", config.as_str())
        .with("tool", env!("CARGO_PKG_VERSION"))
        .with_tree("rootfs", &guest.join("rootfs"))?;
    forge.cache.run(&fingerprint, Leftover::Discard, |work, line| {
        common::atomic::write(&work.join("testbed.json"), &config)?;
        let run = Run::script(ROOTFS, &[&prepared.pin.epoch.to_string()])
            .read(&guest, "/build/guest")
            .read(&programs.dir, "/build/bin")
            .write(work, "/build/out");
        forge.sandbox.run(&run, line)?;
        let initramfs = initramfs(&programs.dir, &work.join("rootfs.sqsh"), prepared.pin.epoch)?;
        write(work, prepared, &programs.dir, &initramfs)
    })
}

fn initramfs(programs: &Path, rootfs: &Path, epoch: u64) -> Result<Vec<u8>> {
    let mut archive = cpio::Writer::default();
    archive.file("init", 0o755, read(&programs.join("init"))?)?;
    archive.file("rootfs.sqsh", 0o644, read(rootfs)?)?;
    let bytes = archive.finish(u32::try_from(epoch).unwrap_or(u32::MAX));
    Ok(zstd::bulk::compress(&bytes, ZSTD_LEVEL)?)
}

fn write(work: &Path, prepared: &Prepared<'_>, programs: &Path, initramfs: &[u8]) -> Result<()> {
    let efi = prepared.toolchain.sandbox.rootfs().join(EFI);
    let mut imager = FileMap::new();
    imager.host("usr/install/amd64/systemd-stub.efi", &efi.join("linuxx64.efi.stub"), 0o644)?;
    imager.host("usr/install/amd64/systemd-boot.efi", &efi.join("systemd-bootx64.efi"), 0o644)?;
    imager.bytes("usr/install/amd64/initramfs.xz", initramfs, 0o644)?;
    let mut installer = FileMap::new();
    installer.host("bin/installer", &programs.join("installer"), 0o755)?;
    let mut writer = Writer::create(&work.join("base.oci"))?;
    add(&mut writer, "testbed/imager", &imager, prepared.pin.epoch, None)?;
    add(&mut writer, "testbed/installer-base", &installer, prepared.pin.epoch, Some("/bin/installer"))?;
    writer.finish()
}

fn add(writer: &mut Writer, name: &str, files: &FileMap, created: u64, entrypoint: Option<&str>) -> Result<()> {
    let layer = writer.layer(files, created)?;
    let version = ("alpha.talos.dev/version".to_owned(), TALOS_VERSION.to_owned());
    let config = RunConfig {
        entrypoint: entrypoint.map(|program| vec![program.to_owned()]),
        env: None,
        labels: Some(BTreeMap::from([version])),
        other: BTreeMap::new(),
    };
    let names = [format!("{name}:{TALOS_VERSION}")];
    let image = NewImage {
        names: &names,
        created,
        config,
        layers: &[layer],
        history: Vec::new(),
        annotations: BTreeMap::new(),
    };
    writer.image(&image).map(|_| ())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io("cannot read a part of the testbed", path, &e))
}
