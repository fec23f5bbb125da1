//! The templates in `examples/ci/`: their shell scripts, in the order in which they run.

use crate::Result;
use crate::modules::project;
use anyhow::{Context as _, bail};
use fs_err as fs;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A step that is a shell script.
#[derive(Clone, Debug, Deserialize)]
pub struct Step {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The script; steps without one use an action.
    #[serde(rename = "run")]
    pub script: Option<String>,
    /// Its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// When it runs.
    #[serde(rename = "if")]
    pub condition: Option<String>,
}

#[derive(Deserialize)]
struct Workflow {
    #[serde(default)]
    env: BTreeMap<String, String>,
    jobs: BTreeMap<String, Job>,
}

#[derive(Deserialize)]
struct Job {
    steps: Vec<Step>,
}

/// A template: its variables and steps.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Variables of all steps.
    pub env: BTreeMap<String, String>,
    /// The steps that are shell scripts.
    pub steps: Vec<Step>,
}

/// Returns the directory of the templates.
#[must_use]
pub fn directory() -> PathBuf {
    project().join("examples/ci")
}

/// Reads a workflow of GitHub Actions with one job.
pub fn github(name: &str) -> Result<Pipeline> {
    let text = fs::read_to_string(directory().join(name))?;
    let Workflow { env, jobs } = serde_saphyr::from_str(&text).context("not a workflow")?;
    let Some(job) = jobs.into_values().next() else { bail!("{name} has no job") };
    Ok(Pipeline { env, steps: job.steps.into_iter().filter(|step| step.script.is_some()).collect() })
}

/// Reads a pipeline of GitLab with these jobs.
pub fn gitlab(name: &str, jobs: &[&str]) -> Result<Pipeline> {
    let all: Value = serde_saphyr::from_str(&fs::read_to_string(directory().join(name))?)?;
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("{value} is no text"));
    let variables = all["variables"].as_object().context("it has no variables")?;
    let env = variables.iter().map(|(name, value)| Ok((name.clone(), text(value)?))).collect::<Result<_>>()?;
    let mut steps = Vec::new();
    for job in jobs {
        for part in ["script", "after_script"] {
            let Some(lines) = all[job][part].as_array() else { continue };
            let lines = lines.iter().map(text).collect::<Result<Vec<_>>>()?;
            let name = format!("{job} {part}");
            steps.push(Step { name, script: Some(lines.join("\n")), env: BTreeMap::new(), condition: None });
        }
    }
    Ok(Pipeline { env, steps })
}
