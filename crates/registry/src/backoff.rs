//! How long to wait before a failed request is made again.

use std::time::Duration;

use common::Sha256;

/// Longest wait that a registry may ask for by `Retry-After`; a longer one is cut to this.
const LONGEST: Duration = Duration::from_secs(60);

/// Exponential back-off with jitter out of a seed: the same seed gives the same waits.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Attempts in all, at least one.
    pub attempts: u32,
    /// Wait after the first failure, before jitter; doubled by each further one.
    pub first: Duration,
    /// No wait is longer, but for `Retry-After`.
    pub longest: Duration,
    /// Makes machines that failed together come back apart.
    pub seed: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { attempts: 6, first: Duration::from_millis(500), longest: Duration::from_secs(20), seed: 0 }
    }
}

impl Backoff {
    /// The wait after failure number `failures` (from 1) of the request named `what`; `asked` is the registry's `Retry-After`.
    #[must_use]
    pub fn wait(&self, failures: u32, what: &str, asked: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(20)));
        let full = doubled.min(self.longest);
        // Between half of it and all of it.
        let digest = Sha256::of(format!("{} {failures} {what}", self.seed)).to_string();
        let draw = u32::from_str_radix(&digest[..4], 16).unwrap_or(0);
        let jittered = full / 2 + (full / 2) * draw / 0xffff;
        asked.map_or(jittered, |asked| asked.min(LONGEST).max(jittered))
    }
}

/// `Retry-After` in seconds (RFC 9110, section 10.2.3). The form with a date is passed over: it would need the wall clock.
#[must_use]
pub fn retry_after(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_longest_within_the_jitter() {
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
    fn the_registry_may_ask_for_more_but_not_for_a_day() {
        let backoff = Backoff::default();
        assert_eq!(backoff.wait(1, "x", retry_after("7")), Duration::from_secs(7));
        assert_eq!(backoff.wait(1, "x", retry_after("86400")), Duration::from_secs(60));
        assert!(backoff.wait(4, "x", retry_after("0")) >= Duration::from_secs(2));
        assert_eq!(retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), None);
    }
}
