//! Boots the UKI of the installer image with OVMF and systemd-boot on the machine of the specification: 128 GiB, two NUMA nodes.

use anyhow::{Context as _, ensure};
use flate2::read::GzDecoder;
use harness::installer::Parts;
use harness::procfs::{meminfo, module_names};
use harness::protocol::Request;
use harness::scenario::Guest;
use harness::settings::{OUT, Settings};
use harness::sysctl::WRITABLE;
use harness::vm::{Image, Media, Vm};
use harness::{Result, kconfig, machines, scenario};
use run::esp;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::ExitCode;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(600);
const POOL: u64 = 50_000;

fn main() -> ExitCode {
    let settings = Settings::from_env(OUT);
    scenario::run(
        settings,
        start,
        &[
            ("the_uki_of_the_installer_image_boots_with_ovmf_and_systemd_boot", booted_by_firmware),
            ("the_kernel_release_is_the_one_in_the_uki", release),
            ("the_shipped_command_line_is_used", command_line),
            ("the_layers_are_mounted", layers),
            ("lsmod_shows_the_module_and_it_is_signed", module_loaded),
            ("proc_sys_solana_has_the_files", sysctl_names),
            ("the_pool_has_50000_huge_pages", huge_pages),
            ("hugepages_target_starts_at_the_pool_size", target),
            ("numa_balancing_1_works", numa_balancing),
            ("every_cpu_is_online", cpus),
            ("igb_creates_virtual_functions", sriov),
            ("nvme_nr_requests_is_at_least_1024", nvme),
            ("bbr_rmem_max_and_every_sysctl_of_the_preset_are_set", sysctls),
            ("the_config_has_every_required_option", required_options),
        ],
    )
}

fn start(settings: &Settings) -> Result<Vm> {
    let parts = Parts::unpack(&settings.sandbox, &settings.out, &parts(settings).dir)?;
    let image = settings.work.join("node-esp.img");
    esp::make(&settings.sandbox, &parts.path("systemd-boot.efi"), &parts.path("vmlinuz.efi"), "Talos-v1.10.3", &image)?;
    let media = Media::default().disk(machines::ESP, Image::Copy(image)).disk(machines::DISK, Image::Empty(1024));
    Vm::start(settings, "node", &machines::node(), &media, LIMIT)
}

fn parts(settings: &Settings) -> Parts {
    Parts { dir: settings.work.join("node-parts") }
}

/// Reads the EFI variables that systemd-boot and systemd-stub set (systemd.io/BOOT_LOADER_INTERFACE).
fn booted_by_firmware(_: &Settings, guest: &mut Guest) -> Result<()> {
    const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    let mut variable = |name: &str| -> Result<String> {
        let bytes = guest.agent.read_bytes(&format!("/sys/firmware/efi/efivars/{name}-{VENDOR}"))?;
        // Four bytes of attributes, then UTF-16.
        let units: Vec<u16> =
            bytes.get(4..).unwrap_or_default().chunks(2).map(|c| u16::from_le_bytes([c[0], c[1]])).collect();
        Ok(String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned())
    };
    let loader = variable("LoaderInfo")?;
    ensure!(loader.starts_with("systemd-boot"), "the loader is {loader:?}");
    let stub = variable("StubInfo")?;
    ensure!(stub.starts_with("systemd-stub"), "the stub is {stub:?}");
    let entry = variable("LoaderEntrySelected")?;
    ensure!(entry.eq_ignore_ascii_case("Talos-v1.10.3.efi"), "the entry is {entry:?}");
    ensure!(
        guest.vm.console().contains("testbed userland, this is not Talos"),
        "the testbed did not identify itself on the console"
    );
    Ok(())
}

fn release(settings: &Settings, guest: &mut Guest) -> Result<()> {
    let running = guest.agent.read("/proc/sys/kernel/osrelease")?;
    let named = fs_err::read_to_string(parts(settings).path("uname"))?;
    ensure!(running == named.trim_end_matches(['\0', '\n']), "{running} is running, the UKI contains {named}");
    ensure!(running.starts_with("6.12.") && running.ends_with("-talos"), "the release is {running}");
    Ok(())
}

fn command_line(settings: &Settings, guest: &mut Guest) -> Result<()> {
    let running = guest.agent.read("/proc/cmdline")?;
    let shipped = parts(settings).cmdline()?;
    ensure!(running.contains(&shipped), "the UKI contains {shipped:?}, the kernel got {running:?}");
    let words: Vec<&str> = running.split_whitespace().collect();
    for word in
        ["hugepagesz=2M", "hugepages=50000", "numa_balancing=1", "talos.platform=metal", "slab_nomerge=", "pti=on"]
    {
        ensure!(words.contains(&word), "{word} is missing in {running:?}");
    }
    let (_, log) = guest.agent.dmesg(0)?;
    let unknown: Vec<&str> =
        log.lines().filter(|line| line.contains("Unknown kernel command line parameters")).collect();
    let ours =
        ["hugepage", "numa_balancing", "nvme.", "amd_pstate", "cpufreq", "iommu", "transparent_hugepage", "cstate"];
    ensure!(
        !unknown.iter().any(|line| ours.iter().any(|word| line.contains(word))),
        "unknown to the kernel: {unknown:?}"
    );
    Ok(())
}

fn layers(_: &Settings, guest: &mut Guest) -> Result<()> {
    let text = guest.agent.read("/etc/extensions.yaml")?;
    for name in ["solana-optimizer", "modules.dep"] {
        ensure!(text.contains(name), "no layer {name} in:\n{text}");
    }
    let report: serde_json::Value = serde_json::from_value(guest.agent.expect(&Request::Report)?)?;
    let report: serde_json::Value = serde_json::from_str(report.as_str().context("no report")?)?;
    ensure!(report["layers"].as_array().is_some_and(|layers| layers.len() >= 3), "layers: {}", report["layers"]);
    let mounts = guest.agent.read("/proc/mounts")?;
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).context("no root mount")?;
    ensure!(root.starts_with("overlay / overlay ro"), "the root is {root}");
    Ok(())
}

fn module_loaded(_: &Settings, guest: &mut Guest) -> Result<()> {
    let modules = guest.agent.read("/proc/modules")?;
    ensure!(module_names(&modules).contains(&"solana_optimizer"), "loaded: {modules}");
    // Out of tree (4096) is true; unsigned (8192) or forced (2) is not (Documentation/admin-guide/tainted-kernels.rst).
    let taint = guest.agent.read_number("/proc/sys/kernel/tainted")?;
    ensure!(taint & !4096 == 0, "the kernel is tainted with {taint}");
    Ok(())
}

fn sysctl_names(_: &Settings, guest: &mut Guest) -> Result<()> {
    let read_only = ["hugepages_efficiency", "hugepages_free", "hugepages_total", "last_action", "memory_pressure"];
    let names = guest.agent.list("/proc/sys/solana")?;
    for (name, mode) in WRITABLE.iter().map(|&(n, _)| (n, 0o644)).chain(read_only.map(|n| (n, 0o444))) {
        ensure!(names.iter().any(|there| there == name), "{name} is missing in {names:?}");
        let is = guest.agent.mode(&format!("/proc/sys/solana/{name}"))? & 0o777;
        ensure!(is == mode, "{name} has mode {is:o}");
    }
    let defaults = [("dynamic", "0"), ("pressure_high", "15"), ("pressure_low", "10"), ("cache_hit_rate", "unknown")];
    for (name, value) in defaults {
        let is = guest.agent.read(&format!("/proc/sys/solana/{name}"))?;
        ensure!(is == value, "{name} is {is:?} after loading");
    }
    Ok(())
}

fn huge_pages(_: &Settings, guest: &mut Guest) -> Result<()> {
    let info = meminfo(&guest.agent.read("/proc/meminfo")?);
    let value = |name: &str| info.get(name).copied().unwrap_or_default();
    ensure!(value("HugePages_Total") == POOL, "HugePages_Total: {}", value("HugePages_Total"));
    ensure!(value("HugePages_Free") >= 49_000, "HugePages_Free: {}", value("HugePages_Free"));
    ensure!(value("Hugepagesize") == 2048, "Hugepagesize: {}", value("Hugepagesize"));
    ensure!(value("MemTotal") > 120 << 20, "MemTotal: {} kB", value("MemTotal"));
    let mut sum = 0;
    for node in 0..2 {
        let path = format!("/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/nr_hugepages");
        let pages = guest.agent.read_number(&path)?;
        ensure!(pages > 0, "node {node} has no huge page");
        sum += pages;
    }
    ensure!(sum == POOL, "the nodes have {sum} pages in total");
    Ok(())
}

fn target(_: &Settings, guest: &mut Guest) -> Result<()> {
    for (name, wanted) in [("hugepages_target", POOL), ("hugepages_total", POOL), ("hugepages_floor", POOL)] {
        let value = guest.agent.read_number(&format!("/proc/sys/solana/{name}"))?;
        ensure!(value == wanted, "{name} is {value}");
    }
    Ok(())
}

fn numa_balancing(_: &Settings, guest: &mut Guest) -> Result<()> {
    ensure!(!guest.vm.console().contains("Unable to parse numa_balancing"), "the kernel rejected numa_balancing=1");
    let nodes = guest.agent.read("/sys/devices/system/node/online")?;
    ensure!(nodes == "0-1", "nodes: {nodes}");
    let (kernel, ours) = ("/proc/sys/kernel/numa_balancing", "/proc/sys/solana/numa_balancing");
    for value in ["1", "0", "1"] {
        guest.agent.set(ours, value)?;
        let state = [guest.agent.read(kernel)?, guest.agent.read(ours)?];
        ensure!(state == [value, value], "wrote {value}, kernel and module show {state:?}");
    }
    guest.agent.set(kernel, "0")?;
    ensure!(guest.agent.read(ours)? == "0", "the module does not show the kernel's state");
    guest.agent.set(kernel, "1")
}

fn cpus(_: &Settings, guest: &mut Guest) -> Result<()> {
    let online = guest.agent.read("/sys/devices/system/cpu/online")?;
    let present = guest.agent.read("/sys/devices/system/cpu/present")?;
    ensure!(online == present && online == "0-1", "present {present}, online {online}");
    Ok(())
}

/// Returns the network interfaces of a driver.
fn interfaces(guest: &mut Guest, driver: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in guest.agent.list("/sys/class/net")? {
        let modalias = guest.agent.call(&Request::Read { path: format!("/sys/class/net/{name}/device/uevent") })?;
        let text = modalias.ok().and_then(|value| harness::hex::decode(value.as_str()?)).unwrap_or_default();
        if String::from_utf8_lossy(&text).lines().any(|line| line == format!("DRIVER={driver}")) {
            found.push(name);
        }
    }
    Ok(found)
}

fn sriov(_: &Settings, guest: &mut Guest) -> Result<()> {
    let physical = interfaces(guest, "igb")?;
    let [port] = physical.as_slice() else { anyhow::bail!("interfaces of igb: {physical:?}") };
    let device = format!("/sys/class/net/{port}/device");
    let total = guest.agent.read_number(&format!("{device}/sriov_totalvfs"))?;
    ensure!(total == 7, "sriov_totalvfs is {total}");
    ensure!(interfaces(guest, "igbvf")?.is_empty(), "virtual functions exist before they are created");
    guest.agent.set(&format!("{device}/sriov_numvfs"), "2")?;
    guest.agent.expect(&Request::Coldplug)?;
    let functions = interfaces(guest, "igbvf")?;
    ensure!(functions.len() == 2, "interfaces of igbvf: {functions:?}");
    guest.agent.set(&format!("{device}/sriov_numvfs"), "0")?;
    ensure!(interfaces(guest, "igbvf")?.is_empty(), "virtual functions are left after their removal");
    Ok(())
}

fn nvme(_: &Settings, guest: &mut Guest) -> Result<()> {
    let disks: Vec<String> =
        guest.agent.list("/sys/block")?.into_iter().filter(|name| name.starts_with("nvme")).collect();
    ensure!(!disks.is_empty(), "no NVMe disk");
    for disk in disks {
        let requests = guest.agent.read_number(&format!("/sys/block/{disk}/queue/nr_requests"))?;
        ensure!(requests >= 1024, "nr_requests of {disk} is {requests}");
    }
    Ok(())
}

fn sysctls(_: &Settings, guest: &mut Guest) -> Result<()> {
    ensure!(guest.agent.read("/proc/sys/net/ipv4/tcp_congestion_control")? == "bbr", "bbr is not active");
    ensure!(guest.agent.read("/proc/sys/net/core/default_qdisc")? == "fq", "fq is not active");
    ensure!(guest.agent.read_number("/proc/sys/net/core/rmem_max")? == 268_435_456, "wrong rmem_max");
    #[derive(serde::Deserialize)]
    struct Testbed {
        sysctls: BTreeMap<String, String>,
    }
    let text = guest.agent.read_bytes("/etc/testbed.json")?;
    let config: Testbed = serde_json::from_slice(&text).context("malformed testbed.json")?;
    for (name, wanted) in config.sysctls {
        let value = guest.agent.read(&format!("/proc/sys/{}", name.replace('.', "/")))?;
        let same = value.split_whitespace().eq(wanted.split_whitespace());
        ensure!(same, "{name} is {value:?}, the preset sets {wanted:?}");
    }
    Ok(())
}

fn required_options(_: &Settings, guest: &mut Guest) -> Result<()> {
    let bytes = guest.agent.read_bytes("/proc/config.gz")?;
    let mut config = String::new();
    GzDecoder::new(bytes.as_slice()).read_to_string(&mut config)?;
    let unmet = kconfig::unmet(include_str!("../data/required-options.config"), &config);
    ensure!(unmet.is_empty(), "missing in the running kernel: {unmet:?}");
    Ok(())
}
