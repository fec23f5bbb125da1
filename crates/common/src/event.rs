//! Progress events of a build. The terminal, the plain log and `--format json` all show this one stream.

use std::time::Duration;

use serde::Serialize;

/// A progress event.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event<'a> {
    /// A stage starts; a stage found in the cache only emits [`Event::StageFinished`].
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
    /// Progress of a transfer; emitted about twice a second and at its end.
    Transfer {
        /// Name of the stage.
        stage: &'a str,
        /// Bytes so far.
        done: u64,
        /// Bytes in total.
        total: u64,
        /// Bytes per second since its start.
        rate: u64,
    },
    /// Progress of a download of several files; emitted after each.
    Files {
        /// Name of the stage.
        stage: &'a str,
        /// What they are, in the plural.
        what: &'a str,
        /// Files so far.
        done: u64,
        /// Files in total.
        total: u64,
        /// Bytes so far, if the downloader says so.
        #[serde(skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
        /// Seconds since its start.
        #[serde(serialize_with = "seconds")]
        elapsed: Duration,
    },
    /// Heartbeat of a stage. Not emitted by stages but by the sink, after some seconds without output.
    Progress {
        /// Name of the stage; empty between stages.
        stage: &'a str,
        /// Current activity.
        doing: &'a str,
        /// Steps done.
        #[serde(skip_serializing_if = "Option::is_none")]
        done: Option<u64>,
        /// Estimated number of steps.
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
        /// Seconds since its start.
        #[serde(serialize_with = "seconds")]
        elapsed: Duration,
        /// Estimated remaining seconds.
        #[serde(serialize_with = "some_seconds", skip_serializing_if = "Option::is_none")]
        left: Option<Duration>,
    },
    /// A stage finished.
    StageFinished {
        /// Name of the stage.
        stage: &'a str,
        /// Whether it was a cache hit.
        cached: bool,
        /// Seconds it took.
        #[serde(serialize_with = "seconds")]
        took: Duration,
    },
    /// A problem that does not stop the build.
    Warning {
        /// The text.
        message: &'a str,
    },
    /// The command failed; its last event.
    Failed {
        /// The error text.
        message: &'a str,
        /// The exit code; see [`crate::Class::exit_code`].
        exit_code: u8,
    },
    /// A result for the user.
    Note {
        /// The text.
        message: &'a str,
    },
    /// An informational message, which `--quiet` hides.
    #[serde(rename = "note")]
    Remark {
        /// The text.
        message: &'a str,
    },
}

fn seconds<S: serde::Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((took.as_secs_f64() * 1000.0).round() / 1000.0)
}

fn some_seconds<S: serde::Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    seconds(&time.unwrap_or_default(), serializer)
}

/// A receiver of events.
pub trait Sink: Sync {
    /// Handles one event; must not block for long.
    fn emit(&self, event: &Event<'_>);
}

/// Drops every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Sink for Silent {
    fn emit(&self, _event: &Event<'_>) {}
}
