//! Builds what the tests need, runs them, and counts their results.

mod skips;
mod tally;
mod times;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use xshell::Shell;

use crate::Tool;
use skips::Allowed;
use tally::Tally;
use times::{Programs, Times};

/// Outputs next to `_out`, on the testbed: of profile `vm`, and of profile `debug`.
const TESTBED_OUT: &str = "_out-testbed";
const DEBUG_OUT: &str = "_out-debug";

/// Where kernel-hardening-checker's reports are kept for the tests.
const REPORTS: &str = "target/hardening";

/// Which skips pass, and why.
const ALLOWED: &str = "tests/allowed-skips.toml";

/// A named set of tests. One test program runs at a time, and the boots one machine at a time: two cores must be enough.
struct Suite {
    name: &'static str,
    /// Whether `./x test` without a name runs it.
    default: bool,
    /// Variable without which its tests are skipped: they take longer than the others.
    variable: Option<&'static str>,
    dir: &'static str,
    /// Arguments of cargo.
    cargo: &'static str,
}

const SUITES: [Suite; 8] = [
    Suite {
        name: "guest",
        default: true,
        variable: None,
        dir: "tests/guest",
        cargo: "test --locked --quiet --no-fail-fast",
    },
    Suite {
        name: "workspace",
        default: true,
        variable: None,
        dir: ".",
        cargo: "test --workspace --locked --no-fail-fast",
    },
    Suite {
        name: "boots",
        default: false,
        variable: None,
        dir: ".",
        cargo: "test -p solana-talos-tests --locked --no-fail-fast --test boot_*",
    },
    Suite {
        name: "lifecycle",
        default: false,
        variable: None,
        dir: ".",
        cargo: "test -p solana-talos-tests --locked --no-fail-fast --test talos_lifecycle",
    },
    Suite {
        name: "stock",
        default: false,
        variable: Some("SOLANA_TALOS_STOCK"),
        dir: ".",
        cargo: "test -p solana-talos-tests --locked --no-fail-fast --test talos_lifecycle",
    },
    Suite {
        name: "power-cuts",
        default: false,
        variable: Some("SOLANA_TALOS_POWER_CUTS"),
        dir: ".",
        cargo: "test -p solana-talos-tests --locked --no-fail-fast --test talos_power_cut",
    },
    Suite {
        name: "recovery",
        default: false,
        variable: Some("SOLANA_TALOS_RECOVERY"),
        dir: ".",
        cargo: "test -p solana-talos-tests --locked --no-fail-fast --test talos_recovery",
    },
    Suite {
        name: "kubernetes",
        default: false,
        variable: Some("SOLANA_TALOS_KUBERNETES"),
        dir: ".",
        cargo: "test -p solana-talos-tests --locked --no-fail-fast --test talos_kubernetes",
    },
];

#[derive(Args, Debug)]
pub struct Options {
    /// Sets of tests to run [default: guest and workspace, which contain all tests]
    #[arg(value_name = "SET", value_parser = SUITES.map(|suite| suite.name))]
    sets: Vec<String>,
    /// Also compile the kernel without network, and compare
    #[arg(long)]
    full: bool,
}

pub fn run(shell: &Shell, options: &Options) -> Result<()> {
    let tool = Tool::build(shell)?;
    let mut times = Times::default();
    let mut run = |words: &str| times.measure(words, || tool.run(words));
    // What tests/tests/offline.rs makes a bundle of.
    run("fetch")?;
    run(crate::BUILD)?;
    run(&format!("{} --base testbed --out {TESTBED_OUT}", crate::BUILD))?;
    run(&format!("{} --base testbed --profile debug --out {DEBUG_OUT}", crate::BUILD))?;
    for profile in ["vm", "debug", "metal"] {
        run(&format!("kernel check --profile {profile}"))?;
    }
    for profile in ["vm", "metal"] {
        run(&format!("kernel harden --profile {profile} --report {REPORTS}"))?;
    }
    run("toolchain check")?;
    let root = shell.current_dir();
    let record = tempfile::NamedTempFile::new()?;
    let _full = options.full.then(|| shell.push_env("SOLANA_TALOS_FULL", "1"));
    let _rootfs = shell.push_env("SOLANA_TALOS_ROOTFS", tool.read("toolchain path")?);
    let _source = shell.push_env("SOLANA_TALOS_KERNEL_SOURCE", tool.read("kernel source")?);
    let _program = shell.push_env("SOLANA_TALOS_PROGRAM", &tool.program);
    let _config = shell.push_env("SOLANA_TALOS_UPSTREAM_CONFIG", tool.read("kernel base --profile metal")?);
    let _reports = shell.push_env("SOLANA_TALOS_HARDENING_REPORTS", root.join(REPORTS));
    let _out = shell.push_env("SOLANA_TALOS_OUT", root.join(TESTBED_OUT));
    let _talos = shell.push_env("SOLANA_TALOS_TALOS_OUT", root.join("_out"));
    let _debug = shell.push_env("SOLANA_TALOS_DEBUG_OUT", root.join(DEBUG_OUT));
    let _record = shell.push_env(skip::RECORD, record.path());
    let mut tally = Tally::default();
    for suite in SUITES.iter().filter(|suite| chosen(suite, &options.sets)) {
        let (suite, programs) = run_suite(shell, suite)?;
        tally.add(&suite);
        times.extend(programs);
    }
    print!("{times}");
    conclude(shell, tally, record.path())
}

fn chosen(suite: &Suite, sets: &[String]) -> bool {
    if sets.is_empty() { suite.default } else { sets.iter().any(|set| set == suite.name) }
}

/// Runs a set and passes its output on; a set that fails does not stop the next one.
fn run_suite(shell: &Shell, suite: &Suite) -> Result<(Tally, Programs)> {
    let _requested = suite.variable.map(|variable| shell.push_env(variable, "1"));
    let cargo: Command = shell.cmd("cargo").args(suite.cargo.split(' ')).into();
    count(cargo, &shell.current_dir().join(suite.dir))
}

fn count(mut command: Command, dir: &Path) -> Result<(Tally, Programs)> {
    let command = command.current_dir(dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let errors = child.stderr.take().context("cargo has no standard error")?;
    let programs = std::thread::spawn(move || {
        let mut programs = Programs::default();
        for line in BufReader::new(errors).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line);
            programs.line(&line);
            eprintln!("{line}");
        }
        programs.ended();
        programs
    });
    let mut tally = Tally::default();
    let mut out = std::io::stdout();
    for line in BufReader::new(child.stdout.take().context("cargo has no standard output")?).split(b'\n') {
        let line = line?;
        tally.line(&String::from_utf8_lossy(&line));
        out.write_all(&[&line[..], b"\n"].concat())?;
    }
    tally.ended(child.wait()?.success());
    Ok((tally, programs.join().unwrap_or_default()))
}

/// Prints the skips and the closing line, and fails unless all passed or was allowed to be skipped.
fn conclude(shell: &Shell, mut tally: Tally, record: &Path) -> Result<()> {
    let allowed = Allowed::parse(&shell.read_file(ALLOWED)?).with_context(|| format!("{ALLOWED} is malformed"))?;
    let found = skips::sort(&shell.read_file(record)?, &allowed, crate::repro::is_root(shell)?, tally.ignored);
    tally.returned_early(found.tests);
    found.allowed.iter().for_each(|line| println!("skipped, allowed: {line}"));
    found.unexpected.iter().for_each(|line| println!("skipped, NOT allowed: {line}"));
    println!("{tally}");
    ensure!(tally.failed == 0, "{} tests failed", tally.failed);
    let unexpected = found.unexpected.len();
    ensure!(
        unexpected == 0,
        "{unexpected} skips are not in {ALLOWED}: provide what the tests need, or add the reason there"
    );
    Ok(())
}
