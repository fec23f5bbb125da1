//! `actionlint`, built from its pinned Go modules (`tests/actionlint/`).

use anyhow::{Context as _, ensure};
use common::sandbox::{Run, Sandbox};
use fs_err as fs;
use harness::modules::project;
use harness::{Result, pipelines};
use std::path::Path;
use toolchain::go::User;

/// Where cargo keeps files of tests: the modules are downloaded and compiled once.
const WORK: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/actionlint");

/// Builds it; `None` skips the test: a machine without network has no modules.
fn build() -> Result<Option<Sandbox>> {
    let Some(rootfs) = skip::toolchain(&["go"]) else { return Ok(None) };
    let (sandbox, work) = (Sandbox::new(rootfs), Path::new(WORK));
    fs::create_dir_all(work)?;
    for name in ["go.mod", "go.sum"] {
        fs::copy(project().join("tests/actionlint").join(name), work.join(name))?;
    }
    let go = |words: &[&str]| {
        let run = Run::new(["go"].iter().chain(words).copied()).write(work, "/build/w").directory("/build/w");
        let run = run.env("GOFLAGS", "-mod=readonly -modcacherw").env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
        run.env("GOMODCACHE", "/build/w/modules").env("GOCACHE", "/build/w/cache").env("GOENV", "off")
    };
    let download = User::read(|name| std::env::var_os(name)).apply(go(&["mod", "download"])).with_network();
    if let Err(e) = sandbox.output(&download) {
        skip::skipped(format!("cannot download actionlint: {e}"));
        return Ok(None);
    }
    sandbox.output(&go(&["build", "-o", "actionlint", "github.com/rhysd/actionlint/cmd/actionlint"]))?;
    Ok(Some(sandbox))
}

/// Lints the workflow `text`.
fn lint(sandbox: &Sandbox, text: &str) -> Result<()> {
    let work = tempfile::tempdir()?;
    fs::write(work.path().join("workflow.yml"), text)?;
    let words = ["/build/lint/actionlint", "-no-color", "-shellcheck=", "-pyflakes=", "/build/w/workflow.yml"];
    let run = Run::new(words).read(Path::new(WORK), "/build/lint").read(work.path(), "/build/w");
    sandbox.output(&run).map(drop).context("actionlint")
}

#[test]
fn actionlint_accepts_the_workflows() -> Result<()> {
    let Some(sandbox) = build()? else { return Ok(()) };
    for name in ["github-actions.yml", "github-actions-detached.yml"] {
        let text = fs::read_to_string(pipelines::directory().join(name))?;
        lint(&sandbox, &text).context(name)?;
        for (right, wrong) in [("runs-on: ubuntu-24.04", "runs-on: ubuntu-24"), ("github.ref_name", "github.ref_nam")] {
            ensure!(
                text.contains(right) && lint(&sandbox, &text.replacen(right, wrong, 1)).is_err(),
                "{name}: {wrong}"
            );
        }
    }
    Ok(())
}
