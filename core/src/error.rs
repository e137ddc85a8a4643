//! The one error type: its kind says what the caller should do, its message what happened and where.

use std::{error, fmt, io};

/// `std::result::Result` with Headwater's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do next, not what went wrong inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Wrong code, configuration or argument. Fix it; a retry cannot help.
    Invalid,
    /// Disk, broker or network did not do it this time. Retry the same call.
    Unavailable,
    /// A disk or a quota has no room. Nothing was done: free space and retry the same call.
    Full,
    /// Another instance took over. Drop what you hold and join again.
    Fenced,
    /// Bytes on disk or on the wire are not what was written. Stop and look.
    Corrupt,
    /// User code or a serde failed on a record. The error policy decides.
    Processing,
    /// The log or the runtime was shut down, or stopped itself after an error it must not survive. Leave.
    Closed,
}

/// An error: a kind, one sentence with the place in it, and the cause where there is one.
///
/// One word wide, so that `Result<()>` is cheap on the per-record path.
///
/// ```
/// use headwater_core::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::Invalid, "topic name is empty");
/// assert_eq!(error.kind(), ErrorKind::Invalid);
/// assert_eq!(error.to_string(), "topic name is empty");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

const _: () = assert!(size_of::<Result<()>>() == size_of::<usize>());

impl Error {
    /// An error without a cause. Messages are lower case, with the values last.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None }))
    }

    /// [`ErrorKind::Invalid`]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// [`ErrorKind::Corrupt`]
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// [`ErrorKind::Processing`]
    pub fn processing(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Processing, message)
    }

    /// An I/O error; `message` says what was being done, and to which file.
    pub fn io(message: impl Into<String>, source: io::Error) -> Self {
        Self::new(ErrorKind::Unavailable, message).with_source(source)
    }

    /// Adds the cause. It is printed by [`Error::report`], not by `Display`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts `context` before the message: `"{context}: {message}"`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message and all causes in one line, for logs and terminals.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = self.0.message.clone();
        let mut cause = error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.report())
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_prints_the_chain_of_causes() {
        let error = Error::io("cannot sync `journal/1`", io::Error::other("disk gone")).context("commit");
        assert_eq!(error.to_string(), "commit: cannot sync `journal/1`");
        assert_eq!(error.report(), "commit: cannot sync `journal/1`: disk gone");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}
