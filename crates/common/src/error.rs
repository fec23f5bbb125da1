//! One error shape for the whole tool: what failed, on which file, why, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::text::printable;

/// Result of every engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Exit code of a command that ended without an error, but needs signatures of an external signer before it can go on.
pub const PENDING_EXIT_CODE: u8 = 7;

/// Class of an error; the command line's exit code follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The user's input is wrong: an unknown option, key or profile, a malformed file, a forbidden path. Exit code 2.
    BadInput,
    /// Data that others made is malformed or over a limit: an image, a registry's answer, a kernel, a module, an archive. Exit code 2.
    UntrustedData,
    /// A program that the step needs is not there. Exit code 3.
    MissingTool,
    /// A step of the build failed: the compiler, a patch that does not apply, an option the kernel dropped. Exit code 4.
    BuildFailed,
    /// Bytes are not what they were pinned or signed to be. Exit code 5.
    Verification,
    /// The machine, not the input: disk full, no network, permission denied. Exit code 6.
    Infrastructure,
}

impl Class {
    /// Process exit code of this class. Others are 1 for panics and unexpected errors, [`PENDING_EXIT_CODE`], and 130 for an interrupt.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::BadInput | Self::UntrustedData => 2,
            Self::MissingTool => 3,
            Self::BuildFailed => 4,
            Self::Verification => 5,
            Self::Infrastructure => 6,
        }
    }
}

/// An error a person can act on.
///
/// `Display` prints up to four lines: what failed, then `file:`, `why:` and `hint:` where they are known.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    class: Class,
    what: String,
    file: Option<PathBuf>,
    why: Option<String>,
    hint: Option<String>,
}

impl Error {
    /// An error of `class`; `what` names the step that failed, in lower case and without a full stop.
    pub fn new(class: Class, what: impl Into<String>) -> Self {
        Self(Box::new(Inner { class, what: what.into(), file: None, why: None, hint: None }))
    }

    /// Names the file the error is about.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.0.file = Some(path.as_ref().to_owned());
        self
    }

    /// Says why it failed.
    #[must_use]
    pub fn why(mut self, why: impl fmt::Display) -> Self {
        self.0.why = Some(why.to_string());
        self
    }

    /// Says what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The error's class.
    #[must_use]
    pub fn class(&self) -> Class {
        self.0.class
    }

    /// All of it on one line, to quote it in another error.
    #[must_use]
    pub fn one_line(&self) -> String {
        self.to_string().lines().map(str::trim).collect::<Vec<_>>().join(", ")
    }

    /// Wraps an I/O error on `path`, with a hint for the kinds that have a known remedy.
    #[must_use]
    pub fn io(what: impl Into<String>, path: impl AsRef<Path>, err: &std::io::Error) -> Self {
        Self::of_io(what, err).file(path)
    }

    fn of_io(what: impl Into<String>, err: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let error = Self::new(Class::Infrastructure, what).why(err);
        match err.kind() {
            K::StorageFull | K::QuotaExceeded => {
                error.hint("free some space, or point SOLANA_TALOS_CACHE and --out at a larger disk")
            }
            K::PermissionDenied => error.hint("check who owns the path and its mode"),
            K::NotFound => error.hint("check the path"),
            _ => error,
        }
    }
}

/// Shows [`printable`] text: what is wrong with foreign bytes is often told in their own words.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0.what))?;
        if let Some(file) = &self.0.file {
            write!(f, "\n  file: {}", printable(&file.to_string_lossy()))?;
        }
        if let Some(why) = &self.0.why {
            write!(f, "\n  why: {}", printable(why).replace('\n', "\n       "))?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, "\n  hint: {}", printable(hint))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// `fs_err` names the file and the operation in its message already.
impl From<std::io::Error> for Error {
    fn from(err: std::io::Error) -> Self {
        Self::of_io("file operation failed", &err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_which_file_why_and_what_to_do() {
        let error = Error::new(Class::Verification, "the kernel source is not the pinned one")
            .file("linux.deb")
            .why("sha256 is ab\nexpected cd")
            .hint("fetch it again");
        assert_eq!(
            error.to_string(),
            "the kernel source is not the pinned one\n  file: linux.deb\n  why: sha256 is ab\n       expected cd\n  hint: fetch it again"
        );
        assert_eq!(error.class().exit_code(), 5);
    }

    #[test]
    fn foreign_words_are_no_orders_to_a_terminal() {
        let error = Error::new(Class::Verification, "x").file("a\u{1b}b").why("\u{1b}[2J").hint("\u{7}");
        assert_eq!(error.to_string(), "x\n  file: a\\u{1b}b\n  why: \\u{1b}[2J\n  hint: \\u{7}");
    }

    #[test]
    fn a_full_disk_says_how_to_go_on() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert!(Error::io("cannot write the layer", "x", &full).to_string().contains("free some space"));
        assert!(Error::from(full).to_string().contains("free some space"));
    }
}
