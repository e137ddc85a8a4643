//! The window in a windowed key, as far as its bytes name it.

use std::fmt;

use crate::Timestamp;

/// The window that the bytes of a key name; see [`Serde::key_window`](crate::Serde::key_window).
///
/// ```
/// use headwater_core::{Timestamp, serdes::KeyWindow};
/// assert_eq!(KeyWindow::Span { start: Timestamp(0), end: Timestamp(10) }.to_string(), "[0,10)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyWindow {
    /// A window of fixed size, whose end is not in the bytes (Kafka: `TimeWindowedSerializer`).
    From(Timestamp),
    /// A window of fixed size: `start` belongs to it, `end` does not.
    Span {
        /// First instant.
        start: Timestamp,
        /// The instant after the last.
        end: Timestamp,
    },
    /// A session, from its first record to its last: both belong to it.
    Session {
        /// Time of the first record.
        start: Timestamp,
        /// Time of the last record.
        end: Timestamp,
    },
}

impl KeyWindow {
    /// Its first instant.
    #[must_use]
    pub fn start(self) -> Timestamp {
        match self {
            Self::From(start) | Self::Span { start, .. } | Self::Session { start, .. } => start,
        }
    }

    /// The instant after its last, as far as it is known.
    #[must_use]
    pub fn end(self) -> Option<Timestamp> {
        match self {
            Self::From(_) => None,
            Self::Span { end, .. } => Some(end),
            Self::Session { end, .. } => Some(end.plus_ms(1)),
        }
    }
}

impl fmt::Display for KeyWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(start) => write!(f, "[{start},..)"),
            Self::Span { start, end } => write!(f, "[{start},{end})"),
            Self::Session { start, end } => write!(f, "[{start},{end}]"),
        }
    }
}
