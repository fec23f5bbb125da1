//! A full disk below the output directory or the cache: one clear error, and no file under its final name.
//!
//! The disk is a small tmpfs in a mount namespace of the program.

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

/// `$1` is the mount point of the small disk, `$2` its size, `$3` a directory with its initial content; the command follows. Prints a marker
/// and the files on the disk afterwards.
const ON_A_SMALL_DISK: &str = r#"
disk=$1 size=$2 initial=$3
shift 3
mount -t tmpfs -o "size=$size" small "$disk"
cp -R "$initial/." "$disk"
code=0
"$@" >/dev/null || code=$?
echo "ON THE DISK:"
cd "$disk"
find . -mindepth 1 ! -path './unfinished*'
exit $code
"#;

/// Returns the settings; `None` skips the test if this user cannot mount in a mount namespace.
fn settings() -> Option<Settings> {
    let settings = Settings::with_program(OUT)?;
    let works = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if works.is_ok_and(|output| output.status.success()) {
        return Some(settings);
    }
    skip::skipped("`unshare -rm mount` is not permitted on this machine");
    None
}

fn on_a_small_disk(disk: &Path, size: &str, initial: &Path, command: &Command) -> Result<Output> {
    let mut wrapped = Command::new("unshare");
    wrapped.args(["-rm", "sh", "-euc", ON_A_SMALL_DISK, "sh"]).arg(disk).arg(size).arg(initial);
    Ok(wrapped.arg(command.get_program()).args(command.get_args()).output()?)
}

/// Checks the error of a full disk. Returns the files that were on the disk.
fn check_full(output: &Output) -> Result<Vec<String>> {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(INFRASTRUCTURE), "{:?}: {stderr}", output.status);
    ensure!(stderr.matches("error: ").count() == 1, "not exactly one error: {stderr}");
    ensure!(
        stderr.contains("No space left on device") && stderr.contains("hint: free some space"),
        "unexpected error: {stderr}"
    );
    let files = String::from_utf8_lossy(&output.stdout).into_owned();
    let files = files.split_once("ON THE DISK:\n").map(|(_, list)| list.lines().map(str::to_owned).collect());
    files.ok_or_else(|| anyhow::anyhow!("the script ended early: {stderr}"))
}

#[test]
fn a_full_disk_under_the_output_leaves_no_output() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let (disk, empty) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let cache = caches::shared(&settings)?;
    let mut build = Command::new(settings.program()?);
    build.args(["build", "--base", "testbed"]).arg("--project").arg(project()).arg("--cache").arg(cache);
    build.arg("--out").arg(disk.path().join("_out"));
    let files = check_full(&on_a_small_disk(disk.path(), "1m", empty.path(), &build)?)?;
    ensure!(!files.iter().any(|path| path == "./_out"), "an output was left: {files:?}");
    Ok(())
}

#[test]
fn a_full_disk_under_the_modules_leaves_no_module() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let builder = Builder::new(&settings, "full-out")?;
    let empty = tempfile::tempdir()?;
    fs::create_dir_all(builder.out())?;
    let build = builder.command(&sample("c"), &builder.cache, &[]);
    let files = check_full(&on_a_small_disk(&builder.out(), "4k", empty.path(), &build)?)?;
    ensure!(files.is_empty(), "files were left: {files:?}");
    Ok(())
}

#[test]
fn a_full_disk_under_the_cache_leaves_no_stage() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let builder = Builder::new(&settings, "full-cache")?;
    ensure!(builder.run(&sample("c"), &[])?.status.success(), "the build fails on a large disk");
    let (disk, initial) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let build = builder.command(&sample("c"), disk.path(), &[]);
    fs::create_dir(initial.path().join("stages"))?;
    // The first disk is too small for the unpacked image, the second for the compiler's output.
    for (given, size) in [(stages::TOOLCHAIN, "20m"), (stages::devel_tree::STAGE, "64k")] {
        let stage = builder.stage(given)?;
        let link = initial.path().join("stages").join(stage.file_name().unwrap_or_default());
        fs::os::unix::fs::symlink(&stage, link)?;
        let files = check_full(&on_a_small_disk(disk.path(), size, initial.path(), &build)?)?;
        let made = files.iter().filter(|path| path.starts_with("./stages/") && !was_initial(path, initial.path()));
        ensure!(made.count() == 0, "after {}: {files:?}", given.name());
    }
    Ok(())
}

fn was_initial(path: &str, initial: &Path) -> bool {
    initial.join(path).symlink_metadata().is_ok()
}
