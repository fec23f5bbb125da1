//! Shows the event stream: a progress bar per stage on a terminal, plain lines elsewhere, JSON lines for machines, with `--quiet` only what
//! matters in the end.

mod history;
mod lines;
mod pace;
mod terminal;
mod text;

use std::io::IsTerminal as _;
use std::time::Instant;

use clap::ValueEnum;
use common::event::{Event, Sink};
use common::text::printable;

use crate::print;
pub use history::History;
use lines::{Json, Lines, Plain, Quiet};
use pace::{Expected, Pace};
use terminal::Terminal;
pub use text::{error, rough, styled};

/// How events are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object per line on standard output.
    Json,
}

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Errors, warnings and the result.
    Quiet,
    /// Progress as well.
    Normal,
    /// The output of programs as well.
    Verbose,
}

/// How and how much is shown.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// How.
    pub format: Format,
    /// How much.
    pub detail: Detail,
}

impl Output {
    /// Returns the sink of a verb; `history` is for its estimates. Text depends on whether standard error is a terminal.
    pub fn sink(self, history: History) -> Box<dyn Sink + Send> {
        match (self.format, self.detail) {
            (format, Detail::Quiet) => Box::new(Quiet(format)),
            (Format::Json, _) => Box::new(Lines::new(Json, history)),
            (Format::Text, Detail::Normal) if std::io::stderr().is_terminal() => Box::new(Terminal::new(history)),
            (Format::Text, detail) => Box::new(Lines::new(Plain::new(detail, Instant::now()), history)),
        }
    }
}

/// Prints a result on standard output; as an event with `--format json`.
///
/// # Errors
/// As [`print::out`].
pub fn answer(format: Format, text: &str) -> anyhow::Result<()> {
    match format {
        Format::Text => print::out(&printable(text)),
        Format::Json => print::out(&serde_json::to_string(&Event::Note { message: text })?),
    }
}

/// Prints an event as a JSON line.
pub fn event(event: &Event<'_>) {
    if let Ok(line) = serde_json::to_string(event) {
        print::event(&line);
    }
}

/// Tracks the running stage for a sink and records what stages took.
struct Follower {
    pace: Pace,
    history: History,
}

impl Follower {
    fn new(history: History) -> Self {
        Self { pace: Pace::new(Instant::now()), history }
    }

    fn take(&mut self, now: Instant, event: &Event<'_>) {
        match event {
            Event::StageStarted { stage } => self.pace.begin(now, stage, self.history.expected(stage)),
            Event::StageFinished { stage, .. } => {
                if let Some(running) = self.pace.end(stage) {
                    self.history.record(stage, Expected { lines: running.lines, seconds: running.seconds(now) });
                }
            }
            event => self.pace.note(now, event),
        }
    }
}
