//! The two ways to read the front of a record, and records that were found together.

use proptest::prelude::*;

use super::*;
use crate::BatchBuilder;

fn front(front: &Front) -> (usize, i64, u64, Field, usize) {
    (front.end, front.timestamp_delta, front.offset_delta, front.key, front.at)
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![-70i64..70, -9000i64..9000, any::<i32>().prop_map(i64::from)]
}

/// What might be a record, whose numbers have any length, and which may be cut anywhere.
fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
    let numbers = (number(), any::<u8>(), number(), number(), number());
    (numbers, prop::collection::vec(any::<u8>(), 0..80), 0usize..100).prop_map(
        |((length, attributes, timestamp, offset, key), rest, kept)| {
            let mut bytes = Vec::new();
            varint::put(&mut bytes, length);
            bytes.push(attributes);
            [timestamp, offset, key].into_iter().for_each(|number| varint::put(&mut bytes, number));
            bytes.extend(rest);
            bytes.truncate(kept);
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn what_is_read_at_once_is_what_is_read_number_by_number(bytes in some_bytes(), at in 0usize..4) {
        if let Some(short) = short_front(&bytes, at).filter(|short| short.end <= bytes.len()) {
            let long = long_front(&bytes, at).map(|long| front(&long));
            prop_assert_eq!(Some(front(&short)), long);
        }
    }
}

/// The way that is fast is the one that records go.
#[test]
fn most_records_are_read_at_once() {
    let mut builder = BatchBuilder::default();
    for n in 0..5000 {
        builder.push(Timestamp(1000 + n), Some(b"a key"), Some(&[7; 50]), &Headers::new());
    }
    let batch = builder.finish(crate::ProducerStamp::NONE);
    let (mut at, bytes) = (0, &batch.bytes[BATCH_HEADER_BYTES..]);
    for n in 0..5000u64 {
        let short = short_front(bytes, at).map(|short| (short.offset_delta, short.end));
        let long = long_front(bytes, at).unwrap();
        assert_eq!(short, Some((n, long.end)));
        at = long.end;
    }
}

#[test]
fn those_found_together_are_walked_and_the_cursor_moves_along() {
    let mut builder = BatchBuilder::default();
    for n in 0..150 {
        builder.push(Timestamp(n), None, None, &Headers::new());
    }
    let mut cursor = builder.finish(crate::ProducerStamp::NONE).cursor();
    assert!(cursor.found().current().is_none());
    let mut seen = Vec::new();
    while cursor.advance().unwrap() {
        // Leaves some of them to the cursor itself.
        let mut found = cursor.found();
        loop {
            seen.push(found.current().unwrap().offset.0);
            let next = found.next_timestamp();
            if next.is_none() || seen.len() % 50 == 0 {
                break;
            }
            found.advance();
            assert_eq!(found.current().map(|record| record.timestamp), next);
        }
        let last = seen.last().copied();
        assert_eq!(cursor.offset().map(|offset| offset.0), last);
        let mut found = cursor.found();
        if found.next_timestamp().is_none() {
            found.advance();
            assert_eq!(found.current().map(|record| record.offset.0), last);
        }
    }
    assert_eq!(seen, (0..150).collect::<Vec<_>>());
}
