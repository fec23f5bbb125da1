//! Progress and rate of a transfer, reported as events at most twice a second.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::event::{Event, Sink};

use crate::clock::Clock;

/// Minimum time between two reports.
const INTERVAL: Duration = Duration::from_millis(500);

/// Counts the bytes of one stage, from several threads.
pub struct Meter<'a> {
    sink: &'a dyn Sink,
    clock: &'a dyn Clock,
    stage: &'a str,
    total: u64,
    done: AtomicU64,
    began: Duration,
    /// Time and bytes of the last report.
    reported: Mutex<(Duration, u64)>,
}

impl<'a> Meter<'a> {
    /// Starts counting towards `total` bytes.
    pub fn new(sink: &'a dyn Sink, clock: &'a dyn Clock, stage: &'a str, total: u64) -> Self {
        let now = clock.now();
        Self { sink, clock, stage, total, done: AtomicU64::new(0), began: now, reported: Mutex::new((now, u64::MAX)) }
    }

    /// Adds `bytes`.
    pub fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        self.report(false);
    }

    /// Subtracts `bytes` that must be transferred again.
    pub fn subtract(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Reports the final state.
    pub fn finish(&self) {
        self.report(true);
    }

    fn report(&self, always: bool) {
        // Another thread is already reporting.
        let Ok(mut reported) = self.reported.try_lock() else { return };
        let (now, done) = (self.clock.now(), self.done());
        if (always && reported.1 != done) || now.saturating_sub(reported.0) >= INTERVAL {
            *reported = (now, done);
            let rate = rate(done, now.saturating_sub(self.began));
            self.sink.emit(&Event::Transfer { stage: self.stage, done, total: self.total, rate });
        }
    }
}

impl std::fmt::Debug for Meter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Meter({}: {} of {})", self.stage, self.done(), self.total)
    }
}

/// Bytes per second.
fn rate(bytes: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1000) / millis
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ticks(AtomicU64);

    impl Clock for Ticks {
        fn now(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }

        fn sleep(&self, _: Duration) {}
    }

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl Sink for Lines {
        fn emit(&self, event: &Event<'_>) {
            self.0.lock().unwrap().push(serde_json::to_string(event).unwrap());
        }
    }

    #[test]
    fn reports_twice_a_second_and_at_the_end() {
        let (lines, clock) = (Lines::default(), Ticks(AtomicU64::new(0)));
        let meter = Meter::new(&lines, &clock, "push x", 4000);
        for _ in 0..30 {
            clock.0.fetch_add(100, Ordering::Relaxed);
            meter.add(100);
        }
        meter.subtract(1000);
        meter.finish();
        meter.finish();
        let lines = lines.0.into_inner().unwrap();
        assert_eq!(lines.len(), 7, "{lines:?}");
        assert_eq!(lines[0], r#"{"event":"transfer","stage":"push x","done":500,"total":4000,"rate":1000}"#);
        assert_eq!(lines[6], r#"{"event":"transfer","stage":"push x","done":2000,"total":4000,"rate":666}"#);
    }
}
