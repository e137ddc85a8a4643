//! The lowest timestamp of a batch, which its header does not have.

use super::{BATCH_HEADER_BYTES, Compression, RecordBatch, varint};
use crate::{Error, Result, Timestamp, TimestampType};

impl RecordBatch {
    /// The lowest timestamp of its records; `None` when it has none. The header has only the highest and that of the first, so
    /// this walks the records, of which it reads no more than that: a few nanoseconds each. Those of a compressed
    /// batch are decompressed for it.
    ///
    /// ```
    /// use headwater_core::{BatchBuilder, Headers, ProducerStamp, Timestamp};
    /// let mut builder = BatchBuilder::default();
    /// for time in [20, 10, 30] {
    ///     builder.push(Timestamp(time), None, Some(b"value"), &Headers::new());
    /// }
    /// let batch = builder.finish(ProducerStamp::NONE);
    /// assert_eq!(batch.min_timestamp().unwrap(), Some(Timestamp(10)));
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when the records are not records; `Unavailable` when the codec gets no memory.
    pub fn min_timestamp(&self) -> Result<Option<Timestamp>> {
        if self.record_count() == 0 {
            return Ok(None);
        }
        if self.timestamp_type() == TimestampType::LogAppendTime {
            return Ok(Some(self.max_timestamp()));
        }
        let records = &self.bytes[BATCH_HEADER_BYTES..];
        let lowest = match self.compression() {
            Compression::None => self.lowest(records),
            codec => {
                let records = codec.unpack(records);
                self.lowest(&records.map_err(|e| e.context(format!("batch {}", self.base_offset())))?)
            }
        };
        let malformed = || Error::corrupt(format!("malformed record. batch={self:?}"));
        lowest.map(Some).ok_or_else(malformed)
    }

    fn lowest(&self, records: &[u8]) -> Option<Timestamp> {
        let (base, mut at, mut lowest) = (self.i64_at(27), 0, i64::MAX);
        for _ in 0..self.record_count() {
            let length = usize::try_from(varint::get(records, &mut at)?).ok()?;
            let record = records.get(at..at.checked_add(length)?)?;
            // Behind the attributes.
            let delta = varint::get(record, &mut 1)?;
            lowest = lowest.min(base.wrapping_add(delta));
            at += length;
        }
        Some(Timestamp(lowest))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{BatchBuilder, Headers, Offset, ProducerStamp, batch::tests::resealed};

    fn batch(times: &[i64], codec: Compression) -> RecordBatch {
        let mut builder = BatchBuilder::default();
        for (time, length) in times.iter().zip(0..) {
            let value = vec![7; length % 200];
            builder.push(Timestamp(*time), Some(b"key"), Some(&value), &Headers::new().with("h", &b"x"[..]));
        }
        builder.finish_compressed(ProducerStamp::NONE, codec).unwrap()
    }

    proptest! {
        #[test]
        fn is_that_of_all_records(
            times in prop::collection::vec(prop_oneof![-5..90i64, any::<i32>().prop_map(i64::from)], 1..300),
            codec in prop::sample::select(vec![Compression::None, Compression::Lz4, Compression::Zstd]),
            horizon in prop::option::of(0..1_000i64),
        ) {
            let batch = batch(&times, codec);
            let lowest = times.iter().min().copied().map(Timestamp);
            prop_assert_eq!(batch.min_timestamp().unwrap(), lowest);
            let kept = batch.retain(horizon.map(Timestamp), |record| record.offset.0 % 2 == 0).unwrap();
            let lowest = times.iter().step_by(2).min().copied().map(Timestamp);
            prop_assert_eq!(kept.min_timestamp().unwrap(), lowest);
            let appended = batch.with_append_time(Timestamp(77));
            prop_assert_eq!(appended.min_timestamp().unwrap(), Some(Timestamp(77)));
        }

        #[test]
        fn bytes_that_are_no_records_are_damage(at in 0..60usize, byte in any::<u8>(), cut in 0..40usize) {
            let whole = batch(&[5, 6, 7], Compression::None);
            let mut bytes = whole.bytes().to_vec();
            bytes.truncate(bytes.len() - cut.min(bytes.len() - BATCH_HEADER_BYTES));
            if let Some(place) = bytes.get_mut(BATCH_HEADER_BYTES + at) {
                *place = byte;
            }
            // Records may be what they were not; nothing worse.
            if let Ok(batch) = RecordBatch::parse(resealed(bytes)) {
                let _ = batch.min_timestamp();
            }
        }
    }

    #[test]
    fn a_batch_without_records_has_none() {
        assert_eq!(RecordBatch::empty(Offset(1), Offset(4)).unwrap().min_timestamp().unwrap(), None);
    }
}
