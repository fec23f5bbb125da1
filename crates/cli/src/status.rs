//! How a command ended, other than by an error.

/// What the exit code says of a command that did not fail.
#[derive(Debug)]
pub enum Status {
    /// Everything is done.
    Done,
    /// Signatures of an external signer are pending: which, and what to do next.
    Pending(String),
    /// The user ended it.
    Interrupted,
}

impl From<()> for Status {
    fn from((): ()) -> Self {
        Self::Done
    }
}
