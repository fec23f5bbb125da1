//! A changed constant of code that makes bytes changes the image in the next build with the same cache, and compiles no kernel.
//!
//! The tool is compiled from a changed copy of the project, in a copy of the target directory that the tool under test was compiled in:
//! only the changed crate and its dependents are compiled, as for a developer.

use anyhow::{Context as _, ensure};
use build::stages::{KERNEL, installer, packages};
use formats::initramfs;
use fs_err as fs;
use harness::Result;
use harness::caches;
use harness::modules::project;
use harness::outputs::comparable;
use harness::settings::{OUT, Settings};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The constant: file, and the line before and after.
const FILE: &str = "imager/src/initramfs.rs";
const BEFORE: &str = "const ZSTD_LEVEL: i32 = 12;";
const AFTER: &str = "const ZSTD_LEVEL: i32 = 3;";

/// Copies the directory `$1`, without outputs of builds, into the new directory `$2`. Times are kept: cargo compiles what is newer than its
/// output.
const COPY: &str = r#"
mkdir -p "$2"
tar -C "$1" --exclude=.git --exclude=target --exclude='./_out*' -cf - . | tar -C "$2" -xf -
"#;

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("sh").args(["-euc", COPY, "sh"]).arg(from).arg(to).status().context("cannot start sh")?;
    ensure!(status.success(), "cannot copy {} to {}", from.display(), to.display());
    Ok(())
}

/// Makes a copy of the project in `dir` with the changed constant.
fn changed_project(dir: &Path) -> Result<PathBuf> {
    let copied = dir.join("project");
    copy(&project(), &copied)?;
    let source = fs::read_to_string(copied.join(FILE))?;
    ensure!(source.contains(BEFORE), "{FILE} has no line {BEFORE:?}");
    fs::write(copied.join(FILE), source.replace(BEFORE, AFTER))?;
    Ok(copied)
}

/// Compiles the tool of `project`, with what was compiled for `program` as a start.
fn compile(project: &Path, program: &Path, dir: &Path) -> Result<PathBuf> {
    let release = program.parent().context("the program is not in a target directory")?;
    let target = dir.join("target");
    for part in ["deps", "build", ".fingerprint"] {
        copy(&release.join(part), &target.join("release").join(part))?;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .args(["build", "--release", "--locked", "--offline", "--package", "solana-talos", "--target-dir"])
        .arg(&target);
    let output = cargo.current_dir(project).output().context("cannot start cargo")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{stderr}");
    Ok(target.join("release/solana-talos"))
}

/// Builds `project` with `program` and `cache` into `out`; returns what it reports.
fn build(program: &Path, project: &Path, cache: &Path, shared: &Path, out: &Path) -> Result<String> {
    let mut command = Command::new(program);
    command
        .args(["build", "--base", "testbed"])
        .arg("--project")
        .arg(project)
        .arg("--cache")
        .arg(cache)
        .arg("--out")
        .arg(out);
    let output = command.arg("--mirror").arg(shared.join("store/sha256")).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{}: {stderr}", output.status);
    Ok(stderr)
}

/// Returns the digest of the image `name` in a `build.json`.
fn image<'a>(record: &'a Value, name: &str) -> Result<&'a Value> {
    let mut images = record["images"].as_object().context("no images in build.json")?.iter();
    let (_, digest) =
        images.find(|(image, _)| image.contains(&format!("/{name}:"))).with_context(|| format!("no {name}"))?;
    Ok(digest)
}

#[test]
fn a_changed_constant_changes_the_installer_and_compiles_no_kernel() -> Result<()> {
    let Some(settings) = Settings::with_program(OUT) else { return Ok(()) };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let changed = changed_project(dir.path())?;
    let program = compile(&changed, settings.program()?, dir.path())?;
    let cache = caches::fresh(&settings, dir.path(), |_| true)?;
    let out = dir.path().join("out");
    let reported = build(&program, &changed, &cache, &caches::shared(&settings)?, &out)?;
    ensure!(reported.contains("kernel: unchanged"), "{reported}");
    let (before, after) = (comparable(&settings.out)?.1, comparable(&out)?.1);
    for (part, name, same) in [
        ("stages", KERNEL.name(), true),
        ("outputs", "vmlinuz", true),
        ("stages", packages::KERNEL_STAGE.name(), false),
        ("stages", installer::STAGE.name(), false),
        ("outputs", "initramfs.xz", false),
        ("outputs", "vmlinuz.efi", false),
    ] {
        let (before, after) = (&before[part][name], &after[part][name]);
        ensure!(before.is_string() && (before == after) == same, "{part} {name} was {before}, is {after}");
    }
    // Our code made the kernel image again, with the same bytes.
    ensure!(image(&before, "kernel")? == image(&after, "kernel")?, "the kernel image differs");
    ensure!(image(&before, "installer")? != image(&after, "installer")?, "the installer is the old one");
    let members = |out: &Path| Ok::<_, anyhow::Error>(initramfs::list(&fs::read(out.join("initramfs.xz"))?)?);
    ensure!(members(&settings.out)? == members(&out)?, "more than the compression of the initramfs differs");
    Ok(())
}
