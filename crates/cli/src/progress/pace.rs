//! Progress and remaining time of a stage, estimated from its output. Pure: the caller passes the time.

use std::time::{Duration, Instant};

use common::event::Event;

/// Silence after which the heartbeat reports progress. A line at least every 15 seconds is promised, also under load.
const SILENCE: Duration = Duration::from_secs(10);
/// Range of progress in which the remaining time is extrapolated from the pace so far.
const EXTRAPOLATED: std::ops::Range<f64> = 0.05..0.97;

/// What a stage is expected to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Lines of output.
    pub lines: u64,
    /// Seconds.
    pub seconds: u64,
}

/// The running stage.
#[derive(Debug)]
pub struct Running {
    /// Its name.
    pub stage: String,
    /// Lines of output so far.
    pub lines: u64,
    /// What it is expected to take, if known.
    pub expected: Option<Expected>,
    start: Instant,
    /// Its last line of output.
    doing: String,
    /// Whether a `StageStarted` event began it, so that a `StageFinished` event will end it.
    announced: bool,
}

/// Tracks progress from the events.
#[derive(Debug)]
pub struct Pace {
    running: Option<Running>,
    /// Time of the last output.
    shown: Instant,
}

/// Progress at some point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The stage; empty between stages.
    pub stage: String,
    /// Current activity.
    pub doing: String,
    /// Steps done, and the estimated total.
    pub steps: Option<(u64, u64)>,
    /// Time since the stage began; between stages since the last output.
    pub elapsed: Duration,
    /// Estimated remaining time.
    pub left: Option<Duration>,
}

impl Report {
    /// Returns it as an event.
    pub fn event(&self) -> Event<'_> {
        let Self { stage, doing, steps, elapsed, left } = self;
        let (done, total) = steps.unzip();
        Event::Progress { stage, doing, done, total, elapsed: *elapsed, left: *left }
    }
}

impl Pace {
    /// Creates a tracker with no running stage.
    pub fn new(now: Instant) -> Self {
        Self { running: None, shown: now }
    }

    /// Returns the running stage.
    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// Records the start of a stage.
    pub fn begin(&mut self, now: Instant, stage: &str, expected: Option<Expected>) {
        self.running = Some(Running {
            stage: stage.to_owned(),
            lines: 0,
            expected,
            start: now,
            doing: String::new(),
            announced: true,
        });
    }

    /// Records the end of a stage; returns it if its start was recorded too.
    pub fn end(&mut self, stage: &str) -> Option<Running> {
        self.running.take().filter(|running| running.announced && running.stage == stage)
    }

    /// Records an event between start and end.
    pub fn note(&mut self, now: Instant, event: &Event<'_>) {
        match event {
            Event::Output { stage, line } => {
                let running = self.running.get_or_insert_with(|| Running::unannounced(now, stage));
                running.lines += u64::from(running.stage == *stage);
                if !line.trim().is_empty() {
                    running.doing = line.trim().to_owned();
                }
            }
            Event::Files { stage, done, total, .. } if done < total => {
                self.running.get_or_insert_with(|| Running::unannounced(now, stage));
            }
            // Work without a start event has no end event either; it ends with its last file or a note.
            Event::Files { .. } | Event::Note { .. } => {
                self.running.take_if(|running| !running.announced);
            }
            _ => {}
        }
    }

    /// Records that something was shown.
    pub fn shown(&mut self, now: Instant) {
        self.shown = now;
    }

    /// Returns a progress report if it has been silent for too long.
    pub fn due(&mut self, now: Instant) -> Option<Report> {
        if now.duration_since(self.shown) < SILENCE {
            return None;
        }
        let silent = now.duration_since(self.shown);
        self.shown = now;
        let nothing = || Report {
            stage: String::new(),
            doing: "still running".to_owned(),
            steps: None,
            elapsed: silent,
            left: None,
        };
        Some(self.running.as_ref().map_or_else(nothing, |running| running.report(now)))
    }
}

impl Running {
    fn unannounced(now: Instant, stage: &str) -> Self {
        let stage = stage.to_owned();
        Self { stage, lines: 0, expected: None, start: now, doing: String::new(), announced: false }
    }

    /// Returns the whole seconds since its start.
    pub fn seconds(&self, now: Instant) -> u64 {
        now.duration_since(self.start).as_secs()
    }

    /// Returns its progress.
    pub fn report(&self, now: Instant) -> Report {
        let elapsed = now.duration_since(self.start);
        // With more lines than expected, the total is unknown.
        let expected = self.expected.filter(|expected| self.lines <= expected.lines);
        Report {
            stage: self.stage.clone(),
            doing: self.doing.clone(),
            steps: expected.map(|expected| (self.lines, expected.lines)).filter(|(done, _)| *done > 0),
            elapsed,
            left: expected.and_then(|expected| left(elapsed, self.lines, expected)),
        }
    }
}

/// Estimates the remaining time, from the pace so far or from earlier runs.
fn left(elapsed: Duration, lines: u64, expected: Expected) -> Option<Duration> {
    #[allow(clippy::cast_precision_loss, reason = "a share for people")]
    let share = lines as f64 / expected.lines.max(1) as f64;
    if EXTRAPOLATED.contains(&share) {
        return Some(elapsed.mul_f64((1.0 - share) / share));
    }
    Duration::from_secs(expected.seconds).checked_sub(elapsed).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: Option<Expected> = Some(Expected { lines: 4000, seconds: 800 });

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn lines(pace: &mut Pace, now: Instant, stage: &str, count: usize) {
        for _ in 0..count {
            pace.note(now, &Event::Output { stage, line: "  CC mm/hugetlb.o" });
        }
    }

    #[test]
    fn a_silent_stage_is_reported_every_ten_seconds() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.begin(start, "kernel-source", None);
        let times: Vec<_> = (0..=45).filter(|second| pace.due(at(start, *second)).is_some()).collect();
        assert_eq!(times, [10, 20, 30, 40]);
        pace.shown(at(start, 45));
        assert_eq!(pace.due(at(start, 54)), None);
        let report = pace.due(at(start, 55)).unwrap();
        assert_eq!((report.elapsed.as_secs(), report.steps, report.left), (55, None, None));
    }

    #[test]
    fn the_rest_is_estimated_by_the_pace_so_far() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.begin(start, "kernel", KERNEL);
        let left = |pace: &mut Pace, second| pace.due(at(start, second)).unwrap().left.map(|left| left.as_secs());
        lines(&mut pace, start, "kernel", 100);
        assert_eq!(left(&mut pace, 50), Some(750), "too early: from earlier runs");
        lines(&mut pace, start, "kernel", 900);
        lines(&mut pace, start, "fetch", 5);
        assert_eq!(left(&mut pace, 340), Some(1020));
        lines(&mut pace, start, "kernel", 2990);
        assert_eq!(left(&mut pace, 790), Some(10), "the last steps are long");
        assert_eq!(left(&mut pace, 900), None, "longer than ever: unknown");
        lines(&mut pace, start, "kernel", 11);
        let report = pace.due(at(start, 950)).unwrap();
        assert_eq!((report.steps, report.left), (None, None), "more steps than ever: unknown");
        assert_eq!(pace.end("kernel").map(|running| running.lines), Some(4001));
    }

    #[test]
    fn work_outside_of_stages_is_reported_too() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(pace.due(at(start, 10)).unwrap().doing, "still running");
        lines(&mut pace, at(start, 10), "fetch", 1);
        let report = pace.due(at(start, 21)).unwrap();
        assert_eq!(
            (report.stage.as_str(), report.doing.as_str(), report.elapsed.as_secs()),
            ("fetch", "CC mm/hugetlb.o", 11)
        );
        pace.note(at(start, 22), &Event::Remark { message: "waiting" });
        assert!(pace.running().is_some());
        pace.note(at(start, 22), &Event::Note { message: "fetched" });
        assert!(pace.running().is_none());
        let files =
            |done| Event::Files { stage: "fetch", what: "files", done, total: 2, bytes: None, elapsed: Duration::ZERO };
        pace.note(at(start, 22), &files(1));
        assert_eq!(pace.running().map(|running| running.stage.as_str()), Some("fetch"));
        pace.note(at(start, 22), &files(2));
        assert!(pace.running().is_none());
        lines(&mut pace, at(start, 23), "fetch", 1);
        assert!(pace.end("fetch").is_none(), "its begin was not seen");
    }
}
