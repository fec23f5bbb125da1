//! A machine of a CI system: the toolchain's sandbox, without the project, with a registry on loopback.

use anyhow::{Context as _, ensure};
use common::sandbox::Run;
use fs_err as fs;
use harness::Result;
use harness::modules::project;
use harness::pipelines::{Pipeline, Step};
use harness::registry::Registry;
use harness::settings::Settings;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Where the checkout is.
const CHECKOUT: &str = "/build/w/checkout";

/// Programs that the machine does not have, and what they do here.
const STUBS: [(&str, &str); 3] = [
    ("sudo", "exec \"$@\""),
    ("sysctl", "[ \"$*\" = '-w kernel.apparmor_restrict_unprivileged_userns=0' ]"),
    ("docker", "[ \"$1\" = login ] && [ \"$2\" = \"${REGISTRY%%/*}\" ] && [ \"$(cat)\" = hunter2 ] && echo logged in"),
];

/// The machine. Its checkout stays between runs, as that of a repository would by commits.
pub struct Machine<'a> {
    settings: &'a Settings,
    registry: Registry,
    work: tempfile::TempDir,
    /// A tar of the key set, in base64.
    pub secret: String,
    /// The public image key.
    pub public: String,
}

impl<'a> Machine<'a> {
    /// Creates it, with a key set.
    pub fn new(settings: &'a Settings) -> Result<Self> {
        let registry = Registry::start(&settings.sandbox)?;
        let work = tempfile::tempdir()?;
        let path = |name: &str| work.path().join(name);
        for dir in ["checkout/keys/public", "temp", "bin"] {
            fs::create_dir_all(path(dir))?;
        }
        for (name, script) in STUBS {
            program(&path("bin").join(name), &format!("#!/bin/sh\nset -eu\n{script}\n"))?;
        }
        program(&path("checkout/x"), include_str!("stub-x.sh"))?;
        fs::copy(settings.program()?, path("bin/solana-talos"))?;
        let mut machine = Self { settings, registry, work, secret: String::new(), public: String::new() };
        machine.secret = machine.run(
            "solana-talos keys init --dir /build/w/keys --name acme >/dev/null\n\
             cp /build/w/keys/*.pub.pem /build/w/keys/*.crt.pem keys/public\n\
             tar -C /build/w/keys -czf - . | base64 -w0",
        )?;
        machine.public = fs::read_to_string(machine.work.path().join("keys/image.pub.pem"))?.trim().to_owned();
        Ok(machine)
    }

    /// Runs a shell script in the checkout; returns its output, which is also the error if it fails.
    fn run(&self, script: &str) -> Result<String> {
        let run = Run::script(&format!("{{\n{script}\n}} >/build/w/log 2>&1"), &[]);
        let run = run.write(self.work.path(), "/build/w").directory(CHECKOUT).with_network();
        let run = run.read(&self.settings.out, "/build/finished").read(&project(), "/build/project");
        let run = run.env("PATH", "/build/w/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("RUNNER_TEMP", "/build/w/temp");
        let run = run.env("GITHUB_OUTPUT", "/build/w/output").env("GITHUB_ACTOR", "robot");
        let ended = self.settings.sandbox.try_output(&run)?;
        let log = fs::read_to_string(self.work.path().join("log"))?;
        ensure!(ended.is_ok(), "{log}");
        Ok(log)
    }

    /// Runs the scripts of a workflow as GitHub does, with `values` for its expressions; each step's name is in the output.
    pub fn github(&self, pipeline: &Pipeline, values: &BTreeMap<&str, &str>) -> Result<String> {
        fs::write(self.work.path().join("output"), "")?;
        let value = |text: &str| filled(&text.replace("ghcr.io", &self.registry.address), values);
        let mut script = exports(pipeline.env.iter().map(|(name, text)| Ok((name, quoted(&value(text)?)))))?;
        for Step { name, script: run, env, condition } in &pipeline.steps {
            let env = exports(env.iter().map(|(name, text)| Ok((name, quoted(&value(text)?)))))?;
            let run = quoted(run.as_deref().unwrap_or_default());
            let condition = condition.as_deref().map_or(Ok("true".to_owned()), shell_condition)?;
            // As GitHub runs steps without `shell`: https://docs.github.com/actions/reference/workflow-syntax-for-github-actions
            writeln!(script, "if {condition}; then echo '## {name}'; ({env}\nexec bash -e -c {run}); fi")?;
        }
        self.run(&script)
    }

    /// Runs the scripts of jobs as GitLab does, for a tag.
    pub fn gitlab(&self, pipeline: &Pipeline, tag: &str) -> Result<String> {
        fs::write(self.work.path().join("secret"), &self.secret)?;
        let predefined = [
            ("CI_REGISTRY", self.registry.address.as_str()),
            ("CI_REGISTRY_IMAGE", &format!("{}/acme/images", self.registry.address)),
            ("CI_REGISTRY_USER", "robot"),
            ("CI_REGISTRY_PASSWORD", "hunter2"),
            ("CI_COMMIT_TAG", tag),
            ("CI_PROJECT_DIR", CHECKOUT),
            ("SOLANA_TALOS_KEYS", "/build/w/secret"),
            ("SOLANA_TALOS_IMAGE_KEY", "/build/w/keys/image.pub.pem"),
        ];
        let mut script = exports(predefined.map(|(name, value)| Ok((name, quoted(value)))))?;
        // The values name other variables.
        script += &exports(pipeline.env.iter().map(|(name, value)| Ok((name, format!("\"{value}\"")))))?;
        for step in &pipeline.steps {
            let run = quoted(step.script.as_deref().unwrap_or_default());
            writeln!(script, "echo '## {}'; bash -e -o pipefail -c {run}", step.name)?;
        }
        self.run(&script)
    }

    /// Signs the requests in a directory of the checkout, as the holder of the keys does.
    pub fn sign(&self, requests: &str) -> Result<()> {
        self.run(&format!("solana-talos keys sign {requests} --dir /build/w/keys")).map(drop)
    }

    /// Fails unless the registry has the image with that tag, signed with the keys of this machine.
    pub fn has(&self, image: &str, tag: &str) -> Result<()> {
        let check = "for repository in acme acme/images; do\n\
            rm -rf /tmp/found\n\
            if solana-talos pull \"REGISTRY/$repository/IMAGE:TAG\" --out /tmp/found >/dev/null; then\n\
            exec solana-talos verify /tmp/found --key /build/w/keys/image.pub.pem\nfi\ndone\nexit 1";
        let check = check.replace("REGISTRY", &self.registry.address).replace("IMAGE", image).replace("TAG", tag);
        let found = self.run(&check)?;
        ensure!(found.contains(&format!("{image}:{tag}")), "{found}");
        Ok(())
    }
}

fn program(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

/// Returns lines that set environment variables to quoted values.
fn exports<N: std::fmt::Display>(values: impl IntoIterator<Item = Result<(N, String)>>) -> Result<String> {
    values.into_iter().map(|value| value.map(|(name, value)| format!("export {name}={value}\n"))).collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Replaces the expressions `${{ NAME }}`.
fn filled(text: &str, values: &BTreeMap<&str, &str>) -> Result<String> {
    let mut parts = text.split("${{ ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" }}").context("an expression has no end")?;
        out += values.get(name).with_context(|| format!("the template uses {name}, which the test does not know"))?;
        out += rest;
    }
    Ok(out)
}

/// Returns the conditions that the templates use as conditions of the shell.
fn shell_condition(condition: &str) -> Result<String> {
    let output = condition.strip_prefix("steps.build.outputs.complete == '").and_then(|rest| rest.strip_suffix('\''));
    match output {
        _ if condition == "always()" => Ok("true".to_owned()),
        Some(value) => Ok(format!("grep -qx complete={value} \"$GITHUB_OUTPUT\"")),
        None => anyhow::bail!("the template uses the condition {condition}, which the test does not know"),
    }
}

#[test]
fn unknown_expressions_and_conditions_are_errors() {
    let values = BTreeMap::from([("a.b", "x")]);
    assert_eq!(filled("1 ${{ a.b }} 2 ${{ a.b }}", &values).ok().as_deref(), Some("1 x 2 x"));
    assert!(filled("${{ a.c }}", &values).is_err() && filled("${{ a.b", &values).is_err());
    assert!(shell_condition("failure()").is_err());
}
