//! Shows events line by line. After ten seconds without output a heartbeat reports how far the stage is.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use common::event::{Event, Sink};

use super::history::History;
use super::text::styled;
use super::{Detail, Follower, Format, event};
use crate::print;

/// Minimum time between two lines about a transfer in a log.
const TRANSFER_LINE: Duration = Duration::from_secs(10);

/// How often the heartbeat checks for silence.
const TICK: Duration = Duration::from_secs(1);

/// A way to show events line by line.
pub trait Show: Send + 'static {
    /// Shows an event; returns whether that resets the heartbeat.
    fn show(&mut self, now: Instant, event: &Event<'_>) -> bool;
}

/// Shows events line by line, with a heartbeat.
pub struct Lines<S>(Arc<Mutex<(S, Follower)>>);

impl<S: Show> Lines<S> {
    pub fn new(show: S, history: History) -> Self {
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
    let now = Instant::now();
    if let Some(report) = follower.pace.due(now) {
        show.show(now, &report.event());
    }
    true
}

impl<S: Show> Sink for Lines<S> {
    fn emit(&self, event: &Event<'_>) {
        let Ok(mut guard) = self.0.lock() else { return };
        let (show, follower) = &mut *guard;
        let now = Instant::now();
        follower.take(now, event);
        if show.show(now, event) {
            follower.pace.shown(now);
        }
    }
}

/// JSON lines on standard output.
pub struct Json;

impl Show for Json {
    fn show(&mut self, _: Instant, shown: &Event<'_>) -> bool {
        event(shown);
        // A line of output does not show the progress.
        !matches!(shown, Event::Output { .. })
    }
}

/// Plain lines on standard error; with the output of programs only when verbose.
pub struct Plain {
    verbose: bool,
    /// Time of the last line about a transfer.
    transfer: Instant,
}

impl Plain {
    pub fn new(detail: Detail, now: Instant) -> Self {
        Self { verbose: detail == Detail::Verbose, transfer: now }
    }

    /// Whether there is a line for `event` at `now`.
    fn has_line(&mut self, now: Instant, event: &Event<'_>) -> bool {
        match event {
            Event::Transfer { done, total, .. } | Event::Files { done, total, .. }
                if done != total && now.duration_since(self.transfer) < TRANSFER_LINE =>
            {
                return false;
            }
            Event::Output { .. } => return self.verbose,
            Event::Transfer { .. } | Event::Files { .. } | Event::StageStarted { .. } => self.transfer = now,
            _ => {}
        }
        true
    }
}

impl Show for Plain {
    fn show(&mut self, now: Instant, event: &Event<'_>) -> bool {
        let has_line = self.has_line(now, event);
        if has_line {
            print::err(&line(event));
        }
        has_line
    }
}

fn line(event: &Event<'_>) -> String {
    format!("{}{}", indent(event), styled(event))
}

/// Events of a stage are indented below its name.
fn indent(event: &Event<'_>) -> &'static str {
    match event {
        Event::Transfer { .. } | Event::Files { .. } | Event::Output { .. } | Event::Progress { .. } => "  ",
        _ => "",
    }
}

/// Errors, warnings and the result.
pub struct Quiet(pub Format);

impl Sink for Quiet {
    fn emit(&self, shown: &Event<'_>) {
        match self.0 {
            _ if !matters_in_the_end(shown) => {}
            Format::Text => print::err(&styled(shown)),
            Format::Json => event(shown),
        }
    }
}

fn matters_in_the_end(event: &Event<'_>) -> bool {
    matches!(event, Event::Warning { .. } | Event::Note { .. } | Event::Failed { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a build says, with the second of each event.
    fn build() -> Vec<(u64, Event<'static>)> {
        let (stage, elapsed, left) = ("kernel", Duration::from_secs(40), Some(Duration::from_secs(60)));
        let files = |done| {
            let (stage, elapsed) = ("fetch", Duration::from_secs(done));
            Event::Files { stage, what: "files", done, total: 4, bytes: Some(done << 20), elapsed }
        };
        vec![
            (0, Event::Remark { message: "signing with development keys" }),
            (1, files(1)),
            (11, files(2)),
            (12, files(3)),
            (13, files(4)),
            (14, Event::StageFinished { stage: "toolchain", cached: true, took: Duration::ZERO }),
            (14, Event::StageStarted { stage }),
            (15, Event::Output { stage, line: "  CC mm/hugetlb.o" }),
            (54, Event::Progress { stage, doing: "CC mm/hugetlb.o", done: Some(40), total: Some(100), elapsed, left }),
            (55, Event::Warning { message: "compiling from scratch" }),
            (114, Event::StageFinished { stage, cached: false, took: Duration::from_secs(100) }),
            (115, Event::Note { message: "wrote _out" }),
        ]
    }

    fn plain(detail: Detail) -> String {
        let start = Instant::now();
        let mut plain = Plain::new(detail, start);
        let events = build().into_iter();
        let shown = events.filter(|(second, event)| plain.has_line(start + Duration::from_secs(*second), event));
        shown.map(|(_, event)| format!("{}\n", anstream::adapter::strip_str(&line(&event)))).collect()
    }

    const LINES: &str = "signing with development keys
  fetched 2 of 4 files (50 %), 2.0 MiB, 1.0 MiB/s, about 2 s left
  fetched 4 of 4 files (100 %), 4.0 MiB, 1.0 MiB/s
toolchain: unchanged
kernel ...
  kernel: 40 %, 40 of about 100 steps, 1.0/s, 40 s, about 60 s left, CC mm/hugetlb.o
warning: compiling from scratch
kernel: done in 100.0 s
wrote _out
";

    #[test]
    fn plain_lines_have_share_rate_and_what_is_left() {
        assert_eq!(plain(Detail::Normal), LINES);
    }

    #[test]
    fn verbose_adds_the_output_of_programs() {
        assert_eq!(plain(Detail::Verbose), LINES.replace("kernel ...\n", "kernel ...\n  CC mm/hugetlb.o\n"));
    }

    #[test]
    fn quiet_leaves_warnings_and_the_result() {
        let left: Vec<_> =
            build().into_iter().filter(|(_, event)| matters_in_the_end(event)).map(|(at, _)| at).collect();
        assert_eq!(left, [55, 115]);
    }
}
