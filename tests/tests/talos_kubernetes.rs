//! Kubernetes on a node with real Talos and the build's kernel: what pods get of huge pages, CPUs and io_uring, and that the controller of the
//! pool leaves them their pages.
//!
//! Kubernetes is built from its Go modules. One node of 4 GiB is the whole cluster; its steps build on each other.

use anyhow::{Context as _, ensure};
use harness::kubernetes::{CPUS, Cluster, POOL, Pod, Seccomp};
use harness::procfs::meminfo;
use harness::protocol::Sample;
use harness::settings::{KUBERNETES, Settings, TALOS_OUT};
use harness::{Result, steps};
use std::process::ExitCode;
use std::time::Duration;

/// The kubelet's name of the resource.
const PAGES: &str = "hugepages-2Mi";
/// What the pods ask for, and the same in bytes and in pages.
const HELD: &str = "16Mi";
const HELD_BYTES: &str = "16777216";
const HELD_PAGES: u64 = 8;
/// One page more, in bytes.
const MORE_BYTES: &str = "18874368";
const ONE_PAGE: &str = "2097152";
/// What a pod's container prints when a system call fails with EPERM or ENOMEM.
const EPERM: &str = "errno 1";
const ENOMEM: &str = "errno 12";
/// The pod that holds huge pages while others run.
const HOLDER: &str = "holder";
/// Thresholds of the controller in per cent: below the pressure that the pods make, so that it acts at each decision, long before the kernel kills
/// a process.
const LOW: &str = "1";
const HIGH: &str = "3";
/// Memory that a pod under pressure leaves, in bytes.
const LEAVE: &str = "134217728";
/// A file that does not fit into the rest.
const FILE: &str = "/disk/file";
const FILE_BYTES: &str = "268435456";
/// How long it makes pressure, in seconds: first for nothing to happen, then for a step every ten seconds down to the held pages.
const SHORT: &str = "180";
const LONG: &str = "420";
/// Time limit of a pod that makes pressure: the node answers slowly meanwhile.
const PRESSURE: Duration = Duration::from_secs(1800);
/// The kubelet sends what has changed every ten seconds (kubelet configuration, nodeStatusUpdateFrequency).
const REPORTED: Duration = Duration::from_secs(60);
/// Time limit of what the node does at once when it is idle, and of a restart of the kubelet.
const SOON: Duration = Duration::from_secs(900);

fn main() -> ExitCode {
    let settings = Settings::requested("kubernetes", KUBERNETES, TALOS_OUT);
    steps::run(
        settings.map(Cluster::begin),
        &[
            ("the_node_becomes_ready", Cluster::start),
            ("the_kubelet_offers_the_pool_of_the_boot_argument", offered),
            ("a_pod_maps_the_huge_pages_that_it_asks_for", mapped),
            ("a_pod_gets_no_more_than_it_asks_for", refused),
            ("a_pod_that_asks_for_more_than_there_is_stays_pending", pending),
            ("a_guaranteed_pod_has_a_cpu_of_its_own", exclusive),
            ("io_uring_needs_a_profile_that_allows_it", io_uring),
            ("without_the_controller_pressure_changes_nothing", static_pool),
            ("the_controller_takes_no_page_that_a_pod_holds", dynamic_pool),
            ("the_kubelet_sees_another_size_of_the_pool_after_its_restart", capacity),
        ],
    )
}

/// A pod that asks for huge pages. The kubelet demands that it asks for memory or a CPU too.
fn with_pages<'a>(name: &'a str, arguments: &'a [&'a str]) -> Pod<'a> {
    Pod { name, arguments, resources: &[(PAGES, HELD), ("memory", "64Mi")], ..Pod::default() }
}

fn offered(cluster: &mut Cluster) -> Result<()> {
    let found = cluster.capacity(PAGES)?;
    ensure!(found == mebibytes(POOL), "the node offers {found}");
    Ok(())
}

/// So many pages, as Kubernetes writes the quantity.
fn mebibytes(pages: u64) -> String {
    format!("{}Mi", 2 * pages)
}

fn mapped(cluster: &mut Cluster) -> Result<()> {
    let anonymous = cluster.run(&with_pages("anonymous", &["huge-pages", HELD_BYTES]))?;
    ensure!(anonymous == "mapped", "anonymous: {anonymous}");
    let volumes = &[("/pages", "HugePages")];
    let file = cluster.run(&Pod { volumes, ..with_pages("file", &["huge-pages", HELD_BYTES, "/pages"]) })?;
    ensure!(file == "mapped", "in a file: {file}");
    Ok(())
}

fn refused(cluster: &mut Cluster) -> Result<()> {
    let more = cluster.run(&with_pages("more", &["huge-pages", MORE_BYTES]))?;
    ensure!(more == ENOMEM, "one page more than requested: {more}");
    let none = cluster.run(&Pod { name: "none", arguments: &["huge-pages", ONE_PAGE], ..Pod::default() })?;
    ensure!(none == ENOMEM, "one page without a request: {none}");
    Ok(())
}

fn pending(cluster: &mut Cluster) -> Result<()> {
    let (name, twice) = ("too-much", mebibytes(2 * POOL));
    let resources = &[(PAGES, &*twice), ("memory", "64Mi")];
    cluster.create(&Pod { resources, ..with_pages(name, &["huge-pages", ONE_PAGE]) })?;
    let refused = cluster.until(SOON, |kubectl| {
        let status = kubectl.get(&["pod", name])?["status"].take();
        ensure!(status["phase"] == "Pending", "{status}");
        Ok(status["conditions"][0]["message"].as_str().map(str::to_owned))
    })?;
    ensure!(refused.contains("Insufficient hugepages-2Mi"), "{refused}");
    cluster.remove(name)
}

/// The pod stays for the next steps: it holds huge pages too.
fn exclusive(cluster: &mut Cluster) -> Result<()> {
    let resources = &[("cpu", "1"), ("memory", "64Mi"), (PAGES, HELD)];
    cluster.create(&Pod { name: HOLDER, arguments: &["hold", HELD_BYTES], resources, ..Pod::default() })?;
    cluster.wait_for(HOLDER)?;
    let held = cluster.until(SOON, |_| Ok(samples(cluster)?.pop()))?;
    ensure!((held.total, held.total - held.free) == (POOL, HELD_PAGES), "{held:?}");
    let log = cluster.log(HOLDER)?;
    let own = cpus(&log)?;
    let shared = cluster.run(&Pod { name: "shared", arguments: &["cpus"], ..Pod::default() })?;
    let others = cpus(&shared)?;
    let fine = own.len() == 1 && own != [0] && others.len() + 1 == CPUS as usize && !others.contains(&own[0]);
    ensure!(fine, "the guaranteed pod has {own:?}, the other one {others:?}");
    Ok(())
}

/// The CPUs in the line `cpus 0,2-3` of a container.
fn cpus(log: &str) -> Result<Vec<u32>> {
    let list = log.lines().find_map(|line| line.strip_prefix("cpus ")).with_context(|| format!("no CPUs in {log}"))?;
    let mut cpus = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<u32>()?..=last.parse()?);
    }
    Ok(cpus)
}

fn io_uring(cluster: &mut Cluster) -> Result<()> {
    for (name, seccomp, wanted) in [
        ("unset", Seccomp::Unset, EPERM),
        ("runtime", Seccomp::Runtime, EPERM),
        ("local", Seccomp::Local("iouring.json"), "ring"),
    ] {
        let log = cluster.run(&Pod { name, arguments: &["io-uring"], seccomp, ..Pod::default() })?;
        // Mode 2 is a filter: also the profile that allows everything is one.
        ensure!(log.lines().eq(["seccomp 2", wanted]), "{name}: {log}");
    }
    Ok(())
}

/// The samples that the holder has printed; after its first line.
fn samples(cluster: &Cluster) -> Result<Vec<Sample>> {
    let log = cluster.log(HOLDER)?;
    log.lines().filter(|line| line.starts_with('{')).map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Makes memory pressure for so many seconds, and returns what the holder saw of it.
fn under_pressure(cluster: &Cluster, name: &str, seconds: &str) -> Result<Vec<Sample>> {
    let before = samples(cluster)?.len();
    let arguments = &["pressure", LEAVE, seconds, FILE, FILE_BYTES];
    let made = cluster.run_within(PRESSURE, &Pod { name, arguments, volumes: &[("/disk", "")], ..Pod::default() })?;
    let seen = samples(cluster)?.split_off(before);
    eprintln!("{name}: {made}");
    for sample in seen.iter().step_by(10) {
        eprintln!("{sample:?}");
    }
    let highest = seen.iter().filter_map(|sample| sample.pressure.parse::<f64>().ok()).fold(0.0, f64::max);
    let high: f64 = HIGH.parse()?;
    ensure!(highest >= high, "the pressure was at most {highest} %");
    // The container ends as soon as the content of its pages has changed.
    let lost = seen.iter().find(|sample| sample.total - sample.free < HELD_PAGES);
    ensure!(lost.is_none(), "pages of a pod were taken: {lost:?}");
    let status = cluster.until(SOON, |kubectl| Ok(Some(kubectl.get(&["pod", HOLDER])?["status"].take())))?;
    let container = &status["containerStatuses"][0];
    ensure!(status["phase"] == "Running" && container["restartCount"] == 0, "the holder: {status}");
    Ok(seen)
}

/// Sets sysctls of the module, and waits until they are in force.
fn set(cluster: &Cluster, file: &str, sysctls: &[(&str, &str)]) -> Result<()> {
    let lines: String = sysctls.iter().map(|(name, value)| format!("    solana.{name}: \"{value}\"\n")).collect();
    let patch = format!("machine:\n  sysctls:\n{lines}");
    // The node may still be busy.
    cluster.life.node.until(|_| cluster.life.patch(file, "no-reboot", &patch).map(Some))?;
    cluster.life.node.until(|talosctl| {
        for &(name, value) in sysctls {
            let found = talosctl.read(&format!("/proc/sys/solana/{name}"))?;
            ensure!(found == value, "{name} is {found:?}, not {value:?}");
        }
        Ok(Some(()))
    })
}

fn static_pool(cluster: &mut Cluster) -> Result<()> {
    // One after the other: the lower threshold has to stay below the upper one.
    set(cluster, "low.yaml", &[("pressure_low", LOW)])?;
    set(cluster, "high.yaml", &[("pressure_high", HIGH), ("hugepages_floor", "0")])?;
    let seen = under_pressure(cluster, "pressure-static", SHORT)?;
    let changed = seen.iter().find(|sample| sample.total != POOL || sample.shrinks != 0);
    ensure!(changed.is_none(), "the pool has changed with dynamic=0: {changed:?}");
    Ok(())
}

fn dynamic_pool(cluster: &mut Cluster) -> Result<()> {
    set(cluster, "dynamic.yaml", &[("dynamic", "1")])?;
    let seen = under_pressure(cluster, "pressure-dynamic", LONG)?;
    let lowest = seen.iter().map(|sample| sample.total).min().context("the holder has printed nothing")?;
    // Below that, it would have had to take pages that are held; without reaching it, this would prove nothing.
    ensure!(lowest == HELD_PAGES, "the pool had at least {lowest} pages, {HELD_PAGES} are held");
    cluster.remove(HOLDER)
}

/// What docs/node.md says in "Huge pages and the kubelet".
fn capacity(cluster: &mut Cluster) -> Result<()> {
    for pages in [POOL - 16, POOL + 16] {
        let value = pages.to_string();
        set(cluster, "target.yaml", &[("dynamic", "0"), ("hugepages_target", &value)])?;
        cluster.life.node.until(|talosctl| {
            let total = meminfo(&talosctl.read("/proc/meminfo")?)["HugePages_Total"];
            ensure!(total == pages, "HugePages_Total is {total}");
            Ok(Some(()))
        })?;
        std::thread::sleep(REPORTED);
        let offered = cluster.capacity(PAGES)?;
        ensure!(offered == mebibytes(POOL), "with {pages} pages and the same kubelet, the node offers {offered}");
    }
    cluster.life.node.talosctl.run(&["service", "kubelet", "restart"])?;
    let wanted = mebibytes(POOL + 16);
    cluster.until(SOON, |_| {
        let offered = cluster.capacity(PAGES)?;
        ensure!(offered == wanted, "the node offers {offered}, not {wanted}");
        Ok(Some(()))
    })
}
