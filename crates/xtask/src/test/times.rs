//! Where the time of `./x test` goes.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Parts shorter than this are added up.
const SHORT: Duration = Duration::from_secs(10);

/// Parts in the order in which they ran.
#[derive(Debug, Default)]
pub struct Times(Vec<(String, Duration)>);

impl Times {
    /// Measures `work`.
    pub fn measure<T>(&mut self, part: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let result = work();
        self.0.push((part.to_owned(), start.elapsed()));
        result
    }

    /// Adds those of a run of cargo.
    pub fn extend(&mut self, of: Programs) {
        self.0.extend(of.done);
    }
}

/// The times of the programs that one run of cargo starts.
#[derive(Debug, Default)]
pub struct Programs {
    done: Vec<(String, Duration)>,
    running: Option<(String, Instant)>,
}

impl Programs {
    /// Takes a line of cargo's standard error: it names each program before it runs it.
    pub fn line(&mut self, line: &str) {
        let name = match line.trim_start().split_once(' ') {
            Some(("Running" | "Doc-tests", rest)) => rest.split(" (").next().unwrap_or(rest),
            Some(("Compiling", _)) if self.running.is_none() => "compiling the tests",
            _ => return,
        };
        self.next(Some(name));
    }

    /// Takes the end of the run.
    pub fn ended(&mut self) {
        self.next(None);
    }

    fn next(&mut self, name: Option<&str>) {
        let begun = name.map(|name| (name.trim_start_matches("unittests ").to_owned(), Instant::now()));
        if let Some((name, start)) = std::mem::replace(&mut self.running, begun) {
            self.done.push((name, start.elapsed()));
        }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, time: Duration| {
            writeln!(f, "{:7.1} min  {name}", time.as_secs_f64() / 60.0)
        };
        for (name, time) in self.0.iter().filter(|(_, time)| *time >= SHORT) {
            row(f, name, *time)?;
        }
        row(f, "parts of less than 10 s", self.0.iter().map(|(_, time)| *time).filter(|time| *time < SHORT).sum())?;
        row(f, "in all", self.0.iter().map(|(_, time)| *time).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_by_cargo() {
        let mut programs = Programs::default();
        for line in [
            "   Compiling solana-talos v0.1.0",
            "   Compiling other v0.1.0",
            "     Running unittests src/lib.rs (target/debug/deps/build-1)",
            "warning: x",
            "     Running tests/boot_uefi.rs (target/debug/deps/boot_uefi-1)",
            "   Doc-tests common",
        ] {
            programs.line(line);
        }
        programs.ended();
        let names: Vec<_> = programs.done.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["compiling the tests", "src/lib.rs", "tests/boot_uefi.rs", "common"]);
    }

    #[test]
    fn short_parts_are_added_up() {
        let part = |name: &str, seconds| (name.to_owned(), Duration::from_secs(seconds));
        let text = Times(vec![part("build", 90), part("a", 6), part("b", 6)]).to_string();
        assert_eq!(text, "    1.5 min  build\n    0.2 min  parts of less than 10 s\n    1.7 min  in all\n");
    }
}
