//! Upgrades to broken images with real Talos: what the node does, and how it returns to the system that worked.
//!
//! One machine over several boots. Its firmware keeps its variables, among them systemd-boot's default entry, which Talos sets.

use anyhow::{Context as _, ensure};
use contract::DEFAULT_RELEASE;
use fs_err as fs;
use harness::console::End;
use harness::life::{Life, start_upgrade};
use harness::procfs::module_names;
use harness::settings::{RECOVERY, Settings, TALOS_OUT};
use harness::{Result, boot_menu, broken, steps};
use std::process::ExitCode;

/// What is left on the boot partition when it is full: less than a UKI.
const LEFT: u64 = 8 << 20;
/// Organisation of the broken image.
const PANICKING: &str = "panicking";
/// Name of the UKI of an image whose installer program is Talos's own.
const BROKEN: &str = "Talos-v1.10.3.efi";

fn main() -> ExitCode {
    let settings = Settings::requested("recovery", RECOVERY, TALOS_OUT);
    steps::run(
        settings.map(|settings| Life::begin(settings, "recovery")),
        &[
            ("the_node_is_installed", Life::install),
            ("the_node_boots_with_a_full_boot_partition", full_boot_partition),
            ("an_upgrade_fails_when_the_boot_partition_is_full_and_the_old_system_boots", failed_upgrade),
            ("after_a_rollback_to_the_truncated_uki_that_it_left_the_old_system_boots", truncated),
            ("the_menu_makes_the_old_system_the_default", default_again),
            ("a_kernel_that_panics_is_booted_again_and_again", panics),
            ("the_menu_returns_to_the_old_system", menu),
        ],
    )
}

/// The node runs the build.
fn is_ours(life: &Life) -> Result<()> {
    let shipped = fs::read_to_string(life.node.settings().out.join("cmdline"))?;
    let running = life.command_line()?;
    ensure!(running == shipped.trim_end(), "the kernel got {running:?}");
    let modules = life.node.until(|talosctl| {
        let text = talosctl.read("/proc/modules")?;
        Ok(module_names(&text).contains(&"solana_optimizer").then_some(text))
    });
    modules.map(drop).context("the module of the build is not loaded")
}

fn full_boot_partition(life: &mut Life) -> Result<()> {
    life.node.boot_partition()?.fill(LEFT)?;
    life.boot_installed()
}

fn failed_upgrade(life: &mut Life) -> Result<()> {
    let dir = life.file(PANICKING);
    broken::panicking(life.node.settings(), "ghcr.io/panicking/installer", &dir)?;
    life.push(PANICKING, &dir)?;
    let from = life.node.vm()?.console().len();
    start_upgrade(&life.node.talosctl, PANICKING, DEFAULT_RELEASE)?;
    for line in ["no space left on device", "fatal sequencer error in \"upgrade\" sequence", "rebooting in 10 seconds"]
    {
        ensure!(life.node.console_shows(line, from)?, "the machine ended before a line with {line:?}");
    }
    life.node.wait_for_reboot()?;
    let ukis = life.node.boot_partition()?.ukis()?;
    ensure!(ukis.len() == 2 && ukis.contains(&BROKEN.to_owned()), "UKIs: {ukis:?}");
    life.node.boot_disk()?;
    is_ours(life)
}

/// The rollback makes the only other UKI the default, whatever is in it. systemd-boot does not list a UKI that has no end.
fn truncated(life: &mut Life) -> Result<()> {
    life.rollback()?;
    is_ours(life)?;
    let listed = life.node.vm()?.console();
    ensure!(boot_menu::ukis(&listed).is_empty(), "the boot menu lists the truncated UKI: {listed}");
    is_default(life, BROKEN)
}

/// Then there is room again, and the next upgrade keeps the running system: Talos takes the default entry for it.
fn default_again(life: &mut Life) -> Result<()> {
    life.node.cut_power();
    life.node.boot_partition()?.remove_filling()?;
    menu(life)
}

/// Boots the build by the menu, and makes it the default.
fn menu(life: &mut Life) -> Result<()> {
    let ukis = life.node.boot_partition()?.ukis()?;
    let ours = ukis.iter().find(|uki| *uki != BROKEN).context("the UKI of the build is not on the boot partition")?;
    life.node.boot_by_menu(ours, boot_menu::DEFAULT_AND_BOOT)?;
    is_ours(life)?;
    is_default(life, ours)
}

/// The boot loader's default entry is `uki`; names of entries are in lower case.
fn is_default(life: &Life, uki: &str) -> Result<()> {
    let name = life.default_entry()?;
    ensure!(name.eq_ignore_ascii_case(uki), "the default entry is {name:?}, not {uki}");
    Ok(())
}

/// The kernel reboots at once after a panic, and the boot loader boots its default entry again.
fn panics(life: &mut Life) -> Result<()> {
    start_upgrade(&life.node.talosctl, PANICKING, DEFAULT_RELEASE)?;
    life.node.wait_for_reboot()?;
    for _ in 0..2 {
        life.node.boot(None)?;
        let (end, summary) = life.node.wait_for_end()?;
        ensure!(matches!(&end, End::Panic(line) if line.contains("No working init found")), "{summary}");
    }
    Ok(())
}
