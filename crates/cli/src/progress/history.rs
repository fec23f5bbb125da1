//! How long stages took in earlier runs, kept in the cache: `LINES SECONDS` for each stage and profile.

use std::path::PathBuf;

use super::pace::Expected;

/// Estimates for long stages before their first run, on two cores: stage, profile, lines of output, seconds (docs/performance.md).
const USUAL: [(&str, &str, u64, u64); 4] = [
    ("toolchain", "", 2450, 200),
    ("kernel", "vm", 3900, 870),
    ("kernel", "metal", 9000, 2150),
    ("kernel", "debug", 1960, 320),
];

/// A run with less output than this share of the recorded one resumed an interrupted run, and is not recorded.
const WHOLE: f64 = 0.8;

/// The record of earlier runs.
#[derive(Clone, Debug)]
pub struct History {
    dir: Option<PathBuf>,
    profile: String,
}

impl History {
    /// A history that records nothing.
    pub fn none() -> Self {
        Self { dir: None, profile: String::new() }
    }

    /// A history in `dir` for the kernel profile `profile`.
    pub fn new(dir: PathBuf, profile: &str) -> Self {
        Self { dir: Some(dir), profile: profile.to_owned() }
    }

    /// Returns the seconds of the last complete run of `stage`.
    pub fn last(&self, stage: &str) -> Option<u64> {
        self.recorded(stage).map(|took| took.seconds)
    }

    /// Returns what `stage` took in its last complete run, or a built-in estimate.
    pub fn expected(&self, stage: &str) -> Option<Expected> {
        self.recorded(stage).or_else(|| {
            let same = |name: &str, profile: &str| name == stage && (profile.is_empty() || profile == self.profile);
            let found = USUAL.iter().find(|(name, profile, ..)| same(name, profile));
            found.map(|&(_, _, lines, seconds)| Expected { lines, seconds })
        })
    }

    /// Records what `stage` took. Write errors are ignored: only an estimate is lost.
    #[allow(clippy::cast_precision_loss, reason = "a share")]
    pub fn record(&self, stage: &str, took: Expected) {
        let whole = self.recorded(stage).is_none_or(|before| took.lines as f64 >= before.lines as f64 * WHOLE);
        if let Some(file) = self.file(stage).filter(|_| whole) {
            let _ = common::atomic::write(&file, format!("{} {}\n", took.lines, took.seconds));
        }
    }

    fn recorded(&self, stage: &str) -> Option<Expected> {
        let text = std::fs::read_to_string(self.file(stage)?).ok()?;
        let (lines, seconds) = text.trim().split_once(' ')?;
        Some(Expected { lines: lines.parse().ok()?, seconds: seconds.parse().ok()? })
    }

    fn file(&self, stage: &str) -> Option<PathBuf> {
        // Push stages have a slash in their name; their time depends on the network.
        let plain = stage.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let name = format!("{stage}-{}", self.profile);
        self.dir.as_ref().filter(|_| plain).map(|dir| dir.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_complete_run_counts_and_an_estimate_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::new(dir.path().join("progress"), "vm");
        let seen = |lines, seconds| Some(Expected { lines, seconds });
        assert_eq!(history.expected("kernel"), seen(3900, 870));
        assert_eq!((history.expected("base"), history.last("kernel")), (None, None));
        history.record("kernel", Expected { lines: 4100, seconds: 1000 });
        history.record("kernel", Expected { lines: 50, seconds: 3 });
        assert_eq!(history.expected("kernel"), seen(4100, 1000));
        history.record("kernel", Expected { lines: 4000, seconds: 700 });
        assert_eq!(history.expected("kernel"), seen(4000, 700));
        assert_eq!(history.last("kernel"), Some(700));
        let metal = History::new(dir.path().join("progress"), "metal");
        assert_eq!(metal.expected("kernel"), seen(9000, 2150));
        metal.record("push ghcr.io/a/b", Expected { lines: 1, seconds: 1 });
        assert_eq!(std::fs::read_dir(dir.path().join("progress")).unwrap().count(), 1);
        std::fs::write(dir.path().join("progress/kernel-vm"), "many few").unwrap();
        assert_eq!(history.expected("kernel"), seen(3900, 870));
    }
}
