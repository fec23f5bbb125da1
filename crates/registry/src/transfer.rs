//! How far a transfer is and how fast, told to the event stream at most twice a second.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::event::{Event, Sink};

use crate::clock::Clock;

/// Least time between two reports.
const INTERVAL: Duration = Duration::from_millis(500);

/// Counts the bytes of one stage, from several threads.
pub struct Meter<'a> {
    sink: &'a dyn Sink,
    clock: &'a dyn Clock,
    stage: &'a str,
    total: u64,
    done: AtomicU64,
    began: Duration,
    /// When it was last told, and how much.
    told: Mutex<(Duration, u64)>,
}

impl<'a> Meter<'a> {
    /// Begins to count towards `total` bytes.
    pub fn new(sink: &'a dyn Sink, clock: &'a dyn Clock, stage: &'a str, total: u64) -> Self {
        let now = clock.now();
        Self { sink, clock, stage, total, done: AtomicU64::new(0), began: now, told: Mutex::new((now, u64::MAX)) }
    }

    /// Counts `bytes` more.
    pub fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        self.tell(false);
    }

    /// Takes back what has to be sent or fetched again.
    pub fn take_back(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Tells where the transfer stands, now.
    pub fn finish(&self) {
        self.tell(true);
    }

    fn tell(&self, always: bool) {
        // Whoever finds another thread telling need not.
        let Ok(mut told) = self.told.try_lock() else { return };
        let (now, done) = (self.clock.now(), self.done());
        if (always && told.1 != done) || now.saturating_sub(told.0) >= INTERVAL {
            *told = (now, done);
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

/// Bytes a second.
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
    fn tells_twice_a_second_and_at_the_end() {
        let (lines, clock) = (Lines::default(), Ticks(AtomicU64::new(0)));
        let meter = Meter::new(&lines, &clock, "push x", 4000);
        for _ in 0..30 {
            clock.0.fetch_add(100, Ordering::Relaxed);
            meter.add(100);
        }
        meter.take_back(1000);
        meter.finish();
        meter.finish();
        let lines = lines.0.into_inner().unwrap();
        assert_eq!(lines.len(), 7, "{lines:?}");
        assert_eq!(lines[0], r#"{"event":"transfer","stage":"push x","done":500,"total":4000,"rate":1000}"#);
        assert_eq!(lines[6], r#"{"event":"transfer","stage":"push x","done":2000,"total":4000,"rate":666}"#);
    }
}
