//! A power cut at any point of an installation or an upgrade: afterwards the node boots one of the two systems, with its data.
//!
//! Each cut is at a line of the console and ends QEMU at once: what the guest has not flushed is lost.

use anyhow::{Context as _, ensure};
use harness::life::{Life, OURS, TAG, start_upgrade};
use harness::settings::{POWER_CUTS, Settings, TALOS_OUT};
use harness::{Result, boot_menu, steps};
use std::process::ExitCode;
use std::time::Duration;

/// Lines of an installation, in their order, and what is waited for after them.
const INSTALLATION: [(&str, Duration); 10] = [
    ("pulling \"ghcr.io/our-org/installer", SECOND),
    ("running Talos installer", NOW),
    ("created EFI", NOW),
    ("formatting the partition \"/dev/nvme0n1p1\"", NOW),
    ("copying /usr/install/amd64/vmlinuz.efi", NOW),
    ("copying /usr/install/amd64/vmlinuz.efi", SECOND),
    ("copying /usr/install/amd64/systemd-boot.efi", NOW),
    ("updating EFI variables", NOW),
    ("installation of", NOW),
    ("install successful", SECOND),
];

/// Lines of an upgrade.
const UPGRADE: [(&str, Duration); 10] = [
    ("upgrade sequence", NOW),
    ("running Talos installer", NOW),
    ("copying /usr/install/amd64/vmlinuz.efi", NOW),
    ("copying /usr/install/amd64/vmlinuz.efi", HALF),
    ("copying /usr/install/amd64/vmlinuz.efi", SECOND),
    ("copying /usr/install/amd64/systemd-boot.efi", NOW),
    ("updating EFI variables", NOW),
    ("META: saving", NOW),
    ("installation of", NOW),
    ("upgrade successful", SECOND),
];

const NOW: Duration = Duration::ZERO;
const HALF: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let settings = Settings::requested("power-cuts", POWER_CUTS, TALOS_OUT);
    steps::run(
        settings.map(|settings| Life::begin(settings, "power-cut")),
        &[
            ("the_node_is_installed", Life::install),
            ("the_node_boots_from_its_disk", Life::first_boot),
            ("after_a_cut_of_an_upgrade_at_any_point_the_old_or_the_new_system_boots", upgrade),
            ("an_installation_can_be_repeated_after_a_cut_at_any_point", installation),
        ],
    )
}

/// Cuts the power after a line of the console and a delay.
fn cut(life: &mut Life, (line, delay): (&str, Duration), from: usize) -> Result<()> {
    ensure!(life.node.console_shows(line, from)?, "the machine ended before a line with {line:?}");
    std::thread::sleep(delay);
    life.node.cut_power();
    Ok(())
}

/// Each installation begins on the disk that the cut before has left, unless Talos takes that for an installed one.
fn installation(life: &mut Life) -> Result<()> {
    life.node.new_disk()?;
    for point in INSTALLATION {
        begin(life)?;
        cut(life, point, 0).with_context(|| format!("{point:?}"))?;
        eprintln!("cut after {point:?}");
    }
    // Once more, without a cut.
    if !boots_from_medium(life)? {
        life.apply()?;
        life.node.wait_for_reboot()?;
    }
    life.boot_installed()
}

/// Begins an installation. Talos does not install onto a disk with a META partition, whatever else is missing on it, and it boots from the medium
/// with a configuration that is on STATE: such a disk has to be wiped.
fn begin(life: &mut Life) -> Result<()> {
    if !boots_from_medium(life)? {
        life.apply()?;
        ensure!(life.node.console_shows("install sequence: ", 0)?, "the node does nothing with its configuration");
        std::thread::sleep(HALF);
        if !life.node.vm()?.console().contains("install sequence: 0 phase(s)") {
            return Ok(());
        }
    }
    eprintln!("Talos takes the disk for an installed one");
    life.node.new_disk()?;
    ensure!(!boots_from_medium(life)?, "a node with an empty disk is configured");
    life.apply()
}

/// Boots the medium. The node is in maintenance mode, or has its configuration already, if it was on STATE before the cut; returns whether it has.
fn boots_from_medium(life: &mut Life) -> Result<bool> {
    life.node.talosctl.config = None;
    life.node.boot_medium()?;
    let mut admin = life.node.talosctl.clone();
    admin.config = Some(life.file("talosconfig"));
    life.node.until(|talosctl| {
        if talosctl.is_in_maintenance().unwrap_or_default() {
            return Ok(Some(false));
        }
        Ok(admin.run(&["version", "--short"]).is_ok().then_some(true))
    })
}

fn upgrade(life: &mut Life) -> Result<()> {
    let agave = life.push_preset("agave")?;
    let lines = [&life.node.settings().out, &agave].map(|out| fs_err::read_to_string(out.join("cmdline")));
    let [ours, agave] = lines;
    let (ours, agave) = (ours?.trim_end().to_owned(), agave?.trim_end().to_owned());
    let mut runs = ours.clone();
    for point in UPGRADE {
        let to = if runs == ours { "agave" } else { OURS };
        let from = life.node.vm()?.console().len();
        let talosctl = life.node.talosctl.clone();
        // The call lasts as long as the node can answer.
        let call = std::thread::spawn(move || start_upgrade(&talosctl, to, TAG));
        cut(life, point, from).with_context(|| format!("{point:?}"))?;
        let _ = call.join();
        let ukis = life.node.boot_partition()?.ukis()?;
        life.node.boot_disk().with_context(|| format!("after {point:?}"))?;
        let now = life.command_line()?;
        ensure!(now == ours || now == agave, "{now}");
        life.check_data().with_context(|| format!("after {point:?}"))?;
        eprintln!("cut after {point:?}: the {} system boots", if now == runs { "old" } else { "new" });
        runs = now;
        let default = life.default_entry()?;
        if !ukis.iter().any(|uki| uki.eq_ignore_ascii_case(&default)) {
            eprintln!("cut after {point:?}: the default entry {default} is not on the disk");
            default_again(life, to, &ukis).with_context(|| format!("after {point:?}"))?;
        }
    }
    Ok(())
}

/// Talos makes the new system the default before its UKI is on the disk. If the power is cut between the two, the boot loader boots the old system,
/// but Talos cannot tell which one is running and refuses upgrades, until the boot menu has set the default.
fn default_again(life: &mut Life, to: &str, ukis: &[String]) -> Result<()> {
    start_upgrade(&life.node.talosctl, to, TAG)?;
    let refused = life.node.console_shows("failed to probe bootloader on upgrade: file does not exist", 0)?;
    ensure!(refused, "the upgrade is not refused");
    life.node.wait_for_reboot()?;
    let old = ukis.first().context("no UKI on the boot partition")?;
    life.node.boot_by_menu(old, boot_menu::DEFAULT_AND_BOOT)?;
    life.check_data()
}
