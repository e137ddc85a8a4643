//! How far an operator is in closing what is due, where that does not fit into one commit.
//!
//! Rows that were sent stay where they are until everything of their window or time is sent: that costs nothing for those that
//! are closed at one blow, which are nearly all. What is to be known of the others is the last one that was sent, in an order
//! in which they all go out; it commits with the clock of the store, and with it the headers that belong to them.

use headwater_core::{Headers, Timestamp};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Closing {
    /// Headers of the record that made something due, from then until everything is closed.
    pub(crate) trigger: Option<Headers>,
    /// The last row that was sent, if others of its kind are not.
    pub(crate) sent: Option<Sent>,
}

/// A row among those that are to be closed, by the order in which they go out: the window's start, a session's end or a joined
/// row's time, then the bytes of the key, then a session's start or a joined row's number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sent {
    pub(crate) time: Timestamp,
    pub(crate) key: Vec<u8>,
    pub(crate) number: i64,
}

impl Closing {
    /// Whether a row was sent already.
    #[inline]
    pub(crate) fn has_sent(&self, time: Timestamp, key: &[u8], number: i64) -> bool {
        let is_sent = |sent: &Sent| (time, key, number) <= (sent.time, &sent.key[..], sent.number);
        self.sent.as_ref().is_some_and(is_sent)
    }

    /// Notes that a row was sent, and all before it.
    pub(crate) fn send(&mut self, time: Timestamp, key: &[u8], number: i64) {
        let sent = self.sent.get_or_insert_with(|| Sent { time, key: Vec::new(), number });
        (sent.time, sent.number) = (time, number);
        sent.key.clear();
        sent.key.extend_from_slice(key);
    }

    /// If there is something to be kept.
    pub(crate) fn some(&self) -> Option<Self> {
        (self.trigger.is_some() || self.sent.is_some()).then(|| self.clone())
    }
}
