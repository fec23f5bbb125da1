//! The testbed: a small test userland that follows Talos's boot contract, in the form of Talos's imager and installer-base images.

use std::path::{Path, PathBuf};

use common::Result;
use common::event::Event;
use common::sandbox::Run;
use common::stage::{Finished, Input, Inputs, Stage};
use imager::machine_config;
use imager::preset::Preset;
use kernel_config::environment::Tools;
use lock::Crate;
use oci::FileMap;
use toolchain::Toolchain;

use crate::context::Context;
use crate::stages::base_layout::{BaseLayout, initramfs};
use crate::stages::kernel::Prepared;

/// Compiles the guest's programs.
pub const PROGRAMS_STAGE: Stage = Stage::recipe("testbed-programs");
/// Lists the crates of the guest's programs with `cargo metadata`.
pub const CRATES_STAGE: Stage = Stage::recipe("testbed-crates");
/// Packs the testbed.
pub const STAGE: Stage = Stage::ours("testbed-base", env!("CARGO_PKG_NAME"));

/// The guest's `Cargo.lock`.
const CARGO_LOCK: &str = lock::CARGO_LOCKS[1];

/// Cargo uses a vendor directory of crates from the store instead of the registry.
const BUILD: &str = r#"
cd /build/guest
cargo build --release --offline --locked \
    --config 'source.crates-io.replace-with = "store"' --config 'source.store.directory = "/build/crates"'
for program in init machined installer container; do cp /build/target/x86_64-unknown-linux-gnu/release/$program /build/out/; done
"#;
/// For this target only: crates for other targets are not in the programs.
const METADATA: &str = r#"
cargo metadata --offline --locked --format-version 1 --filter-platform x86_64-unknown-linux-gnu \
    --config 'source.crates-io.replace-with = "store"' --config 'source.store.directory = "/build/crates"' \
    --manifest-path /build/guest/Cargo.toml >/build/out/metadata.json
"#;
const ROOTFS: &str = r#"
mkdir -p /build/out/tree/sbin
cp -R /build/guest/rootfs/. /build/out/tree/
cp /build/bin/machined /build/out/tree/sbin/init
cp /build/out/testbed.json /build/out/tree/etc/testbed.json
# Modes in a checkout depend on the user's umask: git only tracks the execute bit.
chmod -R u=rwX,go=rX /build/out/tree
mksquashfs /build/out/tree /build/out/rootfs.sqsh -pf /build/guest/rootfs.pseudo -all-root -noappend -no-xattrs -no-progress -quiet \
    -comp zstd -mkfs-time "$1" -all-time "$1"
rm -rf /build/out/tree
"#;

/// Downloads `crates` into the store; returns their number.
pub fn fetch(context: &Context, toolchain: &Toolchain, crates: &[Crate]) -> Result<usize> {
    let mut line = |line: &str| context.sink().emit(&Event::Output { stage: "fetch", line });
    let workspaces = [context.project.clone(), context.path("tests/guest")];
    toolchain::fetch_crates(
        &toolchain.sandbox,
        &context.fetcher(),
        crates,
        &workspaces,
        &context.cargo_homes,
        &mut line,
    )
}

/// Returns the crates that the guest's `Cargo.lock` lists.
pub fn locked_crates(context: &Context) -> Result<Vec<Crate>> {
    lock::parse_cargo_lock(CARGO_LOCK, &fs_err::read_to_string(context.path(CARGO_LOCK))?)
}

/// Returns the crates of the guest's programs.
pub fn crates(prepared: &Prepared<'_>) -> Result<Vec<attest::crates::Crate>> {
    let metadata = metadata(prepared)?.dir.join("metadata.json");
    let lock = prepared.context().path(CARGO_LOCK);
    attest::crates::of_program(&fs_err::read(metadata)?, &fs_err::read_to_string(&lock)?).map_err(|e| e.file(&lock))
}

/// Writes `metadata.json`, which lists the crates of the guest's programs.
fn metadata(prepared: &Prepared<'_>) -> Result<Finished> {
    let inputs = guest_inputs(prepared, METADATA)?;
    let crates = crates_for(prepared, CRATES_STAGE, &inputs)?;
    prepared.context().stages().run(CRATES_STAGE, (inputs, crates), |work, ((tools, recipe, guest), crates)| {
        let run = cargo(&recipe, &guest, &crates).write(work.dir(), "/build/out");
        work.run(tools.sandbox, &run)
    })
}

/// Compiles the guest's static programs: `init`, `machined`, `installer` and `container` in the stage's directory.
pub fn programs(prepared: &Prepared<'_>) -> Result<Finished> {
    let inputs = guest_inputs(prepared, BUILD)?;
    let crates = crates_for(prepared, PROGRAMS_STAGE, &inputs)?;
    prepared.context().stages().run(PROGRAMS_STAGE, (inputs, crates), |work, ((tools, recipe, guest), crates)| {
        let target = work.empty_dir("target")?;
        let build = cargo(&recipe, &guest, &crates).env("SOURCE_DATE_EPOCH", tools.epoch.to_string());
        let build = build.write(&target, "/build/target").write(work.dir(), "/build/out");
        work.run(tools.sandbox, &build)?;
        common::atomic::remove_dir(&target)
    })
}

/// Inputs of the stages that run cargo on the guest.
type GuestInputs<'a> = (Input<Tools<'a>>, Input<String>, Input<PathBuf>);

fn guest_inputs<'a>(prepared: &'a Prepared<'_>, recipe: &str) -> Result<GuestInputs<'a>> {
    let guest = Input::tree("guest", &prepared.context().path("tests/guest"))?;
    Ok((prepared.environment().tools(), Input::text("recipe", recipe), guest))
}

/// Returns the vendor directory with the guest's crates. Not needed, and not created, if `stage` is cached.
fn crates_for(prepared: &Prepared<'_>, stage: Stage, inputs: &impl Inputs) -> Result<Input<PathBuf>> {
    let (context, mut dir) = (prepared.context(), PathBuf::new());
    if context.stages().would_run(stage, inputs)? {
        let crates = locked_crates(context)?;
        fetch(context, &prepared.toolchain, &crates)?;
        dir = toolchain::vendor(&context.stages(), &context.store, &crates)?.dir.join("vendor");
    }
    Ok(Input::unkeyed("Cargo.lock in the guest's tree names the crates by digest", dir))
}

/// Runs the toolchain's cargo on the guest.
fn cargo(script: &str, guest: &Path, crates: &Path) -> Run {
    Run::script(script, &[])
        .env("CARGO_HOME", "/tmp/cargo")
        .env("CARGO_TARGET_DIR", "/build/target")
        .read(guest, "/build/guest")
        .read(crates, "/build/crates")
}

/// Writes the base as the layout `base.oci`, with the machine configuration of `preset`.
pub fn base(prepared: &Prepared<'_>, preset: &Preset) -> Result<Finished> {
    let message = "the base is `testbed`, a test userland, not Talos (give Talos's images with --base)";
    prepared.context().sink().emit(&Event::Warning { message });
    let programs = programs(prepared)?;
    let inputs = (
        prepared.environment().tools(),
        Input::stage("programs", &programs),
        Input::text("recipe", ROOTFS),
        Input::text("config", machine_config::testbed(preset)?),
        Input::tree("guest", &prepared.context().path("tests/guest"))?,
    );
    prepared.context().stages().run(STAGE, inputs, |work, (tools, programs, recipe, config, guest)| {
        let out = work.dir();
        common::atomic::write(&out.join("testbed.json"), &*config)?;
        let run = Run::script(&recipe, &[&tools.epoch.to_string()])
            .read(&guest, "/build/guest")
            .read(&programs, "/build/bin")
            .write(out, "/build/out");
        work.run(tools.sandbox, &run)?;
        let initramfs = initramfs(&programs.join("init"), &out.join("rootfs.sqsh"), tools.epoch)?;
        let mut installer = FileMap::new();
        installer.host("bin/installer", &programs.join("installer"), 0o755)?;
        let (toolchain, epoch) = (tools.sandbox.rootfs(), tools.epoch);
        let (initramfs, installer) = (&initramfs, &installer);
        BaseLayout { name: "testbed", toolchain, initramfs, installer, epoch }.write(&out.join("base.oci"))
    })
}
