//! A disk that is full, under the output directory and under the cache: one clear error, and nothing under a final name.
//!
//! The disk is a small tmpfs in a mount namespace, seen by the program alone.

use anyhow::ensure;
use build::stages;
use fs_err as fs;
use harness::Result;
use harness::caches;
use harness::modules::{Builder, project, sample};
use harness::settings::{OUT, Settings};
use std::path::Path;
use std::process::{Command, Output};

const INFRASTRUCTURE: i32 = 6;

/// `$1` is where the small disk goes, `$2` its size, `$3` a directory whose content is on it first; then the command. What the disk holds at the
/// end is printed after a mark.
const ON_A_SMALL_DISK: &str = r#"
disk=$1 size=$2 first=$3
shift 3
mount -t tmpfs -o "size=$size" small "$disk"
cp -R "$first/." "$disk"
code=0
"$@" >/dev/null || code=$?
echo "ON THE DISK:"
cd "$disk"
find . -mindepth 1 ! -path './unfinished*'
exit $code
"#;

/// Settings, where this machine lets us mount in a namespace of our own.
fn settings() -> Option<Settings> {
    let settings = Settings::with_program(OUT, Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let works = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if works.is_ok_and(|output| output.status.success()) {
        return Some(settings);
    }
    skip::skipped("this machine does not allow `unshare -rm mount`");
    None
}

fn on_a_small_disk(disk: &Path, size: &str, first: &Path, command: &Command) -> Result<Output> {
    let mut wrapped = Command::new("unshare");
    wrapped.args(["-rm", "sh", "-euc", ON_A_SMALL_DISK, "sh"]).arg(disk).arg(size).arg(first);
    Ok(wrapped.arg(command.get_program()).args(command.get_args()).output()?)
}

/// The error that a full disk must give, and what the disk held then.
fn judged(output: &Output) -> Result<Vec<String>> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(INFRASTRUCTURE), "{:?}: {said}", output.status);
    ensure!(said.matches("error: ").count() == 1, "not one error: {said}");
    ensure!(said.contains("No space left on device") && said.contains("hint: free some space"), "it says {said}");
    let held = String::from_utf8_lossy(&output.stdout).into_owned();
    let held = held.split_once("ON THE DISK:\n").map(|(_, list)| list.lines().map(str::to_owned).collect());
    held.ok_or_else(|| anyhow::anyhow!("the script ended early: {said}"))
}

#[test]
fn a_full_disk_under_the_output_leaves_no_output() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let Some(program) = &settings.program else { return Ok(()) };
    let (disk, empty) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let cache = caches::main(&settings)?;
    let mut build = Command::new(program);
    build
        .arg("build")
        .arg("--project")
        .arg(project())
        .arg("--cache")
        .arg(cache)
        .arg("--out")
        .arg(disk.path().join("_out"));
    let held = judged(&on_a_small_disk(disk.path(), "1m", empty.path(), &build)?)?;
    ensure!(!held.iter().any(|path| path == "./_out"), "there is an output: {held:?}");
    Ok(())
}

#[test]
fn a_full_disk_under_the_modules_leaves_no_module() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let builder = Builder::new(&settings, "full-out")?;
    let empty = tempfile::tempdir()?;
    fs::create_dir_all(builder.out())?;
    let build = builder.command(&sample("c"), &builder.cache, &[]);
    let held = judged(&on_a_small_disk(&builder.out(), "4k", empty.path(), &build)?)?;
    ensure!(held.is_empty(), "there is {held:?}");
    Ok(())
}

#[test]
fn a_full_disk_under_the_cache_leaves_no_stage() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let builder = Builder::new(&settings, "full-cache")?;
    ensure!(builder.run(&sample("c"), &[])?.status.success(), "it does not build on a large disk");
    let (disk, first) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let build = builder.command(&sample("c"), disk.path(), &[]);
    fs::create_dir(first.path().join("stages"))?;
    // First the image does not fit; once that is there, the compiler's output.
    for (given, size) in [(stages::TOOLCHAIN, "20m"), (stages::devel_tree::STAGE, "64k")] {
        let stage = builder.stage(given)?;
        let link = first.path().join("stages").join(stage.file_name().unwrap_or_default());
        fs::os::unix::fs::symlink(&stage, link)?;
        let held = judged(&on_a_small_disk(disk.path(), size, first.path(), &build)?)?;
        let made = held.iter().filter(|path| path.starts_with("./stages/") && !disk_held_first(path, first.path()));
        ensure!(made.count() == 0, "after {}: {held:?}", given.name());
    }
    Ok(())
}

fn disk_held_first(path: &str, first: &Path) -> bool {
    first.join(path).symlink_metadata().is_ok()
}
