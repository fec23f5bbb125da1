//! Runs the module on the debug kernel with KASAN, lockdep, kmemleak and sleep-in-atomic checks; any report ends the machine and the test.

use anyhow::{Context as _, ensure};
use harness::installer::Parts;
use harness::protocol::{Request, Worker};
use harness::scenario::Guest;
use harness::settings::{DEBUG_OUT, Settings};
use harness::sysctl::{self, DIR};
use harness::vm::Vm;
use harness::{Result, ktap, machines, procfs, scenario};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(1800);
const NAME: &str = "solana_optimizer";
const TIMES: u32 = 200;

fn main() -> ExitCode {
    let settings = Settings::from_env(DEBUG_OUT);
    scenario::run(
        settings,
        start,
        &[
            ("the_debug_checks_are_enabled", checks_enabled),
            ("kunit_and_the_rust_doctests_pass", kunit),
            ("the_sysctls_work_under_kasan_and_lockdep", sysctls),
            ("resizing_works_under_kasan_and_lockdep", resizing),
            ("loading_and_unloading_200_times_leaks_nothing", cycles),
            ("loading_and_unloading_during_writes_is_safe", cycles_with_writers),
            ("nothing_was_reported", nothing_reported),
        ],
    )
}

/// Boots the debug build's kernel, or the parts of its UKI if it has an installer.
fn start(settings: &Settings) -> Result<Vm> {
    let parts = if settings.out.join("installer.oci").exists() {
        Parts::unpack(&settings.sandbox, &settings.out, &settings.work.join("debug-parts"))?
    } else {
        Parts { dir: settings.out.clone() }
    };
    Vm::start(settings, "debug", &machines::debug(), &parts.media(), LIMIT)
}

fn module_path(guest: &mut Guest) -> Result<String> {
    let release = guest.agent.read("/proc/sys/kernel/osrelease")?;
    Ok(format!("/usr/lib/modules/{release}/extras/{NAME}.ko"))
}

/// A leak test on a kernel without leak detection would always pass.
fn checks_enabled(_: &Settings, guest: &mut Guest) -> Result<()> {
    let bytes = guest.agent.read_bytes("/proc/config.gz")?;
    let mut config = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(bytes.as_slice()), &mut config)?;
    let required = "CONFIG_KASAN=y\nCONFIG_PROVE_LOCKING=y\nCONFIG_DEBUG_KMEMLEAK=y\nCONFIG_DEBUG_ATOMIC_SLEEP=y\nCONFIG_KUNIT=y\nCONFIG_RUST_KERNEL_DOCTESTS=y";
    let unmet = harness::kconfig::unmet(required, &config);
    ensure!(unmet.is_empty(), "missing in the debug kernel: {unmet:?}");
    lockdep_is_on(guest)
}

/// lockdep turns itself off after its first report (kernel/locking/lockdep_proc.c).
fn lockdep_is_on(guest: &mut Guest) -> Result<()> {
    let stats = guest.agent.read("/proc/lockdep_stats")?;
    let line = stats.lines().find(|line| line.trim_start().starts_with("debug_locks:")).context("no debug_locks")?;
    ensure!(line.trim_end().ends_with('1'), "lockdep is off: {line}");
    Ok(())
}

fn kunit(_: &Settings, guest: &mut Guest) -> Result<()> {
    let (_, log) = guest.agent.dmesg(0)?;
    let summary = ktap::summarize(&log);
    ensure!(summary.failed.is_empty(), "failed: {:?}", summary.failed);
    ensure!(summary.suites.iter().any(|suite| suite == "rust_doctests_kernel"), "suites: {:?}", summary.suites);
    ensure!(summary.passed > 50, "only {} cases ran", summary.passed);
    eprintln!("KUnit: {} cases passed, {} skipped, suites {:?}", summary.passed, summary.skipped, summary.suites);
    Ok(())
}

fn sysctls(_: &Settings, guest: &mut Guest) -> Result<()> {
    sysctl::check_valid_writes(&mut guest.agent)?;
    sysctl::check_malformed_writes(&mut guest.agent)?;
    sysctl::check_offset_writes(&mut guest.agent)?;
    sysctl::check_parallel_writers(&mut guest.agent)
}

fn resizing(_: &Settings, guest: &mut Guest) -> Result<()> {
    let target = format!("{DIR}/hugepages_target");
    let before = guest.agent.read_number(&target)?;
    let values = (0..8).map(|n| (before - n * 8).to_string()).collect();
    let job = guest.agent.spawn(Worker::Writers { path: target.clone(), values, writers: 4, rounds: 10 })?;
    for _ in 0..20 {
        for name in guest.agent.list(DIR)? {
            guest.agent.read(&format!("{DIR}/{name}"))?;
        }
    }
    guest.agent.wait(job)?;
    guest.agent.set(&target, &before.to_string())?;
    std::thread::sleep(Duration::from_secs(5));
    let pool = guest.agent.read_number("/proc/sys/vm/nr_hugepages")?;
    ensure!(pool == before, "the pool has {pool} pages, the target is {before}");
    Ok(())
}

/// Returns kmemleak's report. Scans twice, because kmemleak reports only objects older than five seconds (mm/kmemleak.c).
fn leaks(guest: &mut Guest) -> Result<String> {
    const FILE: &str = "/sys/kernel/debug/kmemleak";
    for _ in 0..2 {
        guest.agent.set(FILE, "scan")?;
        std::thread::sleep(Duration::from_secs(6));
    }
    guest.agent.read(FILE)
}

/// Returns the active objects of each slab cache. KASAN quarantines freed objects; shrinking a cache releases its own
/// (mm/kasan/quarantine.c), so that the counts are comparable.
fn slabs(guest: &mut Guest) -> Result<BTreeMap<String, u64>> {
    for cache in guest.agent.list("/sys/kernel/slab")? {
        guest.agent.set(&format!("/sys/kernel/slab/{cache}/shrink"), "1")?;
    }
    Ok(procfs::slabs(&guest.agent.read("/proc/slabinfo")?))
}

fn cycles(_: &Settings, guest: &mut Guest) -> Result<()> {
    let path = module_path(guest)?;
    let cycle = |times| Request::Cycle { path: path.clone(), name: NAME.to_owned(), times };
    guest.agent.expect(&Request::DeleteModule { name: NAME.to_owned() })?;
    // One-time allocations are done after the first rounds.
    guest.agent.expect(&cycle(10))?;
    leaks(guest)?;
    guest.agent.set("/sys/kernel/debug/kmemleak", "clear")?;
    let before = slabs(guest)?;
    let pool = guest.agent.read_number("/proc/sys/vm/nr_hugepages")?;

    guest.agent.expect(&cycle(TIMES))?;

    let found = leaks(guest)?;
    ensure!(found.is_empty(), "kmemleak found:\n{found}");
    let after = slabs(guest)?;
    let grown: Vec<_> = after
        .iter()
        .map(|(name, &now)| (name, before.get(name).copied().unwrap_or_default(), now))
        .filter(|&(_, then, now)| now >= then + u64::from(TIMES))
        .collect();
    ensure!(grown.is_empty(), "slab caches that grew by an object in each of {TIMES} rounds: {grown:?}");
    ensure!(guest.agent.read_number("/proc/sys/vm/nr_hugepages")? == pool, "the pool size changed");
    ensure!(!guest.agent.list("/proc/sys")?.contains(&"solana".to_owned()), "/proc/sys/solana is left after unloading");
    Ok(())
}

fn cycles_with_writers(_: &Settings, guest: &mut Guest) -> Result<()> {
    let path = module_path(guest)?;
    let values = ["20", "bad", "30"].map(str::to_owned).to_vec();
    let file = format!("{DIR}/pressure_high");
    let job = guest.agent.spawn(Worker::Writers { path: file, values, writers: 3, rounds: 2000 })?;
    guest.agent.expect(&Request::Cycle { path: path.clone(), name: NAME.to_owned(), times: 40 })?;
    let counts = guest.agent.wait(job)?;
    ensure!(counts.contains("ok") || counts.contains("22"), "no write reached the module: {counts}");
    guest.agent.expect(&Request::LoadFile { path, parameters: String::new() }).map(drop)
}

/// lockdep must still be on, and the log must contain no report.
fn nothing_reported(_: &Settings, guest: &mut Guest) -> Result<()> {
    lockdep_is_on(guest)?;
    let (_, log) = guest.agent.dmesg(0)?;
    let found: Vec<&str> = log.lines().filter(|line| harness::console::classify(line).is_some()).collect();
    ensure!(found.is_empty(), "reports: {found:?}");
    Ok(())
}
