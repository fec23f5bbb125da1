//! The only place that writes to standard output and standard error.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use common::{Class, Error};

/// Exit code when the reader of standard output has gone: what a shell reports of a program that SIGPIPE ended.
pub const CLOSED_EXIT_CODE: u8 = 141;

/// The reader of standard output has gone, as `head` does after its last line.
#[derive(Debug)]
pub struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("standard output was closed")
    }
}

impl std::error::Error for Closed {}

/// Why the first lost event was lost.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Prints a line of the result on standard output.
///
/// # Errors
/// [`Closed`] if nobody reads it any more, else [`Class::Infrastructure`].
pub fn out(line: &str) -> anyhow::Result<()> {
    write(io::stdout().lock(), line).map_err(|e| refused(&e))
}

/// Prints an event on standard output. A failure must not stop a build: [`lost`] returns it at the end.
pub fn event(line: &str) {
    if let Err(e) = write(io::stdout().lock(), line) {
        let _ = LOST.set(e);
    }
}

/// Returns the error if an event could not be written, other than because its reader has gone.
pub fn lost() -> anyhow::Result<()> {
    match LOST.get() {
        Some(e) if e.kind() != ErrorKind::BrokenPipe => Err(refused(e)),
        _ => Ok(()),
    }
}

/// Prints a line on standard error. Colours are removed if it is not a terminal, and as `NO_COLOR`, `CLICOLOR` and `CLICOLOR_FORCE` say. An error
/// is ignored: there is nowhere else to report it.
pub fn err(line: &str) {
    let _ = write(anstream::stderr().lock(), line);
}

/// Prints what clap has to say, which is help or an error, and returns the exit code.
pub fn usage(message: &clap::Error) -> anyhow::Result<ExitCode> {
    match message.print() {
        Err(e) if !message.use_stderr() => Err(refused(&e)),
        _ => Ok(ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(1))),
    }
}

fn write(mut to: impl Write, line: &str) -> io::Result<()> {
    writeln!(to, "{line}")?;
    to.flush()
}

fn refused(e: &io::Error) -> anyhow::Error {
    if e.kind() == ErrorKind::BrokenPipe {
        return Closed.into();
    }
    Error::new(Class::Infrastructure, "cannot write to standard output")
        .why(e)
        .hint("what was printed is incomplete: check where it goes")
        .into()
}
