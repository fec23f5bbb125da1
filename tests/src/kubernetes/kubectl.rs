//! Runs `kubectl`, built from the same module as the node's programs.

use crate::Result;
use anyhow::{Context as _, bail};
use fs_err as fs;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Time limit of one call, in seconds.
const CALL: &str = "180";

/// How the API server is called.
#[derive(Debug)]
pub struct Kubectl {
    program: PathBuf,
    config: PathBuf,
    /// It caches the API's description there.
    home: tempfile::TempDir,
}

impl Kubectl {
    /// Calls the cluster of the configuration `config` by `program`.
    pub fn new(program: &Path, config: &Path) -> Result<Self> {
        Ok(Self { program: program.to_owned(), config: config.to_owned(), home: tempfile::tempdir()? })
    }

    /// Runs it with `words`, and returns what it prints on standard output.
    ///
    /// # Errors
    /// If it fails, with what it prints on standard error.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("timeout");
        command.arg(CALL).arg(&self.program).env_clear().env("HOME", self.home.path());
        command.arg("--kubeconfig").arg(&self.config).args(["--request-timeout", "120s"]).args(words);
        let output = command.output().with_context(|| format!("cannot run {}", self.program.display()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if !output.status.success() {
            bail!("kubectl {}: {}", words.join(" "), text(&output.stderr));
        }
        Ok(text(&output.stdout))
    }

    /// Returns an object or a list, `kubectl get`.
    pub fn get(&self, words: &[&str]) -> Result<Value> {
        let text = self.run(&[&["get", "-o", "json"], words].concat())?;
        serde_json::from_str(&text).with_context(|| format!("kubectl get {}: {text}", words.join(" ")))
    }

    /// Creates an object. It is not validated here, which would fetch the description of the whole API.
    pub fn create(&self, object: &Value) -> Result<()> {
        let file = self.home.path().join("object.json");
        fs::write(&file, object.to_string())?;
        self.run(&["create", "--validate=false", "-f", &file.display().to_string()]).map(drop)
    }
}
