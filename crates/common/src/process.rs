//! Runs other programs: streams their output, and keeps an excerpt for the error.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Result};
use std::process::{Command, ExitStatus, Stdio};

/// Number of output lines that the error of a failed program shows.
const TAIL_LINES: usize = 25;

/// Number of lines kept of each compiler message, and of last lines after such messages.
const LINES_OF_AN_ERROR: usize = 6;

/// Sets the umask to 022, also for child processes: file modes end up in squashfs layers, so they must not depend on the user.
pub fn fix_umask() {
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
}

/// Returns the real user id of this process.
#[must_use]
pub fn user_id() -> u32 {
    rustix::process::getuid().as_raw()
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit status.
    pub status: ExitStatus,
    /// Excerpt of its output: compiler errors and the last lines.
    pub tail: String,
}

/// Runs `command`, and passes each line of standard output and error to `on_line`.
pub fn stream(mut command: Command, on_line: &mut dyn FnMut(&str)) -> Result<Ended> {
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    drop(command); // It holds the pipe's write end, so the reader would never see the end.
    let mut excerpt = Excerpt::default();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        on_line(&line);
        excerpt.take(line);
    }
    let status = child.wait()?;
    Ok(Ended { status, tail: excerpt.text() })
}

/// The excerpt of a long output: its last lines, and compiler errors, which parallel jobs print hundreds of lines before the end.
#[derive(Default)]
struct Excerpt {
    errors: Vec<String>,
    following: usize,
    tail: VecDeque<String>,
}

impl Excerpt {
    fn take(&mut self, line: String) {
        if line.contains("error:") || line.starts_with("error[") {
            self.following = LINES_OF_AN_ERROR;
        }
        if self.following > 0 && self.errors.len() < TAIL_LINES {
            self.following -= 1;
            self.errors.push(line.clone());
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    fn text(self) -> String {
        let tail = Vec::from(self.tail);
        if self.errors.iter().all(|error| tail.contains(error)) {
            return tail.join("\n");
        }
        let last = &tail[tail.len().saturating_sub(LINES_OF_AN_ERROR)..];
        format!("{}\n[...]\n{}", self.errors.join("\n"), last.join("\n"))
    }
}

/// Runs `command` and returns its standard output; the tail is of standard error.
pub fn output(mut command: Command) -> Result<(Vec<u8>, Ended)> {
    let output = command.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    Ok((output.stdout, Ended { status: output.status, tail }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn streams_both_outputs_and_keeps_the_tail() {
        let mut lines = Vec::new();
        let ended = stream(sh("seq 100; echo bad >&2; exit 3"), &mut |line| lines.push(line.to_owned())).unwrap();
        assert_eq!((ended.status.code(), lines.len()), (Some(3), 101));
        assert!(ended.tail.starts_with("77\n") && ended.tail.ends_with("\nbad"), "{}", ended.tail);
    }

    #[test]
    fn an_early_compiler_error_is_shown() {
        let ended = stream(sh("echo a; echo 'x.c:1:2: error: no such thing'; seq 100; exit 1"), &mut |_| ()).unwrap();
        assert!(ended.tail.starts_with("x.c:1:2: error: no such thing\n1\n"), "{}", ended.tail);
        assert!(ended.tail.ends_with("\n[...]\n95\n96\n97\n98\n99\n100"), "{}", ended.tail);
    }

    #[test]
    fn returns_standard_output() {
        let (stdout, ended) = output(sh("echo out; echo err >&2")).unwrap();
        assert_eq!((stdout.as_slice(), ended.tail.as_str()), (&b"out\n"[..], "err"));
        assert!(stream(Command::new("/nonexistent"), &mut |_| ()).is_err());
    }
}
