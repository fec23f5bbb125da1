//! Measures the figures in docs/performance.md, each with its limit, on a machine that has built once.

mod tool;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use build::stages;
use toolchain::Programs;
use xshell::{Shell, cmd};

use crate::Tool;

/// What the tool reads of the project.
const INPUTS: [&str; 8] = [
    "solana-talos.lock",
    "Cargo.lock",
    "kernel-config",
    "module",
    "crates/toolchain",
    "extension",
    "imager",
    "tests/guest",
];

/// Changed to see what a change of the kernel costs.
const KERNEL_FILE: &str = "module/kernel/rust/kernel/psi.rs";

/// One measured claim.
struct Row {
    claim: String,
    measured: f64,
    limit: f64,
    unit: &'static str,
}

pub fn run(shell: &Shell) -> Result<()> {
    let tool = Tool::build(shell)?;
    tool.run(crate::BUILD)?;
    let cache = crate::cache()?;
    let mut rows = vec![unchanged(&tool)?, module_change(shell, &tool)?, kernel_change(shell, &tool)?];
    rows.extend(after_the_kernel(shell, &tool, &cache)?);
    rows.push(programs(shell, &cache)?);
    rows.push(compile_of_the_tool(shell)?);
    let kernels = kernels(shell, &cache)?;
    rows.extend(kernel_rows(&kernels));
    let page = page(&rows, &kernels);
    shell.write_file("docs/performance.md", &page)?;
    print!("{page}");
    Ok(())
}

/// The middle of three runs with nothing to do.
fn unchanged(tool: &Tool<'_>) -> Result<Row> {
    let mut times = Vec::new();
    for _ in 0..3 {
        times.push(timed(tool, &crate::BUILD.split(' ').collect::<Vec<_>>())?.0.as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(Row { claim: "a build with nothing changed".to_owned(), measured: times[1], limit: 2.0, unit: "s" })
}

/// One more line in the module.
fn module_change(shell: &Shell, tool: &Tool<'_>) -> Result<Row> {
    let claim = "a one-line change of the module, to the signed extension image".to_owned();
    let measured = change(shell, tool, "module/solana_optimizer.rs", &["module"])?;
    Ok(Row { claim, measured, limit: 30.0, unit: "s" })
}

/// One more line in an abstraction of the kernel, with the objects of an earlier compile.
fn kernel_change(shell: &Shell, tool: &Tool<'_>) -> Result<Row> {
    let claim = "a one-line change of `module/kernel/`, to the signed modules of profile `vm`".to_owned();
    // The first may be the first compile that keeps its objects.
    let words = ["kernel", "build", "--profile", "vm"];
    change(shell, tool, KERNEL_FILE, &words)?;
    Ok(Row { claim, measured: change(shell, tool, KERNEL_FILE, &words)?, limit: 120.0, unit: "s" })
}

/// Seconds that `words` take in a copy of the project with one more line in `file`.
fn change(shell: &Shell, tool: &Tool<'_>, file: &str, words: &[&str]) -> Result<f64> {
    let copy = shell.create_temp_dir()?;
    let root = copy.path();
    for input in INPUTS {
        let to = root.join(input);
        shell.create_dir(to.parent().context("an input has no parent directory")?)?;
        cmd!(shell, "cp -R {input} {to}").quiet().run()?;
    }
    let source = root.join(file);
    let nonce = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
    let text = shell.read_file(&source)?;
    shell.write_file(&source, format!("{text}\n// A line that was not there: {nonce}.\n"))?;
    let project = root.display().to_string();
    Ok(timed(tool, &[words, &["--project", &project]].concat())?.0.as_secs_f64())
}

/// All stages after the compiled kernel and Talos's compiled programs, in a cache that holds only those before.
fn after_the_kernel(shell: &Shell, tool: &Tool<'_>, cache: &Path) -> Result<[Row; 2]> {
    let scratch = shell.create_temp_dir()?;
    let fresh = scratch.path().join("cache");
    shell.create_dir(fresh.join("stages"))?;
    for shared in ["store", "keys", "cargo"] {
        std::os::unix::fs::symlink(cache.join(shared), fresh.join(shared))?;
    }
    for stage in shell.read_dir(cache.join("stages"))? {
        let name = stage.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if stages::owned(&stages::TO_KERNEL, &name) || stages::owned(&stages::GO_PROGRAMS, &name) {
            std::os::unix::fs::symlink(&stage, fresh.join("stages").join(&name))?;
        }
    }
    let (cache, out) = (fresh.display().to_string(), scratch.path().join("out").display().to_string());
    let build: Vec<_> = crate::BUILD.split(' ').chain(["--cache", &cache, "--out", &out]).collect();
    let (took, peak) = timed(tool, &build)?;
    Ok([
        Row {
            claim: "everything after the compiled kernel and Talos's programs".to_owned(),
            measured: took.as_secs_f64(),
            limit: 60.0,
            unit: "s",
        },
        Row {
            claim: "peak memory of our process meanwhile".to_owned(),
            measured: peak as f64 / 1024.0,
            limit: 500.0,
            unit: "MiB",
        },
    ])
}

/// What Talos's programs took when they were compiled: the stages of the newest programs.
fn programs(shell: &Shell, cache: &Path) -> Result<Row> {
    let file = "imager/base/go/programs.toml";
    let modules = Programs::parse(file, &shell.read_file(file)?)?.modules;
    let names: Vec<_> = modules.iter().flat_map(|module| &module.programs).map(|program| &program.name).collect();
    // The same stage builds the programs of a test.
    let of_base = |stage: &Path| names.iter().any(|name| stage.join("bin").join(name).is_file());
    let mut compiled = Vec::new();
    for dir in shell.read_dir(cache.join("stages"))? {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        if stages::owned(&[stages::go::MODULE_STAGE], &name) && of_base(&dir) {
            let seconds = shell.read_file(dir.join("seconds"))?.trim().parse::<f64>()?;
            compiled.push((std::fs::metadata(&dir)?.modified()?, seconds));
        }
    }
    compiled.sort_by_key(|(modified, _)| std::cmp::Reverse(*modified));
    let seconds: f64 = compiled.iter().take(modules.len()).map(|(_, seconds)| seconds).sum();
    let claim = "the cold compilation of Talos's programs".to_owned();
    Ok(Row { claim, measured: seconds / 60.0, limit: 10.0, unit: "min" })
}

/// What the first `./x` on a machine compiles before it does anything else.
fn compile_of_the_tool(shell: &Shell) -> Result<Row> {
    let claim = "processor time of the first compilation of the tool itself".to_owned();
    Ok(Row { claim, measured: tool::compile(shell)? / 60.0, limit: 4.0, unit: "min" })
}

/// A kernel that this cache holds, as it was compiled.
struct Kernel {
    profile: String,
    /// Seconds of the whole stage, and of make alone inside it; none for a compilation that went on after an interrupt.
    stage: f64,
    make: Option<f64>,
    vmlinuz: u64,
    modules: Modules,
}

/// Modules of a kernel, stripped.
#[derive(Default)]
struct Modules {
    count: usize,
    bytes: u64,
}

/// The compiled kernel of each profile whose snapshot this cache's configuration is.
fn kernels(shell: &Shell, cache: &Path) -> Result<Vec<Kernel>> {
    let mut kernels = Vec::new();
    for profile in ["vm", "metal", "debug"] {
        let snapshot = shell.read_file(format!("kernel-config/snapshots/{profile}.config"))?;
        let mut compiled = Vec::new();
        for dir in shell.read_dir(cache.join("stages"))? {
            let Ok(config) = std::fs::read_to_string(dir.join("config")) else { continue };
            let seconds = |file: &str| std::fs::read_to_string(dir.join(file)).ok()?.trim().parse::<f64>().ok();
            let (Some(stage), Ok(vmlinuz)) = (seconds("seconds"), std::fs::metadata(dir.join("vmlinuz"))) else {
                continue;
            };
            if options(&config).eq(options(&snapshot)) {
                compiled.push(Kernel {
                    profile: profile.to_owned(),
                    stage,
                    make: seconds("make-seconds"),
                    vmlinuz: vmlinuz.len(),
                    modules: modules(&dir.join("modules"))?,
                });
            }
        }
        // Prefer a kernel that was compiled in one run: its time is that of a whole compile.
        compiled.sort_by_key(|kernel| kernel.make.is_none());
        kernels.extend(compiled.into_iter().next());
    }
    Ok(kernels)
}

/// The lines of a kernel configuration that set an option or say that it is not set.
fn options(config: &str) -> impl Iterator<Item = &str> {
    config.lines().filter(|line| line.starts_with("CONFIG_") || line.ends_with(" is not set"))
}

fn modules(dir: &Path) -> Result<Modules> {
    let mut modules = Modules::default();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            let below = self::modules(&path)?;
            modules.count += below.count;
            modules.bytes += below.bytes;
        } else if path.extension().is_some_and(|extension| extension == "ko") {
            modules.count += 1;
            modules.bytes += path.metadata()?.len();
        }
    }
    Ok(modules)
}

/// What a kernel's stage took over what make alone took inside it, and the cold build of the default profile.
fn kernel_rows(kernels: &[Kernel]) -> Vec<Row> {
    let overhead = kernels.iter().filter_map(|kernel| {
        let make = kernel.make?;
        let claim = format!("the kernel stage of profile `{}` over the make it runs", kernel.profile);
        Some(Row { claim, measured: (kernel.stage / make - 1.0) * 100.0, limit: 5.0, unit: "%" })
    });
    let cold = kernels.iter().filter(|kernel| kernel.profile == "vm" && kernel.make.is_some()).map(|kernel| Row {
        claim: "the cold compilation of profile `vm`".to_owned(),
        measured: kernel.stage / 60.0,
        limit: 15.0,
        unit: "min",
    });
    overhead.chain(cold).collect()
}

/// Runs the tool, giving its time and the peak of its own resident memory in KiB (`VmHWM` of proc(5)).
fn timed(tool: &Tool<'_>, words: &[&str]) -> Result<(Duration, u64)> {
    let mirror = tool.mirror.iter().flat_map(|dir| ["--mirror", dir]);
    let start = Instant::now();
    let mut command = Command::new(&tool.program);
    let mut child =
        command.current_dir(tool.shell.current_dir()).args(words).args(mirror).stdout(Stdio::null()).spawn()?;
    let mut peak = 0;
    let status = loop {
        peak = peak.max(resident(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    ensure!(status.success(), "{words:?} ended with {status}");
    Ok((start.elapsed(), peak))
}

fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

fn page(rows: &[Row], kernels: &[Kernel]) -> String {
    let mut page = "# Performance\n\nWritten by `./x bench`, which measures all of it in one run. Times depend on the machine; the share of the limit is what counts.\n\n| claim | measured | limit | share of the limit |\n|---|---|---|---|\n".to_owned();
    for Row { claim, measured, limit, unit } in rows {
        let share = measured / limit * 100.0;
        let _ = writeln!(page, "| {claim} | {measured:.1} {unit} | {limit:.0} {unit} | {share:.0} % |");
    }
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let _ = write!(
        page,
        "\nThe kernels of this machine ({processors} processors), when they were compiled:\n\n| profile | compilation | vmlinuz | modules, stripped |\n|---|---|---|---|\n"
    );
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for Kernel { profile, stage, vmlinuz, modules, .. } in kernels {
        let (minutes, vmlinuz, size) = (stage / 60.0, mib(*vmlinuz), mib(modules.bytes));
        let count = modules.count;
        let _ =
            writeln!(page, "| `{profile}` | {minutes:.1} min | {vmlinuz:.1} MiB | {count} modules, {size:.1} MiB |");
    }
    page
}
