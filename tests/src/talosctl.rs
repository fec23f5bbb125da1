//! Runs `talosctl`, built from the same module as the node's programs.

use crate::Result;
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Time limit of one call, in seconds: an API call to an emulated machine takes a few.
const CALL: u32 = 120;

/// How a node is called.
#[derive(Clone, Debug)]
pub struct Talosctl {
    /// The program.
    pub program: PathBuf,
    /// The host's port that leads to the node's API.
    pub port: u16,
    /// The admin's configuration; without one, the node is in maintenance mode.
    pub config: Option<PathBuf>,
    /// The node that answers, as that at the port knows it; unless it is [`SELF`], calls are passed on.
    pub node: String,
}

/// The node at the port itself.
pub const SELF: &str = "127.0.0.1";

impl Talosctl {
    /// Returns the calls that this node passes on to the node at `address`.
    #[must_use]
    pub fn through(&self, address: &str) -> Self {
        Self { node: address.to_owned(), ..self.clone() }
    }

    /// Runs `talosctl` with `words`, and returns what it prints on standard output.
    ///
    /// # Errors
    /// If it fails, with what it prints on standard error.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        self.run_within(CALL, words)
    }

    /// As [`Talosctl::run`], with another time limit in seconds.
    pub fn run_within(&self, limit: u32, words: &[&str]) -> Result<String> {
        let (output, error) = self.output(limit, words)?;
        output.ok_or_else(|| anyhow::anyhow!("talosctl {}: {error}", words.join(" ")))
    }

    /// As [`Talosctl::run`] for a call that must fail: returns what it prints on standard error.
    pub fn fail(&self, words: &[&str]) -> Result<String> {
        match self.output(CALL, words)? {
            (None, error) => Ok(error),
            (Some(output), _) => bail!("talosctl {} did not fail: {output}", words.join(" ")),
        }
    }

    /// Runs it; the first text is that of a success.
    fn output(&self, limit: u32, words: &[&str]) -> Result<(Option<String>, String)> {
        let endpoint = format!("127.0.0.1:{}", self.port);
        let mut command = Command::new("timeout");
        command.arg(limit.to_string()).arg(&self.program).env_clear().env("HOME", "/nonexistent");
        match &self.config {
            Some(config) => {
                command.arg("--talosconfig").arg(config).args(["-e", &endpoint, "-n", &self.node]).args(words)
            }
            None => command.args(["-n", &endpoint]).args(words).arg("--insecure"),
        };
        let output = command.output().with_context(|| format!("cannot run {}", self.program.display()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Ok((output.status.success().then(|| text(&output.stdout)), text(&output.stderr)))
    }

    /// Returns the resources of a type, `talosctl get`.
    pub fn get(&self, resource: &str) -> Result<Vec<Value>> {
        let text = self.run(&["get", resource, "-o", "json"])?;
        let stream = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        Ok(stream.collect::<std::result::Result<_, _>>()?)
    }

    /// Whether the node is in maintenance mode, and ready. The node is called without the admin's configuration.
    pub fn is_in_maintenance(&self) -> Result<bool> {
        let status = self.get("machinestatus")?;
        let spec = status.first().map(|status| &status["spec"]).context("no machine status")?;
        Ok(spec["stage"] == "maintenance" && spec["status"]["ready"] == true)
    }

    /// Returns a file of the node.
    pub fn read(&self, path: &str) -> Result<String> {
        Ok(self.run(&["read", path])?.trim_end().to_owned())
    }

    /// Returns a number in a file of the node.
    pub fn number(&self, path: &str) -> Result<u64> {
        let text = self.read(path)?;
        text.trim().parse().with_context(|| format!("{path}: {text:?}"))
    }

    /// Writes a machine configuration for a control plane node, and the admin's configuration, into `dir`, with `patches` applied in order.
    pub fn gen_config(&self, dir: &Path, patches: &[&Path]) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["gen", "config", "test", "https://10.0.2.15:6443", "--additional-sans", "127.0.0.1"]);
        command.args(["--with-docs=false", "--with-examples=false", "--force", "--output-dir"]).arg(dir);
        for patch in patches {
            command.arg("--config-patch").arg(format!("@{}", patch.display()));
        }
        let output = command.env_clear().env("HOME", "/nonexistent").output()?;
        ensure!(output.status.success(), "talosctl gen config: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}
