//! What compaction makes of a batch: the same batch with some of its records, or with none.

use std::ops::Range;

use bytes::Bytes;

use super::{
    BATCH_HEADER_BYTES, Compression, ProducerStamp, RecordBatch, RecordRef, attributes::Attributes,
    header::Header, varint,
};
use crate::{Error, Offset, Result, Timestamp, TimestampType};

/// The timestamp of what holds no record (Kafka: `RecordBatch.NO_TIMESTAMP`).
const NO_TIMESTAMP: i64 = -1;

impl RecordBatch {
    /// The batch with the records for which `keep` holds (Kafka: `MemoryRecords.filterTo`). Records are copied as they lie,
    /// headers and all, and keep their offsets; base and last offset, producer, sequence, leader epoch, codec and timestamp
    /// type stay. The highest timestamp is that of what is kept, or of the batch when nothing is. A batch from which
    /// nothing is taken and to which nothing is added comes back as it is.
    ///
    /// `delete_horizon` is stamped on the batch when it has none yet and a tombstone, which is a record with a null
    /// value, is among the kept, or when it is a control batch (KIP-534). A horizon that it has stays.
    ///
    /// ```
    /// use headwater_core::{BatchBuilder, Headers, Offset, ProducerStamp, Timestamp};
    /// let mut builder = BatchBuilder::default();
    /// for value in [b"old", b"new"] {
    ///     builder.push(Timestamp(5), Some(b"key"), Some(value), &Headers::new());
    /// }
    /// let batch = builder.finish(ProducerStamp::NONE);
    /// let compacted = batch.retain(None, |record| record.offset == Offset(1)).unwrap();
    /// assert_eq!((compacted.record_count(), compacted.next_offset()), (1, Offset(2)));
    /// let mut records = compacted.cursor();
    /// let kept = records.next().unwrap().unwrap();
    /// assert_eq!((kept.offset, kept.value), (Offset(1), Some(&b"new"[..])));
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when the records are not records; `Unavailable` when the codec gets no memory.
    pub fn retain(
        &self,
        delete_horizon: Option<Timestamp>,
        keep: impl FnMut(&RecordRef<'_>) -> bool,
    ) -> Result<Self> {
        let kept = Kept::of(self, keep)?;
        let horizon = delete_horizon
            .filter(|_| self.delete_horizon().is_none() && (kept.tombstone || self.is_control()));
        if kept.count == self.i32_at(57) && horizon.is_none() {
            return Ok(self.clone());
        }
        let header = Header::of(self);
        if kept.count == 0 {
            return emptied(header);
        }
        let mut header = Header {
            count: kept.count,
            max_timestamp: match self.timestamp_type() {
                TimestampType::CreateTime => kept.max_timestamp,
                TimestampType::LogAppendTime => header.max_timestamp,
            },
            ..header
        };
        let records = match horizon {
            None => kept.copy(),
            Some(horizon) => {
                let shift = header.base_timestamp.wrapping_sub(horizon.0);
                header.base_timestamp = horizon.0;
                header.attributes = header.attributes.with_delete_horizon();
                kept.copy_shifted(shift)
                    .ok_or_else(|| Error::corrupt(format!("malformed record. batch={self:?}")))?
            }
        };
        let (codec, bytes) = match self.compression().pack(&records[BATCH_HEADER_BYTES..])? {
            Some(packed) => (self.compression(), packed),
            None => (Compression::None, records),
        };
        header.attributes = header.attributes.with_codec(codec);
        header.seal(bytes)
    }

    /// A batch without records for the offsets from `from` to before `until`, or as many of them as a batch can cover,
    /// which is 2^31: go on at its [`RecordBatch::next_offset`] until that is `until`.
    ///
    /// ```
    /// use headwater_core::{Offset, RecordBatch};
    /// let batch = RecordBatch::empty(Offset(5), Offset(9)).unwrap();
    /// assert_eq!((batch.base_offset(), batch.next_offset(), batch.record_count()), (Offset(5), Offset(9), 0));
    /// assert!(batch.cursor().next().is_none());
    /// ```
    ///
    /// # Errors
    /// `Invalid` when there is no offset between the two, or `until` is more than an `i64` holds.
    pub fn empty(from: Offset, until: Offset) -> Result<Self> {
        let covered = until.min(Offset(from.0.saturating_add(1 << 31)));
        let (Ok(base_offset), Some(last_offset_delta)) = (i64::try_from(from.0), delta(from, covered)) else {
            return Err(Error::invalid(format!("no offsets for an empty batch. from={from}, until={until}")));
        };
        emptied(Header {
            base_offset,
            leader_epoch: 0,
            attributes: Attributes::default(),
            last_offset_delta,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            stamp: ProducerStamp::NONE,
            count: 0,
        })
    }
}

/// The last offset delta of a batch from `base` to before `until`; `None` when no batch covers that.
fn delta(base: Offset, until: Offset) -> Option<i32> {
    let last = i64::try_from(until.0.checked_sub(1)?).ok()?;
    let delta = last.checked_sub(i64::try_from(base.0).ok()?)?;
    i32::try_from(delta).ok().filter(|delta| *delta >= 0)
}

/// A batch of which only the header is left (Kafka: `DefaultRecordBatch.writeEmptyHeader`).
fn emptied(header: Header) -> Result<RecordBatch> {
    let attributes = header.attributes.with_codec(Compression::None).without_delete_horizon();
    Header { attributes, base_timestamp: NO_TIMESTAMP, count: 0, ..header }.seal(vec![0; BATCH_HEADER_BYTES])
}

/// The records that stay.
struct Kept {
    /// The bytes of all records of the batch.
    records: Bytes,
    /// Where those lie that stay; neighbours are one run.
    runs: Vec<Range<usize>>,
    count: i32,
    max_timestamp: i64,
    tombstone: bool,
}

impl Kept {
    fn of(batch: &RecordBatch, mut keep: impl FnMut(&RecordRef<'_>) -> bool) -> Result<Self> {
        let mut kept = Self {
            records: Bytes::new(),
            runs: Vec::new(),
            count: 0,
            max_timestamp: i64::MIN,
            tombstone: false,
        };
        let mut cursor = batch.cursor();
        let mut start = 0;
        while cursor.advance()? {
            let (Some(record), Some((records, end))) = (cursor.current(), cursor.place_in_records()) else {
                break;
            };
            if record.offset >= batch.next_offset() {
                return Err(Error::corrupt(format!(
                    "record lies behind the end of its batch. batch={batch:?}, offset={}",
                    record.offset
                )));
            }
            if kept.records.is_empty() {
                kept.records = records.clone();
            }
            if keep(&record) {
                kept.count += 1;
                kept.max_timestamp = kept.max_timestamp.max(record.timestamp.0);
                kept.tombstone |= record.value.is_none();
                match kept.runs.last_mut() {
                    Some(run) if run.end == start => run.end = end,
                    _ => kept.runs.push(start..end),
                }
            }
            start = end;
        }
        Ok(kept)
    }

    /// The records as they lie, behind room for a header.
    fn copy(&self) -> Vec<u8> {
        let size: usize = self.runs.iter().map(ExactSizeIterator::len).sum();
        let mut out = Vec::with_capacity(BATCH_HEADER_BYTES + size);
        out.resize(BATCH_HEADER_BYTES, 0);
        for run in &self.runs {
            out.extend_from_slice(&self.records[run.clone()]);
        }
        out
    }

    /// As [`Kept::copy`], with `shift` added to each timestamp delta.
    fn copy_shifted(&self, shift: i64) -> Option<Vec<u8>> {
        let mut out = vec![0; BATCH_HEADER_BYTES];
        for run in &self.runs {
            let mut at = run.start;
            while at < run.end {
                let length = usize::try_from(varint::get(&self.records, &mut at)?).ok()?;
                let record = self.records.get(at..at.checked_add(length)?)?;
                let mut rest = 1;
                let timestamp_delta = varint::get(record, &mut rest)?.wrapping_add(shift);
                let body = 1 + varint::size(timestamp_delta) + record.len() - rest;
                varint::put(&mut out, i64::try_from(body).ok()?);
                out.push(*record.first()?);
                varint::put(&mut out, timestamp_delta);
                out.extend_from_slice(&record[rest..]);
                at += length;
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests;
