//! Other programs: run to the end, with every line as it comes and the last ones kept for the error.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Result};
use std::process::{Command, ExitStatus, Stdio};

/// Lines of a failed program's output that its error shows.
const TAIL_LINES: usize = 25;

/// Lines that belong to one message of a compiler, and last lines beside such messages.
const LINES_OF_AN_ERROR: usize = 6;

/// Makes new files readable for everybody and writable for their owner, here and in every program that is started: modes of files go
/// into squashfs layers, so they must not come from whoever builds.
pub fn fix_umask() {
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Its last lines, and what a compiler said went wrong.
    pub tail: String,
}

/// Runs `command` with standard output and error in one stream, handing each line to `on_line`.
///
/// # Errors
/// When it cannot be started or its output not be read.
pub fn stream(mut command: Command, on_line: &mut dyn FnMut(&str)) -> Result<Ended> {
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    drop(command); // It holds the pipe's write end: the reader would never see the stream's end.
    let mut excerpt = Excerpt::default();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        on_line(&line);
        excerpt.take(line);
    }
    let status = child.wait()?;
    Ok(Ended { status, tail: excerpt.text() })
}

/// What of a long output an error shows: its last lines, and above them what a compiler said went wrong, since with parallel jobs that
/// stands hundreds of lines before the end.
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

/// Runs `command` and gives its standard output; the tail is of standard error.
///
/// # Errors
/// When it cannot be started or its output not be read.
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
    fn an_error_far_above_the_end_is_shown() {
        let ended = stream(sh("echo a; echo 'x.c:1:2: error: no such thing'; seq 100; exit 1"), &mut |_| ()).unwrap();
        assert!(ended.tail.starts_with("x.c:1:2: error: no such thing\n1\n"), "{}", ended.tail);
        assert!(ended.tail.ends_with("\n[...]\n95\n96\n97\n98\n99\n100"), "{}", ended.tail);
    }

    #[test]
    fn keeps_standard_output_apart() {
        let (stdout, ended) = output(sh("echo out; echo err >&2")).unwrap();
        assert_eq!((stdout.as_slice(), ended.tail.as_str()), (&b"out\n"[..], "err"));
        assert!(stream(Command::new("/nonexistent"), &mut |_| ()).is_err());
    }
}
