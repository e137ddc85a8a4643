//! What of a partition is read: offsets and times, and how batches are cut to them.

use headwater_core::{Offset, RecordBatch, RecordRef, Result, Timestamp, TimestampType};
use serde::{Deserialize, Serialize};

/// Records with offsets in `begin..end` and times in `from..until`; a missing time is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cut {
    pub(super) begin: Offset,
    pub(super) end: Offset,
    pub(super) from: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
}

/// What is left of a batch.
#[derive(Debug)]
pub(super) enum Part {
    /// All of it, as it is.
    Whole(RecordBatch),
    /// Some of its records, at their offsets.
    Some(RecordBatch),
    Nothing,
}

impl Cut {
    /// Nothing, at this place.
    pub(super) fn nothing(at: Offset) -> Self {
        Self { begin: at, end: at, from: None, until: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.begin >= self.end
    }

    pub(super) fn holds(&self, offset: Offset, time: Timestamp) -> bool {
        (self.begin..self.end).contains(&offset)
            && self.from.is_none_or(|from| time >= from)
            && self.until.is_none_or(|until| time < until)
    }

    fn holds_record(&self, record: &RecordRef<'_>) -> bool {
        self.holds(record.offset, record.timestamp)
    }

    /// Cuts a batch. Only those at a border are looked into and copied.
    pub(super) fn part(&self, batch: RecordBatch) -> Result<Part> {
        if batch.record_count() == 0 {
            return Ok(Part::Nothing);
        }
        let lies_within = self.begin <= batch.base_offset() && batch.next_offset() <= self.end;
        let latest = batch.max_timestamp();
        if self.from.is_some_and(|from| latest < from) {
            return Ok(Part::Nothing);
        }
        let is_early = self.until.is_none_or(|until| latest < until);
        if lies_within && is_early && self.from.is_none() {
            return Ok(Part::Whole(batch));
        }
        let earliest = match batch.timestamp_type() {
            TimestampType::LogAppendTime => Some(latest),
            TimestampType::CreateTime => earliest(&batch)?,
        };
        if earliest.is_none_or(|earliest| self.until.is_some_and(|until| earliest >= until)) {
            return Ok(Part::Nothing);
        }
        if lies_within && is_early && earliest >= self.from {
            return Ok(Part::Whole(batch));
        }
        let kept = batch.retain(None, |record| self.holds_record(record))?;
        Ok(if kept.record_count() == 0 { Part::Nothing } else { Part::Some(kept) })
    }
}

/// The lowest timestamp of the records of a batch: its header has the first and the highest.
fn earliest(batch: &RecordBatch) -> Result<Option<Timestamp>> {
    let (mut earliest, mut cursor) = (None, batch.cursor());
    while cursor.advance()? {
        let time = cursor.timestamp();
        earliest = if earliest.is_none() { time } else { earliest.min(time) };
    }
    Ok(earliest)
}

/// How many records of a batch lie in `from..to`; looks into it only where it has fewer records than offsets.
pub(super) fn count(batch: &RecordBatch, from: Offset, to: Offset) -> Result<u64> {
    let (first, next) = (batch.base_offset().max(from), batch.next_offset().min(to));
    if first >= next {
        return Ok(0);
    }
    let records = u64::from(batch.record_count());
    if batch.next_offset().0 - batch.base_offset().0 == records {
        return Ok(next.0 - first.0);
    }
    if (first, next) == (batch.base_offset(), batch.next_offset()) {
        return Ok(records);
    }
    let (mut count, mut cursor) = (0, batch.cursor());
    while cursor.advance()? {
        count += u64::from(cursor.offset().is_some_and(|offset| (first..next).contains(&offset)));
    }
    Ok(count)
}
