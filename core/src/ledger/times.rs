//! Finding a record by its time.

use crate::{Offset, RecordBatch, Result, TimedOffset, Timestamp};

/// The first record of `batch` that is not older than `time`, and not before `from`.
///
/// # Errors
/// `Corrupt` when the records of the batch cannot be read.
pub fn first_at(batch: &RecordBatch, time: Timestamp, from: Offset) -> Result<Option<TimedOffset>> {
    let mut records = batch.cursor();
    while let Some(record) = records.next().transpose()? {
        if record.timestamp >= time && record.offset >= from {
            return Ok(Some(TimedOffset { offset: record.offset, timestamp: record.timestamp }));
        }
    }
    Ok(None)
}
