//! A guest that panics ends its test at once, with its log.

use anyhow::ensure;
use harness::console::End;
use harness::installer::Parts;
use harness::protocol::Request;
use harness::settings::{OUT, Settings};
use harness::vm::Vm;
use harness::{Result, machines, scenario};
use libtest_mimic::{Failed, Trial};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);

type Case = fn(&Settings) -> Result<()>;

fn main() -> ExitCode {
    let settings = Settings::from_env(OUT).map(Arc::new);
    let cases: [(&str, Case); 2] = [
        ("a_panic_ends_the_test_at_once_with_its_log", panic_ends_at_once),
        ("machined_rejects_a_command_line_without_hardening", missing_hardening_panics),
    ];
    let trials = cases.map(|(name, case)| {
        let settings = settings.clone();
        let ignored = settings.is_none();
        let body = move || settings.map_or(Ok(()), |s| case(&s).map_err(|err| Failed::from(format!("{err:#}"))));
        Trial::test(name, body).with_ignored_flag(ignored)
    });
    scenario::conclude(trials.into()).exit_code()
}

fn start(settings: &Settings, name: &str, cmdline: &str) -> Result<Vm> {
    let parts = Parts::unpack(&settings.sandbox, &settings.out, &settings.work.join("panic-parts"))?;
    Vm::start(settings, name, &machines::minimal(cmdline), &parts.media(), LIMIT)
}

fn panic_ends_at_once(settings: &Settings) -> Result<()> {
    let vm = start(settings, "panic", "slab_nomerge pti=on")?;
    vm.agent()?.send(&Request::Panic)?;
    let requested = Instant::now();
    let end = vm.wait();
    ensure!(matches!(&end, End::Panic(line) if line.contains("sysrq triggered crash")), "{end:?}\n{}", vm.summary());
    ensure!(requested.elapsed() < Duration::from_secs(10), "the panic was detected after {:?}", requested.elapsed());
    let log = fs_err::read_to_string(vm.log_path())?;
    ensure!(log.contains("Kernel panic") && log.contains("Call Trace"), "no panic in the log:\n{log}");
    Ok(())
}

/// Talos's machined does the same: PID 1 exits on a fatal error, which panics the kernel.
fn missing_hardening_panics(settings: &Settings) -> Result<()> {
    let vm = start(settings, "hardening", "slab_nomerge pti=off")?;
    let err = vm.agent().map(drop).expect_err("the agent must not start without pti=on");
    ensure!(format!("{err:#}").contains("log:"), "no path of the log in the error: {err:#}");
    let end = vm.wait();
    ensure!(matches!(&end, End::Panic(line) if line.contains("Attempted to kill init")), "{end:?}\n{}", vm.summary());
    ensure!(vm.console().contains("missing on the kernel command line: pti=on"), "{}", vm.summary());
    ensure!(vm.age() < LIMIT / 2, "the machine ran for {:?}", vm.age());
    Ok(())
}
