//! Tests the module on a small guest: malformed writes, forged modules, the pool under real memory pressure.

use anyhow::{Context as _, bail, ensure};
use harness::agent::{Agent, EBADMSG, EKEYREJECTED};
use harness::installer::Parts;
use harness::machines::SMALL_POOL;
use harness::procfs::{meminfo, module_names};
use harness::protocol::{Request, Worker};
use harness::scenario::Guest;
use harness::settings::{OUT, Settings};
use harness::sysctl::{self, DIR};
use harness::vm::{Image, Vm};
use harness::{Result, machines, scenario, signature};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(1200);

fn main() -> ExitCode {
    let settings = Settings::from_env(OUT);
    scenario::run(
        settings,
        start,
        &[
            ("valid_writes_are_accepted", |_, guest| sysctl::check_valid_writes(&mut guest.agent)),
            ("malformed_writes_fail_with_einval_and_change_nothing", |_, guest| {
                sysctl::check_malformed_writes(&mut guest.agent)
            }),
            ("writes_at_an_offset_fail_with_einval_and_change_nothing", |_, guest| {
                sysctl::check_offset_writes(&mut guest.agent)
            }),
            ("parallel_writes_do_not_mix", |_, guest| sysctl::check_parallel_writers(&mut guest.agent)),
            ("a_written_target_resizes_the_pool", target_resizes),
            ("unloading_removes_the_files_and_the_signed_module_loads_again", unload_and_load),
            ("a_module_with_one_bit_flipped_is_rejected", flipped),
            ("a_module_signed_with_another_key_is_rejected", unknown_key),
            ("a_module_without_a_signature_is_rejected", unsigned),
            ("the_pool_under_pressure", under_pressure),
        ],
    )
}

fn start(settings: &Settings) -> Result<Vm> {
    let parts = Parts::unpack(&settings.sandbox, &settings.out, &settings.work.join("module-parts"))?;
    let media = parts.media().disk(machines::DISK, Image::Empty(4096));
    Vm::start(settings, "module", &machines::small(&parts.cmdline()?), &media, LIMIT)
}

fn number(agent: &mut Agent, name: &str) -> Result<u64> {
    agent.read_number(&format!("{DIR}/{name}"))
}

/// Polls until `poll` returns a value.
fn until<T>(what: &str, limit: Duration, mut poll: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = poll()? {
            return Ok(value);
        }
        if Instant::now() > end {
            bail!("{what}: timeout after {limit:?}");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn target_resizes(_: &Settings, guest: &mut Guest) -> Result<()> {
    let agent = &mut guest.agent;
    for wanted in [SMALL_POOL - 100, SMALL_POOL] {
        agent.set(&format!("{DIR}/hugepages_target"), &wanted.to_string())?;
        until(&format!("pool of {wanted} pages"), Duration::from_secs(60), || {
            Ok((agent.read_number("/proc/sys/vm/nr_hugepages")? == wanted).then_some(()))
        })?;
        ensure!(number(agent, "hugepages_total")? == wanted, "hugepages_total differs from nr_hugepages");
    }
    Ok(())
}

/// Reads the module that the image ships.
fn shipped(agent: &mut Agent) -> Result<Vec<u8>> {
    let release = agent.read("/proc/sys/kernel/osrelease")?;
    agent.read_bytes(&format!("/usr/lib/modules/{release}/extras/solana_optimizer.ko"))
}

fn unload_and_load(_: &Settings, guest: &mut Guest) -> Result<()> {
    let agent = &mut guest.agent;
    let module = shipped(agent)?;
    agent.expect(&Request::DeleteModule { name: "solana_optimizer".to_owned() })?;
    let left = agent.list("/proc/sys")?;
    ensure!(!left.contains(&"solana".to_owned()), "/proc/sys/solana is left after unloading");
    ensure!(agent.load_module(&module)? == Ok(()), "cannot load the shipped module again");
    let modules = agent.read("/proc/modules")?;
    ensure!(module_names(&modules).contains(&"solana_optimizer"), "loaded: {modules}");
    ensure!(number(agent, "hugepages_target")? == SMALL_POOL, "the target is not the pool size");
    Ok(())
}

/// The kernel must reject `bytes` because of its signature, and log `message`.
fn check_rejected(agent: &mut Agent, bytes: &[u8], message: &str) -> Result<()> {
    let (since, _) = agent.dmesg(0)?;
    let outcome = agent.load_module(bytes)?;
    ensure!(matches!(outcome, Err(EKEYREJECTED | EBADMSG)), "loading returned {outcome:?}");
    let (_, log) = agent.dmesg(since)?;
    ensure!(log.to_lowercase().contains(message), "no {message:?} in the kernel log:\n{log}");
    Ok(())
}

fn flipped(_: &Settings, guest: &mut Guest) -> Result<()> {
    let module = shipped(&mut guest.agent)?;
    let outcome = guest.agent.load_module(&signature::flip_bit(&module)?)?;
    ensure!(matches!(outcome, Err(EKEYREJECTED | EBADMSG)), "loading returned {outcome:?}");
    Ok(())
}

fn unknown_key(settings: &Settings, guest: &mut Guest) -> Result<()> {
    let module = shipped(&mut guest.agent)?;
    let forged = signature::sign_with_unknown_key(&settings.sandbox, &module, &settings.work.join("unknown-key"))?;
    check_rejected(&mut guest.agent, &forged, "module with unavailable key is rejected")
}

fn unsigned(_: &Settings, guest: &mut Guest) -> Result<()> {
    let module = shipped(&mut guest.agent)?;
    check_rejected(&mut guest.agent, signature::strip(&module)?, "unsigned module is rejected")
}

/// Pages that processes hold during the test: half of them in use, half only reserved.
const HELD: u64 = SMALL_POOL * 7 / 8;
const HUGE: u64 = 2 << 20;
const RESERVED: &str = "/run/reserved";
const FLOOR: u64 = SMALL_POOL - 3 * SMALL_POOL / 16;

/// Tests all rules in one run: each needs the pressure that the previous one built up.
fn under_pressure(_: &Settings, guest: &mut Guest) -> Result<()> {
    let agent = &mut guest.agent;
    agent.set(&format!("{DIR}/hugepages_floor"), &FLOOR.to_string())?;
    // Two emulated CPUs do not stall for memory as long as a validator's threads do.
    agent.set(&format!("{DIR}/pressure_low"), "3")?;
    agent.set(&format!("{DIR}/pressure_high"), "6")?;
    let user =
        Worker::HugePages { mount: "/dev/hugepages".to_owned(), bytes: HELD / 2 * HUGE, touch: true, seconds: 1200 };
    let user = agent.spawn(user)?;
    // The pages of a mount's min_size are counted as reserved.
    let options = format!("pagesize=2M,min_size={}", HELD / 2 * HUGE);
    agent.expect(&Request::Mount { kind: "hugetlbfs".to_owned(), target: RESERVED.to_owned(), options })?;
    let hog =
        Worker::Hog { leave: 40 << 20, readers: 8, file: "/dev/nvme0n1".to_owned(), length: 256 << 20, seconds: 1200 };
    let hog = agent.spawn(hog)?;
    let outcome = shrinks_under_pressure(agent, user);
    agent.kill(hog)?;
    outcome?;
    restores_without_pressure(agent)
}

fn shrinks_under_pressure(agent: &mut Agent, user: u32) -> Result<()> {
    high_pressure(agent)?;
    let info = meminfo(&agent.read("/proc/meminfo")?);
    let (used, reserved) = (info["HugePages_Total"] - info["HugePages_Free"], info["HugePages_Rsvd"]);
    ensure!((used, reserved) == (HELD / 2, HELD / 2), "{used} pages are in use, {reserved} reserved");
    stays_at("with dynamic=0", agent, SMALL_POOL, Duration::from_secs(20))?;
    ensure!(number(agent, "shrinks_total")? == 0, "it shrank with dynamic=0");

    agent.set(&format!("{DIR}/dynamic"), "1")?;
    shrinks_to(agent, SMALL_POOL - SMALL_POOL / 16)?;
    shrinks_to(agent, HELD)?;
    stays_at("with all pages in use or reserved", agent, HELD, Duration::from_secs(15))?;

    agent.kill(user)?;
    agent.expect(&Request::Unmount { target: RESERVED.to_owned() })?;
    shrinks_to(agent, FLOOR)?;
    high_pressure(agent)?;
    stays_at("at its floor", agent, FLOOR, Duration::from_secs(15))?;
    let last = agent.read(&format!("{DIR}/last_action"))?;
    ensure!(last.starts_with("shrink node 0:") && last.contains("memory pressure"), "last_action is {last:?}");
    Ok(())
}

fn high_pressure(agent: &mut Agent) -> Result<()> {
    let high: f64 = agent.read(&format!("{DIR}/pressure_high"))?.parse()?;
    until("memory pressure above pressure_high", Duration::from_secs(240), || {
        let text = agent.read(&format!("{DIR}/memory_pressure"))?;
        let pressure: f64 = text.parse().with_context(|| format!("memory_pressure is {text:?}"))?;
        Ok((pressure >= high).then_some(()))
    })
}

fn shrinks_to(agent: &mut Agent, pages: u64) -> Result<()> {
    let mut last = number(agent, "hugepages_total")?;
    until(&format!("pool of {pages} pages"), Duration::from_secs(90), || {
        let total = number(agent, "hugepages_total")?;
        ensure!(total <= last, "the pool grew from {last} to {total} pages under pressure");
        ensure!(total >= pages, "the pool shrank to {total}, below {pages}");
        last = total;
        Ok((total == pages).then_some(()))
    })
    .with_context(|| agent.read(&format!("{DIR}/decision")).unwrap_or_default())
}

fn stays_at(when: &str, agent: &mut Agent, pages: u64, how_long: Duration) -> Result<()> {
    let end = Instant::now() + how_long;
    while Instant::now() < end {
        let total = agent.read_number("/proc/sys/vm/nr_hugepages")?;
        ensure!(total == pages, "{when} the pool moved from {pages} to {total} pages");
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

fn restores_without_pressure(agent: &mut Agent) -> Result<()> {
    until("pool restored to its target", Duration::from_secs(240), || {
        Ok((number(agent, "hugepages_total")? == SMALL_POOL).then_some(()))
    })
    .with_context(|| agent.read(&format!("{DIR}/decision")).unwrap_or_default())?;
    let last = agent.read(&format!("{DIR}/last_action"))?;
    ensure!(last.starts_with("restore node 0:") && last.contains("pressure gone"), "last_action is {last:?}");
    ensure!(number(agent, "restores_total")? >= 3, "the pool was not restored in steps");
    agent.set(&format!("{DIR}/dynamic"), "0")
}
