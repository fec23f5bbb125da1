//! Runs the fuzz targets of `crates/fuzz/` on stable Rust: coverage is a matter of compiler flags, the engine is libFuzzer.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};
use clap::Args;
use xshell::{Shell, cmd};

/// Coverage counters and comparisons for libFuzzer. Addresses are not checked: what is fuzzed has no unsafe code.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks --cfg fuzzing";
/// A build for a named target keeps the flags away from build scripts and macros.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Bytes of memory that one input may cost, in MiB; libFuzzer's own tables are in it.
const MEMORY: u32 = 2048;

#[derive(Args, Debug)]
pub struct Options {
    /// Targets to run [default: all]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Run time per target, in seconds
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
    /// Number of targets run at the same time [default: number of processors]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

pub fn run(shell: &Shell, options: &Options) -> Result<()> {
    let known = targets(shell)?;
    for target in &options.targets {
        ensure!(known.contains(target), "unknown fuzz target {target}; use one of: {}", known.join(", "));
    }
    let chosen = if options.targets.is_empty() { &known } else { &options.targets };
    let _fuzz = shell.push_dir("crates/fuzz/libfuzzer");
    // The flags are unstable; this makes the stable compiler accept them.
    let _bootstrap = shell.push_env("RUSTC_BOOTSTRAP", "1");
    let _flags = shell.push_env("RUSTFLAGS", FLAGS);
    // Targets that unpack into a directory wait for the disk otherwise.
    let _memory = shell.path_exists("/dev/shm").then(|| shell.push_env("TMPDIR", "/dev/shm"));
    cmd!(shell, "cargo build --release --locked --target {TARGET}").run()?;
    let dir = shell.current_dir();
    let (queue, broken) = (Mutex::new(chosen.iter()), Mutex::new(Vec::new()));
    let jobs = options.jobs.or(std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        let work = || {
            while let Some(target) = next(&queue) {
                println!("fuzzing {target} for {} s", options.seconds);
                match fuzz(&dir, target, options.seconds) {
                    Ok(report) => print!("{report}"),
                    Err(e) => {
                        eprintln!("{e:#}");
                        broken.lock().unwrap_or_else(PoisonError::into_inner).push(target.clone());
                    }
                }
            }
        };
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    let broken = broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(broken.is_empty(), "{} failed; the inputs are in crates/fuzz/libfuzzer/crashes/", broken.join(", "));
    Ok(())
}

fn next<'a>(queue: &Mutex<std::slice::Iter<'a, String>>) -> Option<&'a String> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// Runs one target in the directory `crates/fuzz/libfuzzer`; returns its statistics: number of runs, speed, memory.
fn fuzz(dir: &Path, target: &str, seconds: u32) -> Result<String> {
    let (grown, crashes) = (tempfile::tempdir()?, dir.join("crashes").join(target));
    std::fs::create_dir_all(&crashes)?;
    let mut command = Command::new(dir.join(format!("target/{TARGET}/release/{target}")));
    command.current_dir(dir).arg(grown.path()).arg(format!("../corpus/{target}"));
    command.arg(format!("-artifact_prefix=crashes/{target}/")).arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-rss_limit_mb={MEMORY}")).args(["-timeout=20", "-print_final_stats=1", "-verbosity=0"]);
    let output = command.stdin(Stdio::null()).output()?;
    let report = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{target} ended with {}\n{report}", output.status);
    let stats = report.lines().filter_map(|line| line.strip_prefix("stat::"));
    Ok(stats.map(|line| format!("{target}: {line}\n")).collect())
}

/// Names of the targets: their files.
fn targets(shell: &Shell) -> Result<Vec<String>> {
    let files = shell
        .read_dir("crates/fuzz/libfuzzer/targets")?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let stem = |path: PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
    Ok(files.filter_map(stem).collect())
}
