//! What compiling the tool itself costs. In processor time, which other work on the machine hardly changes.

use anyhow::{Context as _, Result};
use xshell::{Shell, cmd};

/// Clock ticks per second in `/proc` (`USER_HZ` of amd64).
const TICKS: f64 = 100.0;

/// Compiles the tool as `./x` does, from nothing, and returns the seconds of processor time of cargo and the compilers.
pub fn compile(shell: &Shell) -> Result<f64> {
    let target = shell.create_temp_dir()?;
    let dir = target.path();
    let before = seconds_of_children()?;
    cmd!(shell, "cargo build --quiet --release --locked -p solana-talos --target-dir {dir}").run()?;
    Ok(seconds_of_children()? - before)
}

fn seconds_of_children() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    ticks_of_children(&stat).map(|ticks| ticks as f64 / TICKS).context("/proc/self/stat is malformed")
}

/// `cutime` and `cstime` of proc_pid_stat(5): user and system time of the children that have ended, and of theirs.
fn ticks_of_children(stat: &str) -> Option<u64> {
    // The name of the program may have spaces and parentheses. After it comes the third field; these are the 16th and 17th.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(13).map(|field| field.parse::<u64>().ok());
    Some(times.next()?? + times.next()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_children_are_found_after_any_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 11 22 0 0 5 6 700 80 20 0 1 0 99";
        assert_eq!(ticks_of_children(stat), Some(780));
        assert_eq!(ticks_of_children("7 (x) S 1 7"), None);
        let before = seconds_of_children().unwrap();
        std::process::Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done"])
            .status()
            .unwrap();
        assert!(seconds_of_children().unwrap() > before);
    }
}
