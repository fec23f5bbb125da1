//! What a build tells while it runs. The terminal, the plain log and `--format json` all read this one stream.

use std::time::Duration;

use serde::Serialize;

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event<'a> {
    /// A stage begins to work; a stage found in the cache only gives [`Event::StageFinished`].
    StageStarted {
        /// Name of the stage.
        stage: &'a str,
    },
    /// A line of output of the stage's programs, such as make's `CC mm/hugetlb.o`.
    Output {
        /// Name of the stage.
        stage: &'a str,
        /// The line, without its end.
        line: &'a str,
    },
    /// How far a transfer of the stage is; told about twice a second, and at its end.
    Transfer {
        /// Name of the stage.
        stage: &'a str,
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
        /// Bytes a second since it began.
        rate: u64,
    },
    /// How far a stage is. Not sent by stages: what shows the events adds it when there was nothing to show for some seconds.
    Progress {
        /// Name of the stage; empty between stages.
        stage: &'a str,
        /// What it does at the moment.
        doing: &'a str,
        /// Steps that are done.
        #[serde(skip_serializing_if = "Option::is_none")]
        done: Option<u64>,
        /// About how many steps there are.
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
        /// Seconds since it began.
        #[serde(serialize_with = "seconds")]
        elapsed: Duration,
        /// About how many seconds it goes on.
        #[serde(serialize_with = "some_seconds", skip_serializing_if = "Option::is_none")]
        left: Option<Duration>,
    },
    /// A stage is done.
    StageFinished {
        /// Name of the stage.
        stage: &'a str,
        /// Whether its result was there already.
        cached: bool,
        /// Seconds it took.
        #[serde(serialize_with = "seconds")]
        took: Duration,
    },
    /// Something the user should know but that does not stop the build.
    Warning {
        /// What.
        message: &'a str,
    },
    /// The command failed; the last event of it.
    Failed {
        /// The error as a person reads it.
        message: &'a str,
        /// The exit code, which tells the class ([`crate::Class::exit_code`]).
        exit_code: u8,
    },
    /// A result for the user.
    Note {
        /// What.
        message: &'a str,
    },
}

fn seconds<S: serde::Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((took.as_secs_f64() * 1000.0).round() / 1000.0)
}

fn some_seconds<S: serde::Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    seconds(&time.unwrap_or_default(), serializer)
}

/// Where events go.
pub trait Sink: Sync {
    /// Takes one event; must not block for long.
    fn emit(&self, event: &Event<'_>);
}

/// Drops every event: for tests and for callers that only want the result.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Sink for Silent {
    fn emit(&self, _event: &Event<'_>) {}
}
