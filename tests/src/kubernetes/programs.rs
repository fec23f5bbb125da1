//! Builds the programs, with the cache of the build: they are compiled once.

use crate::Result;
use crate::caches;
use crate::modules::project;
use crate::settings::Settings;
use build::stages::{go, testbed};
use build::{KernelPlan, SourceChoice};
use common::event::{Event, Sink};
use std::path::PathBuf;

/// The profile that the images under test are built with: the containers' program is in the cache then.
const PROFILE: &str = "vm";

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Directory of those of Kubernetes and etcd.
    pub kubernetes: PathBuf,
    /// That of the tests' containers.
    pub container: PathBuf,
}

impl Programs {
    /// Builds those that are not in the cache.
    pub fn build(settings: &Settings) -> Result<Self> {
        let context = build::Context::new(build::Settings {
            project: project().canonicalize()?,
            cache: caches::shared(settings)?,
            mirrors: Vec::new(),
            offline: false,
            jobs: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            cargo_home: None,
            go_user: toolchain::go::User::read(|name| std::env::var_os(name)),
            sink: Box::new(Started),
        });
        let prepared = KernelPlan::read(&context, PROFILE, SourceChoice::default(), None)?.prepare()?;
        let containers = testbed::programs(&prepared)?;
        let kubernetes = go::programs(&context, &prepared.toolchain, go::KUBERNETES)?;
        Ok(Self { kubernetes: kubernetes.dir.join("bin"), container: containers.dir.join("container") })
    }
}

/// Prints the stages that run: Kubernetes takes a quarter of an hour to compile.
struct Started;

impl Sink for Started {
    fn emit(&self, event: &Event<'_>) {
        if let Event::StageStarted { stage } = event {
            eprintln!("building: {stage}");
        }
    }
}
