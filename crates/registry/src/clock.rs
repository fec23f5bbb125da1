//! The clock as a parameter, so that tests of the backoff do not wait.

use std::time::{Duration, Instant};

/// A monotonic clock.
pub trait Clock: Sync {
    /// Time since a fixed moment.
    fn now(&self) -> Duration;
    /// Waits.
    fn sleep(&self, time: Duration);
}

/// The system clock.
#[derive(Clone, Copy, Debug)]
pub struct System(Instant);

impl System {
    /// Returns a clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for System {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
