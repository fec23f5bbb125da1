//! The templates in `examples/ci/`: `actionlint` accepts those for GitHub, and their scripts build, sign, push and verify against a registry.
//!
//! Only the compilation is replaced, by a finished build (`stub-x.sh`). What is no script is not run: actions, caches, artifacts.

mod lint;
mod machine;

use anyhow::{Context as _, ensure};
use harness::pipelines::{github, gitlab};
use harness::settings::{OUT, Settings};
use harness::{Result, pipelines};
use std::collections::BTreeMap;

use machine::Machine;

/// What the template finds on GitHub.
fn github_values<'a>(machine: &'a Machine<'_>, branch: &'a str) -> BTreeMap<&'a str, &'a str> {
    BTreeMap::from([
        ("github.repository_owner", "acme"),
        ("github.ref_name", branch),
        ("secrets.SOLANA_TALOS_KEYS", machine.secret.as_str()),
        ("secrets.GITHUB_TOKEN", "hunter2"),
        ("vars.SOLANA_TALOS_IMAGE_KEY", machine.public.as_str()),
    ])
}

#[test]
fn the_workflow_with_a_secret_pushes_what_verifies() -> Result<()> {
    let Some(settings) = Settings::with_program(OUT) else { return Ok(()) };
    let machine = Machine::new(&settings)?;
    let pipeline = github("github-actions.yml")?;
    let log = machine.github(&pipeline, &github_values(&machine, "v1"))?;
    for text in ["/installer:v1@sha256:", "logged in", "## Keep the cache small"] {
        ensure!(log.contains(text), "no {text:?} in {log}");
    }
    machine.has("installer", "v1")?;
    ensure!(!log.contains("hunter2"), "the token is in the log: {log}");
    Ok(())
}

/// With another public key the run ends before anything is pushed.
#[test]
fn the_workflow_pushes_nothing_that_another_key_signed() -> Result<()> {
    let Some(settings) = Settings::with_program(OUT) else { return Ok(()) };
    let machine = Machine::new(&settings)?;
    let other = fs_err::read_to_string(settings.out.join("image.pub.pem"))?;
    let mut values = github_values(&machine, "v1");
    values.insert("vars.SOLANA_TALOS_IMAGE_KEY", other.trim());
    let error = machine.github(&github("github-actions.yml")?, &values).err().context("it went through")?;
    let text = format!("{error:#}");
    ensure!(text.contains("## Verify against the published key") && !text.contains("## Push"), "{text}");
    ensure!(machine.has("installer", "v1").is_err(), "the registry has the image");
    Ok(())
}

#[test]
fn the_workflow_without_keys_takes_rounds_of_signing() -> Result<()> {
    let Some(settings) = Settings::with_program(OUT) else { return Ok(()) };
    let machine = Machine::new(&settings)?;
    let pipeline = github("github-actions-detached.yml")?;
    let values = github_values(&machine, "release/v2");
    let first = machine.github(&pipeline, &values)?;
    ensure!(!first.contains("## Push") && machine.has("installer", "v2").is_err(), "{first}");
    machine.sign("signing")?;
    let second = machine.github(&pipeline, &values)?;
    ensure!(second.contains("## Push") && second.contains("## Verify against the public key"), "{second}");
    machine.has("installer", "v2")
}

#[test]
fn the_pipeline_of_gitlab_pushes_what_verifies() -> Result<()> {
    let Some(settings) = Settings::with_program(OUT) else { return Ok(()) };
    let machine = Machine::new(&settings)?;
    let log = machine.gitlab(&gitlab("gitlab-ci.yml", &["images", "push"])?, "v3")?;
    ensure!(log.contains("## push script") && log.contains("/installer:v3@sha256:"), "{log}");
    machine.has("installer", "v3")
}

#[test]
fn every_template_is_tested() -> Result<()> {
    let files = fs_err::read_dir(pipelines::directory())?;
    let names: Vec<_> =
        files.map(|file| Ok(file?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
    let templates = names.iter().filter(|name| name.ends_with(".yml")).count();
    ensure!(templates == 3 && names.len() == 4, "{names:?}");
    Ok(())
}
