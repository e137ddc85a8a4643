//! Changes that wait for the next commit, as they go into the changelog.
//!
//! A row of a join is written once and never again, so its bytes are made when it comes: a value that has none is its
//! record's own error, and how much waits is known to the byte.

use headwater_core::{Result, Timestamp};

use crate::state::{ChangeSink, copied};

/// The bit of a row's number that makes its key the mark that the row was matched. Numbers end before it, as in Kafka.
pub(super) const MATCHED: u32 = 1 << 31;
/// Bytes that a change takes beside its key and value.
const CHANGE_BYTES: usize = size_of::<Change>();

#[derive(Debug, Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    /// Ends of key and value in the bytes.
    key_end: usize,
    end: usize,
    timestamp: Timestamp,
}

/// What was there when a record began.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PendingMark {
    bytes: usize,
    changes: usize,
}

impl Pending {
    /// Adds a row, or with [`MATCHED`] in its number the mark of one. Kafka's key: `key | i64 timestamp | i32 number`.
    #[inline]
    pub(super) fn push(&mut self, key: &[u8], timestamp: Timestamp, seq: u32, value: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(&timestamp.0.to_be_bytes());
        self.bytes.extend_from_slice(&seq.to_be_bytes());
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.changes.push(Change { key_end, end: self.bytes.len(), timestamp });
    }

    /// Hands out all changes, in the order in which they were made.
    pub(super) fn take(&mut self, sink: &mut ChangeSink<'_>) -> Result<()> {
        let mut start = 0;
        for change in self.changes.drain(..) {
            let (key, value) = (&self.bytes[start..change.key_end], &self.bytes[change.key_end..change.end]);
            sink(&copied(Some(key)), &copied(Some(value)), change.timestamp)?;
            start = change.end;
        }
        self.bytes.clear();
        Ok(())
    }

    pub(super) fn mark(&self) -> PendingMark {
        PendingMark { bytes: self.bytes.len(), changes: self.changes.len() }
    }

    /// Takes back what came after `mark`.
    pub(super) fn rewind(&mut self, mark: PendingMark) {
        self.bytes.truncate(mark.bytes);
        self.changes.truncate(mark.changes);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() + self.changes.len() * CHANGE_BYTES
    }
}
