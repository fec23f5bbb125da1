//! The error type of the whole tool: what failed, on which file, why, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::text::printable;

/// Result of every engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Exit code of a command that stopped without an error because signatures of an external signer are pending.
pub const PENDING_EXIT_CODE: u8 = 7;

/// Class of an error, which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The user's own input is invalid: an option, a project file, a key, a preset, a path that does not exist. Exit code 2.
    BadInput,
    /// Data from third parties is malformed or exceeds a limit: an image, a registry response, a kernel, a module, an archive. Exit code 2.
    UntrustedData,
    /// A required program is missing. Exit code 3.
    MissingTool,
    /// A build step failed: a compiler error, a patch that does not apply, a dropped kernel option. Exit code 4.
    BuildFailed,
    /// A digest or signature does not match. Exit code 5.
    Verification,
    /// A problem of the machine: disk full, no network, permission denied. Exit code 6.
    Infrastructure,
}

impl Class {
    /// Returns the exit code of this class. Others are 1 for panics and unexpected errors, [`PENDING_EXIT_CODE`], and 130 for an interrupt.
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
/// `Display` prints up to four lines: what failed, then `file:`, `why:` and `hint:` if they are known.
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
    /// Creates an error; `what` says what failed, in lower case and without a full stop.
    pub fn new(class: Class, what: impl Into<String>) -> Self {
        Self(Box::new(Inner { class, what: what.into(), file: None, why: None, hint: None }))
    }

    /// Sets the file.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.0.file = Some(path.as_ref().to_owned());
        self
    }

    /// Sets the file unless there is one.
    #[must_use]
    pub fn or_file(mut self, path: impl AsRef<Path>) -> Self {
        self.0.file.get_or_insert_with(|| path.as_ref().to_owned());
        self
    }

    /// Sets the reason.
    #[must_use]
    pub fn why(mut self, why: impl fmt::Display) -> Self {
        self.0.why = Some(why.to_string());
        self
    }

    /// Adds a line to the reason.
    #[must_use]
    pub fn also(mut self, line: impl fmt::Display) -> Self {
        let why = self.0.why.take().map(|why| format!("{why}\n")).unwrap_or_default();
        self.0.why = Some(format!("{why}{line}"));
        self
    }

    /// Sets what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Returns the class.
    #[must_use]
    pub fn class(&self) -> Class {
        self.0.class
    }

    /// Returns the reason; empty if there is none.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.0.why.as_deref().unwrap_or_default()
    }

    /// Returns all parts on one line, to quote them in another error.
    #[must_use]
    pub fn one_line(&self) -> String {
        self.to_string().lines().map(str::trim).collect::<Vec<_>>().join(", ")
    }

    /// Wraps an I/O error on `path`, with a hint for common kinds.
    #[must_use]
    pub fn io(what: impl Into<String>, path: impl AsRef<Path>, err: &std::io::Error) -> Self {
        Self::of_io(what, err).file(path)
    }

    /// What is not there, or of another kind, is the user's to correct; the rest is the machine's.
    fn of_io(what: impl Into<String>, err: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let class = match err.kind() {
            K::NotFound | K::NotADirectory | K::IsADirectory => Class::BadInput,
            _ => Class::Infrastructure,
        };
        let error = Self::new(class, what).why(err);
        match err.kind() {
            K::StorageFull | K::QuotaExceeded => {
                error.hint("free some space, or point SOLANA_TALOS_CACHE and --out at a larger disk")
            }
            K::PermissionDenied => error.hint("check who owns the path and its mode"),
            K::NotFound => error.hint("check the path"),
            K::NotADirectory => error.hint("give a directory"),
            K::IsADirectory => error.hint("give a file, not a directory"),
            _ => error,
        }
    }
}

/// Escapes control characters: errors quote untrusted data.
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

/// For errors of `fs_err`, which name the operation and the file.
impl From<std::io::Error> for Error {
    fn from(err: std::io::Error) -> Self {
        Self::of_io("file operation failed", &err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_failed_the_file_the_reason_and_a_hint() {
        let error = Error::new(Class::Verification, "digest mismatch")
            .file("linux.deb")
            .why("got      ab\nexpected cd")
            .hint("fetch it again");
        assert_eq!(
            error.to_string(),
            "digest mismatch\n  file: linux.deb\n  why: got      ab\n       expected cd\n  hint: fetch it again"
        );
        assert_eq!(error.class().exit_code(), 5);
        let error = Error::new(Class::BadInput, "x").also("a").also("b");
        assert_eq!(error.to_string(), "x\n  why: a\n       b");
    }

    #[test]
    fn control_characters_are_escaped() {
        let error = Error::new(Class::Verification, "x").file("a\u{1b}b").why("\u{1b}[2J").hint("\u{7}");
        assert_eq!(error.to_string(), "x\n  file: a\\u{1b}b\n  why: \\u{1b}[2J\n  hint: \\u{7}");
    }

    #[test]
    fn a_missing_path_is_bad_input_and_a_forbidden_one_is_not() {
        use std::io::ErrorKind as K;
        for (kind, class) in [
            (K::NotFound, Class::BadInput),
            (K::NotADirectory, Class::BadInput),
            (K::IsADirectory, Class::BadInput),
            (K::PermissionDenied, Class::Infrastructure),
            (K::StorageFull, Class::Infrastructure),
        ] {
            let error = Error::io("cannot read it", "x", &kind.into());
            assert_eq!(error.class(), class, "{error}");
            assert!(error.to_string().contains("hint: "), "{error}");
        }
    }

    #[test]
    fn a_full_disk_has_a_hint() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert!(Error::io("cannot write layer", "x", &full).to_string().contains("free some space"));
        assert!(Error::from(full).to_string().contains("free some space"));
    }
}
