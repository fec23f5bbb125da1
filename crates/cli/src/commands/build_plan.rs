//! `solana-talos build --plan`: what a build would do, and how long it took the last time.

use std::path::PathBuf;
use std::time::Duration;

use build::look::{Looked, Planned, State};
use common::text::count;
use serde::Serialize;

use crate::context::Context;
use crate::progress::{Format, rough};
use crate::result::{self, Data};

/// The result.
#[derive(Serialize)]
pub struct Shown {
    /// The build file.
    pub config: Option<PathBuf>,
    /// The output directory, which is not written.
    pub out: PathBuf,
    #[serde(flatten)]
    inputs: build::look::Inputs,
    stages: Vec<Stage>,
    /// Number of files that would be fetched.
    fetch: usize,
    /// Estimated seconds of the stages that would run or may run.
    seconds: u64,
    /// Those of them without an estimate.
    unknown: Vec<&'static str>,
}

#[derive(Serialize)]
struct Stage {
    #[serde(flatten)]
    planned: Planned,
    /// Seconds of its last run here, if there was one.
    last: Option<u64>,
    /// Seconds it is expected to take: those of its last run, else what is usual, if known.
    expected: Option<u64>,
}

impl Data for Shown {
    const VERB: &'static str = "build --plan";
}

impl Shown {
    /// Adds the times of the last runs.
    pub fn of(context: &Context, config: Option<PathBuf>, out: PathBuf, looked: Looked) -> Self {
        let Looked { inputs, stages, fetch } = looked;
        let history = context.history();
        let timed = |planned: Planned| Stage {
            last: history.last(planned.stage),
            expected: history.expected(planned.stage).map(|expected| expected.seconds),
            planned,
        };
        let stages: Vec<Stage> = stages.into_iter().map(timed).collect();
        let open = || stages.iter().filter(|stage| stage.planned.state != State::Cached);
        let seconds = open().filter_map(|stage| stage.expected).sum();
        let unknown = open().filter(|stage| stage.expected.is_none()).map(|stage| stage.planned.stage).collect();
        Self { config, out, inputs, stages, fetch, seconds, unknown }
    }

    /// Prints it.
    pub fn print(&self, context: &Context) -> anyhow::Result<()> {
        match context.format() {
            Format::Text => self.lines().iter().try_for_each(|line| context.answer(line)),
            Format::Json => result::print(self),
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.facts().into_iter().map(|(name, text)| format!("{name:<12} {text}")).collect();
        lines.push(String::new());
        lines.push(format!("{:<20} {:<26} {}", "stage", "last time", "this time"));
        lines.extend(self.stages.iter().map(Stage::line));
        lines.push(String::new());
        lines.push(self.total());
        lines
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let inputs = &self.inputs;
        let (kernel, keys) = (&inputs.kernel, &inputs.keys);
        let config = self.config.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string());
        let compilers =
            ["clang-19", "rustc"].iter().filter_map(|name| Some(format!("{name} {}", inputs.tools.get(*name)?)));
        let base = if inputs.base.testbed { " (a test userland, not Talos)" } else { "" };
        let development = if keys.development { " (development keys, which protect nothing)" } else { "" };
        let mut facts = vec![
            ("build file", config),
            ("profile", inputs.profile.clone()),
            ("preset", inputs.preset.clone()),
            ("talos", inputs.talos.to_owned()),
            ("kernel", format!("{} from {} {}", kernel.release, kernel.source, kernel.digest)),
            ("toolchain", compilers.collect::<Vec<_>>().join(", ")),
            ("base", format!("{}{base}", inputs.base.name)),
        ];
        facts.extend(inputs.base.images.iter().map(|image| ("", format!("{} {}", image.name, image.digest))));
        facts.push(("keys", format!("{}{development}", keys.directory.display())));
        facts.push(("arguments", inputs.command_line.clone()));
        facts.extend(inputs.images.iter().map(|name| ("image", name.clone())));
        facts.push(("output", self.out.display().to_string()));
        facts
    }

    fn total(&self) -> String {
        let open = self.stages.iter().filter(|stage| stage.planned.state != State::Cached).count();
        if open == 0 {
            return "every stage is cached".to_owned();
        }
        let fetch = match self.fetch {
            0 => String::new(),
            files => format!(", {} to fetch", count(files, "file")),
        };
        let without = match &self.unknown[..] {
            [] => String::new(),
            stages => format!(", without {}, which have no record", stages.join(", ")),
        };
        format!("{}{fetch}: about {}{without}", count(open, "stage"), rough(Duration::from_secs(self.seconds)))
    }
}

impl Stage {
    fn line(&self) -> String {
        let Planned { stage, state, after, fetch } = &self.planned;
        let now = match (state, fetch) {
            (State::Cached, _) => "cached".to_owned(),
            (State::Run, 0) => "runs".to_owned(),
            (State::Run, files) => format!("fetches {} and runs", count(*files, "file")),
            (State::Unknown, _) => format!("known after {}", after.join(", ")),
        };
        let time = |seconds| rough(Duration::from_secs(seconds));
        let last = match (self.last, self.expected) {
            (Some(last), _) => time(last),
            (None, Some(usual)) => format!("no record; usual {}", time(usual)),
            (None, None) => "no record".to_owned(),
        };
        format!("{stage:<20} {last:<26} {now}")
    }
}
