//! What stages took before, kept in the cache: `LINES SECONDS` for each stage and profile.

use std::path::PathBuf;

use super::pace::Expected;

/// What long stages take on two cores, where they never ran: stage, profile, lines of output, seconds (docs/performance.md).
const USUAL: [(&str, &str, u64, u64); 4] = [
    ("toolchain", "", 2450, 200),
    ("kernel", "vm", 3900, 870),
    ("kernel", "metal", 9000, 2150),
    ("kernel", "debug", 2600, 470),
];

/// A run with less output than this share of an earlier one went on from what an interrupted one had left.
const WHOLE: f64 = 0.8;

/// The record of earlier runs.
#[derive(Clone, Debug)]
pub struct History {
    dir: Option<PathBuf>,
    profile: String,
}

impl History {
    /// Remembers nothing.
    pub fn none() -> Self {
        Self { dir: None, profile: String::new() }
    }

    /// Kept in `dir`; `profile` is the kernel's, which decides how long stages take.
    pub fn new(dir: PathBuf, profile: &str) -> Self {
        Self { dir: Some(dir), profile: profile.to_owned() }
    }

    /// What `stage` took when it last ran as a whole, or usually takes.
    pub fn expected(&self, stage: &str) -> Option<Expected> {
        self.recorded(stage).or_else(|| {
            let same = |name: &str, profile: &str| name == stage && (profile.is_empty() || profile == self.profile);
            let found = USUAL.iter().find(|(name, profile, ..)| same(name, profile));
            found.map(|&(_, _, lines, seconds)| Expected { lines, seconds })
        })
    }

    /// Remembers what `stage` took. A record that cannot be written costs an estimate, nothing else.
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
        // Names of pushes hold slashes, and depend on the network more than on earlier runs.
        let plain = stage.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let name = format!("{stage}-{}", self.profile);
        self.dir.as_ref().filter(|_| plain).map(|dir| dir.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_run_counts_and_the_usual_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::new(dir.path().join("progress"), "vm");
        let seen = |lines, seconds| Some(Expected { lines, seconds });
        assert_eq!(history.expected("kernel"), seen(3900, 870));
        assert_eq!(history.expected("base"), None);
        history.record("kernel", Expected { lines: 4100, seconds: 1000 });
        history.record("kernel", Expected { lines: 50, seconds: 3 });
        assert_eq!(history.expected("kernel"), seen(4100, 1000));
        history.record("kernel", Expected { lines: 4000, seconds: 700 });
        assert_eq!(history.expected("kernel"), seen(4000, 700));
        let metal = History::new(dir.path().join("progress"), "metal");
        assert_eq!(metal.expected("kernel"), seen(9000, 2150));
        metal.record("push ghcr.io/a/b", Expected { lines: 1, seconds: 1 });
        assert_eq!(std::fs::read_dir(dir.path().join("progress")).unwrap().count(), 1);
        std::fs::write(dir.path().join("progress/kernel-vm"), "many few").unwrap();
        assert_eq!(history.expected("kernel"), seen(3900, 870));
    }
}
