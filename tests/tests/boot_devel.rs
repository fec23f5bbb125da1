//! Loads sample modules in C and Rust, built with the kernel-devel image, on the kernel of the same build.

use anyhow::ensure;
use harness::agent::{EINVAL, EKEYREJECTED};
use harness::installer::Parts;
use harness::modules::{Builder, sample};
use harness::procfs::module_names;
use harness::protocol::Request;
use harness::scenario::Guest;
use harness::settings::{OUT, Settings};
use harness::vm::Vm;
use harness::{Result, machines, scenario};
use std::process::ExitCode;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(240);

fn main() -> ExitCode {
    let settings = Settings::with_program(OUT);
    scenario::run(
        settings,
        start,
        &[
            ("the_c_sample_loads_and_works", c_sample),
            ("the_rust_sample_loads_and_works", rust_sample),
            ("a_sample_signed_with_another_key_is_rejected", other_key),
        ],
    )
}

fn start(settings: &Settings) -> Result<Vm> {
    let parts = Parts::unpack(&settings.sandbox, &settings.out, &settings.work.join("devel-parts"))?;
    Vm::start(settings, "devel", &machines::minimal("slab_nomerge pti=on"), &parts.media(), LIMIT)
}

fn c_sample(settings: &Settings, guest: &mut Guest) -> Result<()> {
    let builder = Builder::new(settings, "devel-c")?;
    let (module, output) = builder.build(&sample("c"), "sample_c.ko", &builder.keys)?;
    let agent = &mut guest.agent;
    let release = agent.read("/proc/sys/kernel/osrelease")?;
    ensure!(
        output.contains(&format!("vermagic  {release} SMP")) && output.contains("signer    CN="),
        "output: {output}"
    );
    ensure!(!output.contains("warning"), "unexpected warning: {output}");
    ensure!(agent.load_module(&module)? == Ok(()), "cannot load the sample");
    ensure!(agent.read("/proc/sample_c")? == format!("144 on {release}"), "wrong content of /proc/sample_c");
    agent.expect(&Request::DeleteModule { name: "sample_c".to_owned() })?;
    ensure!(!agent.list("/proc")?.contains(&"sample_c".to_owned()), "/proc/sample_c is left after unloading");
    Ok(())
}

fn rust_sample(settings: &Settings, guest: &mut Guest) -> Result<()> {
    const SUM: &str = "/proc/sys/sample_rust/sum";
    let builder = Builder::new(settings, "devel-rust")?;
    let (module, _) = builder.build(&sample("rust"), "sample_rust.ko", &builder.keys)?;
    let agent = &mut guest.agent;
    ensure!(agent.load_module(&module)? == Ok(()), "cannot load the sample");
    for number in ["40", "2"] {
        agent.set(SUM, number)?;
    }
    ensure!(agent.write(SUM, "two")? == Err(EINVAL), "the sysctl accepted a word");
    ensure!(agent.read(SUM)? == "42", "wrong sum");
    agent.expect(&Request::DeleteModule { name: "sample_rust".to_owned() })?;
    ensure!(!module_names(&agent.read("/proc/modules")?).contains(&"sample_rust"), "the module is still loaded");
    Ok(())
}

fn other_key(settings: &Settings, guest: &mut Guest) -> Result<()> {
    let builder = Builder::new(settings, "devel-other")?;
    let (module, output) = builder.build(&sample("c"), "sample_c.ko", &builder.other_keys()?)?;
    ensure!(output.contains("will reject the module") && output.contains("unknown signer"), "no warning: {output}");
    let (since, _) = guest.agent.dmesg(0)?;
    let outcome = guest.agent.load_module(&module)?;
    ensure!(outcome == Err(EKEYREJECTED), "loading returned {outcome:?}");
    let (_, log) = guest.agent.dmesg(since)?;
    ensure!(log.to_lowercase().contains("module with unavailable key is rejected"), "kernel log: {log}");
    Ok(())
}
