//! The commit that a release is made of.

use anyhow::{Context as _, Result};
use xshell::{Shell, cmd};

/// The commit in a checkout.
#[derive(Debug)]
pub struct Commit {
    /// Abbreviated hash and date, as in `--version`.
    pub text: String,
    /// Its committer's time in seconds since 1970: the only time in a release.
    pub time: u64,
    /// Whether the checkout has changes that are not committed.
    pub changed: bool,
}

impl Commit {
    /// Returns the commit of the checkout that `shell` is in.
    pub fn of(shell: &Shell) -> Result<Self> {
        let format = "%ct %h %cs";
        let log = cmd!(shell, "git -c log.showSignature=false log -1 --abbrev=12 --format={format}").quiet().read();
        let log = log.context("a release is made of a commit, so it needs a git checkout")?;
        let changed = !cmd!(shell, "git status --porcelain").quiet().read()?.is_empty();
        Self::parse(&log, changed).with_context(|| format!("git printed something else than a commit: {log}"))
    }

    fn parse(log: &str, changed: bool) -> Option<Self> {
        let (time, text) = log.split_once(' ')?;
        let text = format!("{text}{}", if changed { ", with local changes" } else { "" });
        Some(Self { text, time: time.parse().ok()?, changed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_whether_the_source_is_another() {
        let clean = Commit::parse("1796000000 0123456789ab 2026-11-30", false).unwrap();
        assert_eq!((clean.time, clean.text.as_str()), (1_796_000_000, "0123456789ab 2026-11-30"));
        let changed = Commit::parse("1796000000 0123456789ab 2026-11-30", true).unwrap();
        assert_eq!(changed.text, "0123456789ab 2026-11-30, with local changes");
        assert!(Commit::parse("fatal: not a git repository", false).is_none());
    }
}
