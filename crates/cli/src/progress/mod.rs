//! Shows the event stream: a progress bar per stage on a terminal, plain lines elsewhere, JSON lines for machines. After ten seconds without
//! output a heartbeat reports how far the stage is.

mod history;
mod pace;

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use common::event::{Event, Sink};
use common::text::printable;
use indicatif::{ProgressBar, ProgressStyle};

use crate::print;
pub use history::History;
use pace::{Expected, Pace, Report, Running};

/// Minimum time between two lines about a transfer in a log.
const TRANSFER_LINE: Duration = Duration::from_secs(10);

/// How often the heartbeat checks for silence.
const TICK: Duration = Duration::from_secs(1);

/// How events are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object per line on standard output.
    Json,
}

/// Returns the sink for `format`; text depends on whether standard error is a terminal.
pub fn sink(format: Format, verbose: bool, history: History) -> Box<dyn Sink + Send> {
    match format {
        Format::Text if !verbose && std::io::stderr().is_terminal() => Box::new(Terminal::new(history)),
        Format::Text => Box::new(Lines::new(Plain { verbose, transfer: Instant::now() }, history)),
        Format::Json => Box::new(Lines::new(Json, history)),
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

    fn take(&mut self, event: &Event<'_>) {
        let now = Instant::now();
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

/// A way to show events line by line.
trait Show: Send + 'static {
    /// Shows an event; returns whether that resets the heartbeat.
    fn show(&mut self, event: &Event<'_>) -> bool;
}

/// Shows events line by line, with a heartbeat.
struct Lines<S>(Arc<Mutex<(S, Follower)>>);

impl<S: Show> Lines<S> {
    fn new(show: S, history: History) -> Self {
        let shared = Arc::new(Mutex::new((show, Follower::new(history))));
        let weak = Arc::downgrade(&shared);
        std::thread::spawn(move || while tick(&weak) {});
        Self(shared)
    }
}

/// Reports progress if it is due; `false` when the sink is gone.
fn tick<S: Show>(shared: &Weak<Mutex<(S, Follower)>>) -> bool {
    std::thread::sleep(TICK);
    let Some(shared) = shared.upgrade() else { return false };
    let Ok(mut guard) = shared.lock() else { return false };
    let (show, follower) = &mut *guard;
    if let Some(report) = follower.pace.due(Instant::now()) {
        let Report { stage, doing, steps, elapsed, left } = &report;
        let (done, total) = steps.unzip();
        show.show(&Event::Progress { stage, doing, done, total, elapsed: *elapsed, left: *left });
    }
    true
}

impl<S: Show> Sink for Lines<S> {
    fn emit(&self, event: &Event<'_>) {
        let Ok(mut guard) = self.0.lock() else { return };
        let (show, follower) = &mut *guard;
        follower.take(event);
        if show.show(event) {
            follower.pace.shown(Instant::now());
        }
    }
}

/// JSON lines on standard output.
struct Json;

impl Show for Json {
    fn show(&mut self, shown: &Event<'_>) -> bool {
        event(shown);
        // A line of output does not show the progress.
        !matches!(shown, Event::Output { .. })
    }
}

/// Prints an event as a JSON line.
pub fn event(event: &Event<'_>) {
    if let Ok(line) = serde_json::to_string(event) {
        print::event(&line);
    }
}

/// Plain lines; with the output of programs only when `verbose`.
struct Plain {
    verbose: bool,
    /// Time of the last line about a transfer.
    transfer: Instant,
}

impl Show for Plain {
    fn show(&mut self, event: &Event<'_>) -> bool {
        match event {
            Event::Transfer { done, total, .. } if done != total && self.transfer.elapsed() < TRANSFER_LINE => {
                return false;
            }
            Event::Transfer { .. } => self.transfer = Instant::now(),
            Event::Output { .. } if !self.verbose => return false,
            Event::StageStarted { .. } => self.transfer = Instant::now(),
            _ => {}
        }
        print::err(&format!("{}{}", indent(event), text(event)));
        true
    }
}

/// Events of a stage are indented below its name.
fn indent(event: &Event<'_>) -> &'static str {
    let of_a_stage = matches!(event, Event::Transfer { .. } | Event::Output { .. } | Event::Progress { .. });
    if of_a_stage { "  " } else { "" }
}

struct Terminal(Mutex<(Option<ProgressBar>, Follower)>);

impl Terminal {
    fn new(history: History) -> Self {
        Self(Mutex::new((None, Follower::new(history))))
    }
}

impl Sink for Terminal {
    fn emit(&self, event: &Event<'_>) {
        let Ok(mut guard) = self.0.lock() else { return };
        let (bar, follower) = &mut *guard;
        follower.take(event);
        match event {
            Event::StageStarted { .. } => *bar = follower.pace.running().map(new_bar),
            Event::Output { .. } | Event::Transfer { .. } => {
                if let Some(bar) = bar {
                    bar.set_message(text(event));
                    let lines = follower.pace.running().map_or(0, |running| running.lines);
                    bar.set_position(bar.length().map_or(lines, |all| lines.min(all)));
                }
            }
            event => {
                if let (Event::StageFinished { .. }, Some(bar)) = (event, bar.take()) {
                    bar.finish_and_clear();
                }
                print::err(&text(event));
            }
        }
    }
}

/// A bar when the expected number of steps is known, else a spinner.
fn new_bar(running: &Running) -> ProgressBar {
    let (bar, template) = match running.expected {
        Some(expected) => (
            ProgressBar::new(expected.lines),
            "{spinner} {prefix} {elapsed} [{bar:20}] {percent} %, about {eta} left  {wide_msg}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {prefix} {elapsed} {wide_msg}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar.with_prefix(running.stage.clone())
}

/// Returns the text of an event, with control characters escaped.
fn text(event: &Event<'_>) -> String {
    let text = match event {
        Event::StageFinished { stage, cached: true, .. } => format!("{stage}: unchanged"),
        Event::StageFinished { stage, took, .. } => format!("{stage}: done in {:.1} s", took.as_secs_f64()),
        Event::Warning { message } => format!("warning: {message}"),
        Event::Note { message } => (*message).to_owned(),
        Event::Failed { message, .. } => format!("error: {message}"),
        Event::Transfer { done, total, rate, .. } => {
            format!("{} of {} MiB, {} MiB/s", mebibytes(*done), mebibytes(*total), mebibytes(*rate))
        }
        Event::StageStarted { stage } => format!("{stage} ..."),
        Event::Output { line, .. } => line.trim().to_owned(),
        Event::Progress { stage, doing, done, total, elapsed, left } => {
            let steps = done.zip(*total).map(|(done, total)| format!("{done} of about {total} steps"));
            let left = left.map(|left| format!("about {} left", rough(left)));
            let doing = (!doing.is_empty()).then(|| (*doing).to_owned());
            let parts: Vec<_> = [steps, Some(rough(*elapsed)), left, doing].into_iter().flatten().collect();
            let name = if stage.is_empty() { String::new() } else { format!("{stage}: ") };
            format!("{name}{}", parts.join(", "))
        }
    };
    printable(&text).into_owned()
}

/// Formats a time for people.
pub fn rough(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds => format!("{} min", (seconds + 30) / 60),
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

/// Formats bytes as MiB with one decimal.
fn mebibytes(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 10 / (1 << 20);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_shows_what_is_known() {
        let (elapsed, left) = (Duration::from_secs(340), Some(Duration::from_secs(545)));
        let known = Event::Progress {
            stage: "kernel",
            doing: "CC mm/hugetlb.o",
            done: Some(1500),
            total: Some(3900),
            elapsed,
            left,
        };
        assert_eq!(text(&known), "kernel: 1500 of about 3900 steps, 6 min, about 9 min left, CC mm/hugetlb.o");
        let elapsed = Duration::from_secs(12);
        let unknown =
            Event::Progress { stage: "", doing: "still running", done: None, total: None, elapsed, left: None };
        assert_eq!(text(&unknown), "12 s, still running");
        let unknown = Event::Progress { stage: "base", doing: "", done: None, total: None, elapsed, left: None };
        assert_eq!(text(&unknown), "base: 12 s");
        assert_eq!(
            serde_json::to_string(&unknown).unwrap(),
            r#"{"event":"progress","stage":"base","doing":"","elapsed":12.0}"#
        );
    }
}
