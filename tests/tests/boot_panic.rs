//! A guest that panics ends the test at once, with its log.

use anyhow::ensure;
use harness::console::End;
use harness::installer::Parts;
use harness::protocol::Request;
use harness::settings::{OUT, Settings};
use harness::vm::{Media, Vm};
use harness::{Result, machines, scenario};
use libtest_mimic::{Failed, Trial};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);

type Claim = fn(&Settings) -> Result<()>;

fn main() -> ExitCode {
    let settings = Settings::from_env(OUT, Path::new(env!("CARGO_TARGET_TMPDIR"))).map(Arc::new);
    let claims: [(&str, Claim); 2] = [
        ("a_panic_ends_the_test_at_once_with_its_log", panic_ends_at_once),
        ("machined_refuses_a_command_line_without_hardening", refusal_panics),
    ];
    let trials = claims.map(|(name, claim)| {
        let settings = settings.clone();
        let ignored = settings.is_none();
        let body = move || settings.map_or(Ok(()), |s| claim(&s).map_err(|err| Failed::from(format!("{err:#}"))));
        Trial::test(name, body).with_ignored_flag(ignored)
    });
    scenario::conclude(trials.into()).exit_code()
}

fn start(settings: &Settings, name: &str, cmdline: &str) -> Result<Vm> {
    let parts = Parts::unpack(&settings.sandbox, &settings.out, &settings.work.join("panic-parts"))?;
    let media = Media::Direct { kernel: parts.path("vmlinuz"), initramfs: parts.path("initramfs.xz") };
    Vm::start(settings, name, &machines::minimal(cmdline), &media, LIMIT)
}

fn panic_ends_at_once(settings: &Settings) -> Result<()> {
    let vm = start(settings, "panic", "slab_nomerge pti=on")?;
    vm.agent()?.send(&Request::Panic)?;
    let asked = Instant::now();
    let end = vm.wait();
    ensure!(matches!(&end, End::Panic(line) if line.contains("sysrq triggered crash")), "{end:?}\n{}", vm.summary());
    ensure!(asked.elapsed() < Duration::from_secs(10), "it took {:?} to see the panic", asked.elapsed());
    let log = fs_err::read_to_string(vm.log_path())?;
    ensure!(log.contains("Kernel panic") && log.contains("Call Trace"), "the log lacks the panic:\n{log}");
    Ok(())
}

/// Talos's machined does the same; it is the guest's way to say that it cannot go on.
fn refusal_panics(settings: &Settings) -> Result<()> {
    let vm = start(settings, "refusal", "slab_nomerge pti=off")?;
    let err = vm.agent().map(drop).expect_err("an agent without pti=on");
    ensure!(format!("{err:#}").contains("log:"), "the error does not name the log: {err:#}");
    let end = vm.wait();
    ensure!(matches!(&end, End::Panic(line) if line.contains("Attempted to kill init")), "{end:?}\n{}", vm.summary());
    ensure!(vm.console().contains("the kernel command line lacks pti=on"), "{}", vm.summary());
    ensure!(vm.age() < LIMIT / 2, "it took {:?}", vm.age());
    Ok(())
}
