//! Compaction of a batch: what is kept, where it ends, and that Kafka does the same.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    ErrorKind,
    batch::tests::{Owned, built, kafka, records, resealed, some_codec, some_records},
};

fn kafkas(name: &str) -> RecordBatch {
    RecordBatch::parse(kafka(name)).unwrap()
}

/// What Kafka's cleaner makes of its own batches, byte for byte.
#[test]
fn kafkas_cleaner_makes_the_same() {
    let horizon = Some(Timestamp(9999));
    for (batch, kept, expected) in [
        ("none", &[0, 1][..], "none.01"),
        ("none", &[0, 2], "none.02"),
        ("none", &[], "none."),
        ("horizon", &[0], "horizon.0"),
    ] {
        let retained =
            kafkas(batch).retain(horizon, |record| kept.contains(&(record.offset.0 - 100))).unwrap();
        assert_eq!(retained.bytes(), &kafka(expected), "{expected}");
    }
    // Kafka counts timestamps from the first record that it kept, or compresses with another match: other bytes, the
    // same records.
    for (batch, expected) in [("lz4", "lz4.01"), ("append", "append.01")] {
        let retained = kafkas(batch).retain(horizon, |record| record.offset < Offset(102)).unwrap();
        let expected = kafkas(expected);
        assert_eq!(records(&retained).unwrap(), records(&expected).unwrap());
        assert_eq!(retained.compression(), kafkas(batch).compression());
        assert_eq!(
            (retained.max_timestamp(), retained.timestamp_type(), retained.next_offset(), retained.stamp()),
            (expected.max_timestamp(), expected.timestamp_type(), expected.next_offset(), expected.stamp())
        );
    }
}

#[test]
fn an_untouched_batch_comes_back_as_it_is() {
    for name in ["none", "lz4", "zstd", "append", "horizon"] {
        let batch = kafkas(name);
        let same = batch.retain(None, |_| true).unwrap();
        assert_eq!(same.bytes().as_ptr(), batch.bytes().as_ptr(), "{name}");
    }
    // No tombstone is kept, so nothing waits for the horizon.
    let batch = kafkas("none").retain(None, |record| record.value.is_some()).unwrap();
    let same = batch.retain(Some(Timestamp(9)), |_| true).unwrap();
    assert_eq!(same.bytes().as_ptr(), batch.bytes().as_ptr());
}

#[test]
fn a_horizon_is_stamped_once_and_where_something_waits_for_it() {
    let stamped = kafkas("lz4").retain(Some(Timestamp(50)), |_| true).unwrap();
    assert_eq!((stamped.delete_horizon(), stamped.compression()), (Some(Timestamp(50)), Compression::Lz4));
    assert_eq!(records(&stamped).unwrap(), records(&kafkas("lz4")).unwrap());
    let again = stamped.retain(Some(Timestamp(70)), |record| record.value.is_none()).unwrap();
    assert_eq!((again.delete_horizon(), again.record_count()), (Some(Timestamp(50)), 1));
    assert_eq!(records(&again).unwrap(), records(&kafkas("lz4")).unwrap()[2..]);
    let marker = kafkas("marker").retain(Some(Timestamp(50)), |_| true).unwrap();
    assert_eq!((marker.delete_horizon(), marker.is_control()), (Some(Timestamp(50)), true));
    assert_eq!(records(&marker).unwrap(), records(&kafkas("marker")).unwrap());
    let gone = stamped.retain(None, |_| false).unwrap();
    assert_eq!((gone.delete_horizon(), gone.record_count()), (None, 0));
}

/// Names that are not UTF-8 and names that repeat are what `Headers` cannot hold, or holds otherwise.
#[test]
fn headers_are_copied_byte_for_byte() {
    let mut bytes = kafka("none").to_vec();
    let name = bytes.windows(4).position(|at| at == b"\x02h\x02x").unwrap() + 1;
    bytes[name] = 0xff;
    let batch = RecordBatch::parse(resealed(bytes)).unwrap();
    for horizon in [None, Some(Timestamp(5))] {
        let retained = batch.retain(horizon, |record| record.key != Some(b"k1")).unwrap();
        assert_eq!(retained.delete_horizon(), horizon);
        let kept = records(&retained).unwrap();
        assert_eq!(kept, records(&batch).unwrap()[1..]);
        assert_eq!(kept[0].headers, [(vec![0xff], Some(b"x".to_vec())), (b"h".to_vec(), None)]);
    }
}

#[test]
fn empty_batches_cover_any_range_in_several() {
    let (mut from, until) = (Offset(5), Offset(5 + (1 << 32) + 3));
    let mut counts = Vec::new();
    while from < until {
        let batch = RecordBatch::empty(from, until).unwrap();
        let batch = RecordBatch::parse(batch.bytes().clone()).unwrap();
        assert_eq!(
            (batch.base_offset(), batch.record_count(), batch.stamp()),
            (from, 0, ProducerStamp::NONE)
        );
        assert!(records(&batch).unwrap().is_empty());
        counts.push(batch.next_offset().0 - from.0);
        from = batch.next_offset();
    }
    assert_eq!(counts, [1 << 31, 1 << 31, 3]);
    for (from, until) in [(5, 5), (6, 5), (u64::MAX - 1, u64::MAX), (1 << 63, (1 << 63) + 1)] {
        assert_eq!(RecordBatch::empty(Offset(from), Offset(until)).unwrap_err().kind(), ErrorKind::Invalid);
    }
}

/// A record whose offset lies behind the end of its batch would lie in the batch after it.
#[test]
fn a_record_behind_the_end_of_its_batch_is_corrupt() {
    let mut bytes = kafka("none").to_vec();
    let delta = bytes.len() - 6;
    assert_eq!(bytes[delta], 4);
    bytes[delta] = 20;
    let batch = RecordBatch::parse(resealed(bytes)).unwrap();
    assert_eq!(batch.retain(None, |_| true).unwrap_err().kind(), ErrorKind::Corrupt);
}

proptest! {
    /// Against the model: the list of records, filtered.
    #[test]
    fn what_is_kept_is_what_was_there(
        plain in some_records(),
        codec in some_codec(),
        keep in prop::collection::vec(any::<bool>(), 40),
        horizon in prop::option::of(any::<i64>().prop_map(Timestamp)),
        append_time in prop::option::of(any::<i64>().prop_map(Timestamp)),
    ) {
        let mut batch = built(&plain, codec).at_offset(Offset(1000));
        if let Some(time) = append_time {
            batch = batch.with_append_time(time);
        }
        let keeps = |offset: u64| keep[usize::try_from(offset - 1000).unwrap()];
        let until = batch.next_offset();
        let retained = batch.retain(horizon, |record| keeps(record.offset.0)).unwrap();
        let retained = RecordBatch::parse(retained.bytes().clone()).unwrap();

        let expected: Vec<Owned> =
            records(&batch).unwrap().into_iter().filter(|record| keeps(record.offset)).collect();
        prop_assert_eq!(&records(&retained).unwrap(), &expected);
        prop_assert_eq!(retained.record_count() as usize, expected.len());
        prop_assert_eq!((retained.base_offset(), retained.next_offset()), (batch.base_offset(), until));
        prop_assert_eq!(retained.stamp(), batch.stamp());
        prop_assert_eq!(retained.timestamp_type(), batch.timestamp_type());
        let max = expected.iter().map(|record| record.timestamp).max();
        prop_assert_eq!(retained.max_timestamp(), max.map_or(batch.max_timestamp(), Timestamp));
        let waits = expected.iter().any(|record| record.value.is_none());
        prop_assert_eq!(retained.delete_horizon(), horizon.filter(|_| waits));
        // Again, the same: nothing is left to take.
        prop_assert_eq!(retained.retain(horizon, |_| true).unwrap(), retained);
    }

    /// Garbage behind a checksum that holds: an error or some batch, never a panic.
    #[test]
    fn hostile_records_do_no_harm(body in prop::collection::vec(any::<u8>(), 0..200), count in 0i32..40) {
        let mut bytes = kafka("none")[..BATCH_HEADER_BYTES].to_vec();
        bytes.extend_from_slice(&body);
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        bytes[23..27].copy_from_slice(&(count.max(1) - 1).to_be_bytes());
        if let Ok(batch) = RecordBatch::parse(resealed(bytes)) {
            for horizon in [None, Some(Timestamp(9))] {
                if let Ok(retained) = batch.retain(horizon, |record| record.key.is_none()) {
                    prop_assert!(RecordBatch::parse(Bytes::clone(retained.bytes())).is_ok());
                }
            }
        }
    }
}
