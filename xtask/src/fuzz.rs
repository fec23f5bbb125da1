//! Runs the fuzz targets of `fuzz/` on stable Rust: coverage is a matter of compiler flags, the engine is libFuzzer.

use std::path::PathBuf;

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
    /// How long each is run
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
}

pub fn run(shell: &Shell, options: &Options) -> Result<()> {
    let known = targets(shell)?;
    for target in &options.targets {
        ensure!(known.contains(target), "there is no fuzz target {target}; there are {}", known.join(", "));
    }
    let chosen = if options.targets.is_empty() { &known } else { &options.targets };
    let _fuzz = shell.push_dir("fuzz/libfuzzer");
    // The flags are unstable; this tells the stable compiler to take them.
    let _bootstrap = shell.push_env("RUSTC_BOOTSTRAP", "1");
    let _flags = shell.push_env("RUSTFLAGS", FLAGS);
    // Targets that unpack into a directory wait for the disk otherwise.
    let _memory = shell.path_exists("/dev/shm").then(|| shell.push_env("TMPDIR", "/dev/shm"));
    cmd!(shell, "cargo build --release --locked --target {TARGET}").run()?;
    let seconds = options.seconds;
    let mut failed = Vec::new();
    for target in chosen {
        let (found, corpus) = (shell.create_temp_dir()?, format!("../corpus/{target}"));
        let (grown, program) = (found.path(), format!("target/{TARGET}/release/{target}"));
        shell.create_dir(format!("crashes/{target}"))?;
        let limits =
            [format!("-max_total_time={seconds}"), format!("-rss_limit_mb={MEMORY}"), "-timeout=20".to_owned()];
        println!("fuzzing {target} for {seconds} s");
        let run = cmd!(
            shell,
            "{program} {grown} {corpus} -artifact_prefix=crashes/{target}/ -print_final_stats=1 -verbosity=0"
        );
        if run.args(limits).run().is_err() {
            failed.push(target.clone());
        }
    }
    ensure!(failed.is_empty(), "inputs that break {} are in fuzz/libfuzzer/crashes/", failed.join(", "));
    Ok(())
}

/// Names of the targets: their files.
fn targets(shell: &Shell) -> Result<Vec<String>> {
    let files = shell
        .read_dir("fuzz/libfuzzer/targets")?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let stem = |path: PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
    Ok(files.filter_map(stem).collect())
}
