//! The life of a node with real Talos, judged by its own answers: install from a registry, upgrade, rollback.
//!
//! One machine over several boots, 128 GiB and two NUMA nodes. Every reboot goes through the firmware and systemd-boot.

use anyhow::{Context as _, ensure};
use contract::DEFAULT_RELEASE;
use fs_err as fs;
use harness::broken::TAMPERED;
use harness::kernel_log::Expected;
use harness::life::{Life, OURS, TAG};
use harness::procfs::{meminfo, module_names};
use harness::settings::{Settings, TALOS_OUT};
use harness::talos::Node;
use harness::{Result, broken, steps, stock};
use qemu::Network;
use std::process::ExitCode;

/// File with the kernel's log of the build.
const KERNEL_LOG: &str = "kernel.log";

fn main() -> ExitCode {
    let settings = Settings::with_program(TALOS_OUT);
    steps::run(
        settings.map(|settings| Life::begin(settings, "lifecycle")),
        &[
            ("maintenance_mode_lists_the_extension_and_the_disk", maintenance),
            ("the_installer_of_a_registry_installs", install),
            ("the_node_boots_from_its_disk", first_boot),
            ("the_extension_is_listed_and_its_module_loaded", extension),
            ("the_command_line_is_that_of_the_build", command_line),
            ("settings_of_the_preset_are_in_force", settings_of_the_preset),
            ("the_root_is_read_only_and_only_talos_listens", locked_down),
            ("the_kernel_log_has_no_warning_but_the_listed_ones", clean_log),
            ("a_change_of_the_machine_configuration_is_in_force_at_once_and_its_removal_too", run_time_settings),
            ("an_upgrade_to_stock_talos_keeps_the_other_image", to_stock),
            ("an_upgrade_from_stock_talos_keeps_all_data", from_stock),
            ("a_rollback_returns_to_stock_talos", rollback),
            ("an_upgrade_to_another_preset_changes_the_command_line", another_preset),
            ("forged_modules_are_refused_and_all_else_works", forged_modules),
            ("a_rollback_returns_to_the_module_of_the_build", rollback_of_forged),
            ("two_nodes_on_one_network_reach_each_other", two_nodes),
        ],
    )
}

fn maintenance(life: &mut Life) -> Result<()> {
    life.node.boot_installer()?;
    let talosctl = &life.node.talosctl;
    let names = life.extensions()?;
    ensure!(names.iter().any(|name| name == "solana-optimizer"), "extensions: {names:?}");
    let disks = talosctl.get("disks")?;
    let disk = disks.iter().find(|disk| disk["spec"]["dev_path"] == "/dev/nvme0n1");
    ensure!(disk.is_some_and(|disk| disk["spec"]["readonly"] != true), "disks: {disks:?}");
    // Talos 1.10 answers no other call of its API before it is configured.
    let refused = talosctl.fail(&["version"])?;
    ensure!(refused.contains("not implemented in maintenance mode"), "{refused}");
    Ok(())
}

fn install(life: &mut Life) -> Result<()> {
    life.configure()?;
    life.apply()?;
    life.node.wait_for_reboot()
}

fn first_boot(life: &mut Life) -> Result<()> {
    life.first_boot()
}

fn extension(life: &mut Life) -> Result<()> {
    let talosctl = &life.node.talosctl;
    let names = life.extensions()?;
    ensure!(names == ["kernel-modules", "solana-optimizer", "modules.dep"], "extensions: {names:?}");
    let modules = life.node.until(|talosctl| {
        let text = talosctl.read("/proc/modules")?;
        Ok(module_names(&text).contains(&"solana_optimizer").then_some(text))
    })?;
    let line = modules.lines().find(|line| line.starts_with("solana_optimizer")).unwrap_or_default();
    // Out of tree is true; unsigned (E) is not.
    ensure!(line.ends_with("(O)"), "{line}");
    let taint = talosctl.number("/proc/sys/kernel/tainted")?;
    ensure!(taint & !4096 == 0, "the kernel is tainted with {taint}");
    Ok(())
}

fn command_line(life: &mut Life) -> Result<()> {
    let shipped = fs::read_to_string(life.node.settings().out.join("cmdline"))?;
    let running = life.command_line()?;
    ensure!(running == shipped.trim_end(), "the kernel got {running:?}, shipped is {shipped:?}");
    Ok(())
}

fn settings_of_the_preset(life: &mut Life) -> Result<()> {
    let talosctl = &life.node.talosctl;
    let info = meminfo(&talosctl.read("/proc/meminfo")?);
    ensure!(info["HugePages_Total"] == 50_000, "HugePages_Total: {}", info["HugePages_Total"]);
    for (file, value) in [
        ("/proc/sys/solana/hugepages_target", "50000"),
        ("/proc/sys/solana/hugepages_total", "50000"),
        ("/proc/sys/solana/dynamic", "0"),
        ("/proc/sys/solana/numa_balancing", "1"),
        ("/proc/sys/kernel/numa_balancing", "1"),
        ("/sys/devices/system/node/online", "0-1"),
    ] {
        let found = talosctl.read(file)?;
        ensure!(found == value, "{file} is {found:?}");
    }
    // Those of machine-config.yaml, and Talos's own, as it applied them.
    let parameters = talosctl.get("kernelparamstatus")?;
    let unsupported: Vec<_> = parameters.iter().filter(|one| one["spec"]["unsupported"] == true).collect();
    ensure!(unsupported.is_empty(), "unsupported: {unsupported:?}");
    let config = fs::read_to_string(life.node.settings().out.join("machine-config.yaml"))?;
    let wanted: Vec<(&str, &str)> = config.lines().filter_map(sysctl).collect();
    ensure!(wanted.len() > 20, "only {} sysctls in machine-config.yaml", wanted.len());
    for (name, value) in wanted {
        let found = parameters.iter().find(|one| one["metadata"]["id"] == format!("proc.sys.{name}").as_str());
        let current = found.map(|one| one["spec"]["current"].as_str().unwrap_or_default()).unwrap_or_default();
        ensure!(current.split_whitespace().eq(value.split_whitespace()), "{name} is {current:?}, not {value:?}");
    }
    let release = talosctl.read("/proc/sys/kernel/osrelease")?;
    let (loaded, builtin) =
        (talosctl.read("/proc/modules")?, talosctl.read(&format!("/usr/lib/modules/{release}/modules.builtin"))?);
    for module in config.lines().filter_map(module) {
        let here = module_names(&loaded).contains(&module) || builtin.contains(&format!("/{module}.ko"));
        ensure!(here, "the module {module} of machine-config.yaml is not loaded");
    }
    Ok(())
}

/// A line `      - name: NAME` of a machine configuration.
fn module(line: &str) -> Option<&str> {
    line.trim().strip_prefix("- name: ")
}

/// A line `    name: "value"` of a machine configuration.
fn sysctl(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix("    ")?.split_once(": \"")?;
    Some((name, value.strip_suffix('"')?))
}

fn locked_down(life: &mut Life) -> Result<()> {
    let talosctl = &life.node.talosctl;
    let mounts = talosctl.read("/proc/mounts")?;
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).context("no root mount")?;
    ensure!(root.split(' ').nth(3).is_some_and(|options| options.split(',').any(|one| one == "ro")), "{root}");
    let programs = talosctl.run(&["ls", "/usr/bin"])?;
    let shells: Vec<_> = programs
        .split_whitespace()
        .filter(|name| ["sh", "bash", "dash", "busybox", "sshd", "dropbear", "login"].contains(name))
        .collect();
    ensure!(shells.is_empty(), "in /usr/bin: {shells:?}");
    // Talos's API and trustd, and what it starts of Kubernetes (docs of Talos, "Network connectivity").
    let allowed = [50000, 50001, 6443, 7445, 2379, 2380, 10250];
    let mut open = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        open.extend(talosctl.read(file)?.lines().filter_map(listening));
    }
    ensure!(open.contains(&50000), "the API does not listen: {open:?}");
    ensure!(open.iter().all(|port| allowed.contains(port)), "open ports: {open:?}");
    Ok(())
}

/// The port of a line of `/proc/net/tcp` for a socket that listens (state 0A) on an address that other machines reach: not 127.0.0.0/8, not
/// ::1, and not 169.254.0.0/16, where Talos's own DNS server answers pods.
fn listening(line: &str) -> Option<u16> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = words.get(1)?.split_once(':')?;
    let local = address.ends_with("7F") || address.ends_with("FEA9") || address == "00000000000000000000000001000000";
    if words.get(3) != Some(&"0A") || local { None } else { u16::from_str_radix(port, 16).ok() }
}

fn clean_log(life: &mut Life) -> Result<()> {
    let log = life.node.talosctl.run(&["dmesg"])?;
    ensure!(log.contains("solana_optimizer"), "the module does not report itself");
    let others = Expected::committed()?.others(&log);
    ensure!(others.is_empty(), "warnings that tests/kernel-warnings.toml does not list: {others:#?}");
    Ok(fs::write(life.file(KERNEL_LOG), log)?)
}

fn run_time_settings(life: &mut Life) -> Result<()> {
    let wait_for = |values: [(&str, &str); 2]| {
        life.node.until(|talosctl| {
            for (name, value) in values {
                let found = talosctl.read(&format!("/proc/sys/solana/{name}"))?;
                ensure!(found == value, "{name} is {found:?}, not {value:?}");
            }
            Ok(Some(()))
        })
    };
    let sysctls = "machine:\n  sysctls:\n    solana.hugepages_floor: \"40000\"\n    solana.dynamic: \"1\"\n";
    life.patch("dynamic.yaml", "no-reboot", sysctls)?;
    wait_for([("hugepages_floor", "40000"), ("dynamic", "1")])?;
    let remove = ["hugepages_floor", "dynamic"]
        .map(|name| format!(r#"{{"op": "remove", "path": "/machine/sysctls/solana.{name}"}}"#));
    life.patch("static.yaml", "no-reboot", &format!("[{}]", remove.join(",")))?;
    wait_for([("hugepages_floor", "50000"), ("dynamic", "0")])?;
    life.check_data()
}

fn to_stock(life: &mut Life) -> Result<()> {
    let dir = life.file("stock");
    stock::installer(life.node.settings(), "ghcr.io/stock/installer", &dir)?;
    life.push("stock", &dir)?;
    life.upgrade("stock", "v1.10.3")?;
    is_stock(life)?;
    if stock::has_own_kernel() { no_new_warning(life) } else { Ok(()) }
}

/// The running kernel is that of stock Talos: compares its log with that of ours.
fn no_new_warning(life: &Life) -> Result<()> {
    let talosctl = &life.node.talosctl;
    let absent = talosctl.fail(&["read", "/proc/sys/kernel/numa_balancing"])?;
    ensure!(absent.contains("no such file or directory"), "not the kernel of stock Talos: {absent}");
    let (ours, stock) = (fs::read_to_string(life.file(KERNEL_LOG))?, talosctl.run(&["dmesg"])?);
    let expected = Expected::committed()?;
    let new = expected.new_on_ours(&ours, &stock);
    ensure!(new.is_empty(), "listed as warnings that stock Talos has too, but it has not: {new:#?}\n{stock}");
    eprintln!("only on stock Talos: {:#?}", expected.others(&stock));
    Ok(())
}

fn is_stock(life: &Life) -> Result<()> {
    let names = life.extensions()?;
    ensure!(names == ["kernel-modules", "modules.dep"], "extensions: {names:?}");
    life.check_data()
}

fn from_stock(life: &mut Life) -> Result<()> {
    life.upgrade(OURS, TAG)?;
    command_line(life)?;
    extension(life)?;
    life.check_data()
}

fn rollback(life: &mut Life) -> Result<()> {
    life.rollback()?;
    is_stock(life)
}

fn another_preset(life: &mut Life) -> Result<()> {
    let out = life.push_preset("agave")?;
    life.upgrade("agave", TAG)?;
    let running = life.command_line()?;
    let shipped = fs::read_to_string(out.join("cmdline"))?;
    ensure!(running == shipped.trim_end() && running.contains("hugepages=512"), "{running}");
    ensure!(life.node.talosctl.read("/proc/sys/solana/hugepages_target")? == "512", "wrong target");
    life.check_data()
}

/// One module is signed with another key, one has been changed.
fn forged_modules(life: &mut Life) -> Result<()> {
    let dir = life.file("forged");
    broken::forged(life.node.settings(), "ghcr.io/forged/installer", &dir)?;
    life.push("forged", &dir)?;
    life.upgrade("forged", DEFAULT_RELEASE)?;
    let names = life.extensions()?;
    ensure!(names == ["kernel-modules", "solana-optimizer", "modules.dep"], "extensions: {names:?}");
    let patch = format!("machine:\n  kernel:\n    modules:\n      - name: {TAMPERED}\n");
    life.patch("tampered.yaml", "no-reboot", &patch)?;
    // Talos quotes the names once more.
    let refused =
        |name: &str| format!(r#"error loading module \"{name}\": load {name} failed: key was rejected by service"#);
    for line in [
        "Loading of module with unavailable key is rejected".to_owned(),
        refused("solana_optimizer"),
        refused(TAMPERED),
    ] {
        ensure!(life.node.console_shows(&line, 0)?, "the machine ended before a line with {line:?}");
    }
    let talosctl = &life.node.talosctl;
    let modules = talosctl.read("/proc/modules")?;
    let loaded = module_names(&modules);
    ensure!(!loaded.contains(&"solana_optimizer"), "a forged module is loaded: {modules}");
    let absent = talosctl.fail(&["read", "/proc/sys/solana/dynamic"])?;
    ensure!(absent.contains("no such file or directory"), "{absent}");
    // What does not depend on the module is as the build has it.
    for (file, value) in [("/proc/sys/vm/nr_hugepages", "50000"), ("/proc/sys/net/ipv4/tcp_congestion_control", "bbr")]
    {
        let found = talosctl.read(file)?;
        ensure!(found == value, "{file} is {found:?}");
    }
    for name in ["apid", "containerd", "cri", "machined", "udevd"] {
        let services = talosctl.get("services")?;
        let service =
            services.iter().find(|one| one["metadata"]["id"] == name).with_context(|| format!("no {name}"))?;
        ensure!(service["spec"]["running"] == true && service["spec"]["healthy"] == true, "{name}: {service}");
    }
    // It is the last of the list.
    let config = fs::read_to_string(life.node.settings().out.join("machine-config.yaml"))?;
    let last = config.lines().filter_map(module).count();
    life.patch(
        "untampered.yaml",
        "no-reboot",
        &format!(r#"[{{"op": "remove", "path": "/machine/kernel/modules/{last}"}}]"#),
    )
}

fn rollback_of_forged(life: &mut Life) -> Result<()> {
    life.rollback()?;
    extension(life)?;
    life.check_data()
}

/// Addresses on the network that both nodes have, each by the address of its card; and one that no node has.
const FIRST: &str = "192.168.77.1";
const SECOND: &str = "192.168.77.2";
const NOBODY: &str = "192.168.77.9";
const NETWORK: &str = "\
machine:
  network:
    interfaces:
      - {deviceSelector: {hardwareAddr: '52:54:00:12:34:56'}, dhcp: true}
      - {deviceSelector: {hardwareAddr: '52:54:00:50:4c:01'}, addresses: [192.168.77.1/24]}
      - {deviceSelector: {hardwareAddr: '52:54:00:50:4c:02'}, addresses: [192.168.77.2/24]}
";

/// Both run from copies of one disk. Each is asked through the other: its API passes the call on, over the network that they share.
fn two_nodes(life: &mut Life) -> Result<()> {
    life.patch("network.yaml", "reboot", NETWORK)?;
    life.node.wait_for_reboot()?;
    let first = &mut life.node;
    // Enough for the 512 huge pages of the preset that is installed now.
    first.shape.nodes_mib = vec![4096];
    let mut second = Node::copy_of(first, "lifecycle-second")?;
    let port = first.talosctl.port;
    for (node, address) in [(&mut *first, 1), (&mut second, 2)] {
        node.shape.segment = Some(Network::Segment { port, address });
        node.boot(None)?;
    }
    let boot_id = |node: &Node| node.until(|talosctl| talosctl.read(BOOT_ID).map(Some));
    let ids = [boot_id(first)?, boot_id(&second)?];
    ensure!(ids[0] != ids[1], "both nodes have the boot ID {}", ids[0]);
    for (from, address, id) in [(&*first, SECOND, &ids[1]), (&second, FIRST, &ids[0])] {
        let found = from.until(|talosctl| talosctl.through(address).read(BOOT_ID).map(Some))?;
        ensure!(found == *id, "{address} has the boot ID {found}, not {id}");
    }
    let answers = |address| first.talosctl.through(address).run_within(20, &["version"]).is_ok();
    ensure!(!answers(NOBODY), "{NOBODY} answers");
    second.cut_power();
    ensure!(!answers(SECOND), "{SECOND} answers without power");
    Ok(())
}

/// A number that each boot of a kernel chooses.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
