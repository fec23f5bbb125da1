//! How long to wait before a retry.

use std::time::Duration;

use common::Sha256;

/// Limit of `Retry-After`; a longer one is cut to this.
const LONGEST: Duration = Duration::from_secs(60);

/// Exponential backoff with jitter from a seed: the same seed gives the same waits.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Attempts in all, at least one.
    pub attempts: u32,
    /// Wait after the first failure, before jitter; doubles with each failure.
    pub first: Duration,
    /// Longest wait, except for `Retry-After`.
    pub longest: Duration,
    /// Spreads the retries of machines that failed at the same time.
    pub seed: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { attempts: 6, first: Duration::from_millis(500), longest: Duration::from_secs(20), seed: 0 }
    }
}

impl Backoff {
    /// Returns the wait after failure number `failures` (from 1) of the request `what`; `requested` is the registry's `Retry-After`.
    #[must_use]
    pub fn wait(&self, failures: u32, what: &str, requested: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(20)));
        let full = doubled.min(self.longest);
        // Between half of it and all of it.
        let digest = Sha256::of(format!("{} {failures} {what}", self.seed)).to_string();
        let draw = u32::from_str_radix(&digest[..4], 16).unwrap_or(0);
        let jittered = full / 2 + (full / 2) * draw / 0xffff;
        requested.map_or(jittered, |requested| requested.min(LONGEST).max(jittered))
    }
}

/// Parses `Retry-After` in seconds (RFC 9110, section 10.2.3). Ignores dates, which would need the wall clock.
#[must_use]
pub fn retry_after(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit_with_jitter() {
        let backoff = Backoff::default();
        for failures in 1..40 {
            let full = Duration::from_millis(500 << (failures - 1).min(10)).min(backoff.longest);
            let wait = backoff.wait(failures, "x", None);
            assert!(wait >= full / 2 && wait <= full, "{failures}: {wait:?}");
            assert_eq!(wait, backoff.wait(failures, "x", None));
        }
        assert_ne!(backoff.wait(3, "x", None), Backoff { seed: 1, ..backoff }.wait(3, "x", None));
        assert_ne!(backoff.wait(3, "x", None), backoff.wait(3, "y", None));
    }

    #[test]
    fn retry_after_is_honoured_up_to_a_limit() {
        let backoff = Backoff::default();
        assert_eq!(backoff.wait(1, "x", retry_after("7")), Duration::from_secs(7));
        assert_eq!(backoff.wait(1, "x", retry_after("86400")), Duration::from_secs(60));
        assert!(backoff.wait(4, "x", retry_after("0")) >= Duration::from_secs(2));
        assert_eq!(retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), None);
    }
}
