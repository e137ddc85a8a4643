//! Batches: what goes in comes out, and no bytes do harm.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::Headers;

fn three() -> RecordBatch {
    let mut builder = BatchBuilder::default();
    builder.push(Timestamp(1000), Some(b"k1"), Some(b"v1"), &Headers::new());
    builder.push(Timestamp(990), None, Some(b""), &Headers::new().with("h", &b"x"[..]).with("h", &b"y"[..]));
    builder.push(Timestamp(1010), Some(b"k3"), None, &Headers::new());
    builder.finish(ProducerStamp { id: 7, epoch: 1, sequence: 42 })
}

/// The layout, byte for byte, as `DefaultRecordBatch` of Apache Kafka writes it.
#[test]
fn golden_bytes() {
    let hex: String = three().bytes().iter().map(|b| format!("{b:02x}")).collect();
    let expected = concat!(
        "0000000000000000",
        "00000054",
        "00000000",
        "02",
        "f0f3b2d0",
        "0000",
        "00000002",
        "00000000000003e8",
        "00000000000003f2",
        "0000000000000007",
        "0001",
        "0000002a",
        "00000003",
        "14000000046b31047631",
        "00",
        "1c0013020100",
        "0402680278",
        "02680279",
        "1000140404",
        "6b33",
        "01",
        "00",
    );
    let crc = expected.len(); // the checksum is computed, not copied: compare around it
    assert_eq!(hex.len(), crc);
    assert_eq!(hex[..34], expected[..34]);
    assert_eq!(hex[42..], expected[42..]);
}

#[test]
fn reads_what_was_written() {
    let batch = three().at_offset(Offset(100));
    assert_eq!(
        (batch.base_offset(), batch.next_offset(), batch.record_count()),
        (Offset(100), Offset(103), 3)
    );
    assert_eq!(batch.stamp(), ProducerStamp { id: 7, epoch: 1, sequence: 42 });
    assert_eq!(batch.max_timestamp(), Timestamp(1010));
    let mut cursor = RecordBatch::parse(batch.bytes().clone()).unwrap().cursor();
    let first = cursor.next().unwrap().unwrap();
    assert_eq!(
        (first.offset, first.timestamp, first.key, first.value),
        (Offset(100), Timestamp(1000), Some(&b"k1"[..]), Some(&b"v1"[..]))
    );
    assert!(first.headers.is_empty());
    let second = cursor.next().unwrap().unwrap();
    assert_eq!((second.timestamp, second.key, second.value), (Timestamp(990), None, Some(&b""[..])));
    assert_eq!(second.headers.last(b"h"), Some(&b"y"[..]));
    assert_eq!(second.headers.to_owned().iter().len(), 2);
    let third = cursor.next().unwrap().unwrap();
    assert_eq!((third.offset, third.value), (Offset(102), None));
    assert!(cursor.next().is_none());
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    let good = three().at_offset(Offset(5));
    for bit in 0..good.bytes().len() * 8 {
        let mut bytes = good.bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // Base offset and leader epoch lie outside the checksum, by Kafka's design: the log checks offsets itself.
        match RecordBatch::parse(Bytes::from(bytes)) {
            Ok(_) => assert!((0..64).contains(&bit) || (96..128).contains(&bit), "bit {bit}"),
            Err(error) => {
                assert!(matches!(error.kind(), crate::ErrorKind::Corrupt | crate::ErrorKind::Invalid));
            }
        }
    }
}

#[test]
fn a_batch_cut_anywhere_is_not_whole() {
    let good = three();
    for len in 0..good.bytes().len() {
        let mut bytes = good.bytes().slice(..len);
        assert!(RecordBatch::take(&mut bytes).unwrap().is_none(), "{len}");
    }
}

#[test]
fn a_record_count_that_lies_is_refused_before_memory_is_touched() {
    let mut bytes = three().bytes().to_vec();
    bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    bytes[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(RecordBatch::parse(Bytes::from(bytes)).unwrap_err().kind(), crate::ErrorKind::Corrupt);
}

#[test]
fn rewind_forgets_records() {
    let mut builder = BatchBuilder::default();
    builder.push(Timestamp(1), Some(b"a"), None, &Headers::new());
    let mark = builder.mark();
    builder.push(Timestamp(9), Some(b"b"), None, &Headers::new());
    builder.rewind(mark);
    let batch = builder.finish(ProducerStamp::NONE);
    assert_eq!((batch.record_count(), batch.max_timestamp()), (1, Timestamp(1)));
    assert!(RecordBatch::parse(batch.bytes().clone()).is_ok());
}

type Plain = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

proptest! {
    #[test]
    fn any_records_come_back(records in prop::collection::vec(any::<Plain>(), 1..40)) {
        let mut builder = BatchBuilder::default();
        for (ts, key, value, headers) in &records {
            let headers: Headers = headers.iter().map(|(n, v)| (n.clone(), v.clone().map(Bytes::from))).collect();
            builder.push(Timestamp(*ts), key.as_deref(), value.as_deref(), &headers);
        }
        let batch = RecordBatch::parse(builder.finish(ProducerStamp::NONE).bytes().clone()).unwrap();
        let mut cursor = batch.cursor();
        for (ts, key, value, headers) in &records {
            let record = cursor.next().unwrap().unwrap();
            prop_assert_eq!(record.timestamp, Timestamp(*ts));
            prop_assert_eq!(record.key, key.as_deref());
            prop_assert_eq!(record.value, value.as_deref());
            let got: Vec<_> = record.headers.iter().map(|(n, v)| (n.to_vec(), v.map(<[u8]>::to_vec))).collect();
            let want: Vec<_> = headers.iter().map(|(n, v)| (n.clone().into_bytes(), v.clone())).collect();
            prop_assert_eq!(got, want);
        }
        prop_assert!(cursor.next().is_none());
    }

    /// Garbage behind a checksum that holds: an error, never a panic, never memory beyond the input.
    #[test]
    fn hostile_records_do_no_harm(body in prop::collection::vec(any::<u8>(), 0..200), count in 0i32..40) {
        let mut bytes = three().bytes()[..61].to_vec();
        bytes.extend_from_slice(&body);
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        bytes[23..27].copy_from_slice(&(count.max(1) - 1).to_be_bytes());
        let length = i32::try_from(bytes.len() - 12).unwrap();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        if let Ok(batch) = RecordBatch::parse(Bytes::from(bytes)) {
            let mut cursor = batch.cursor();
            while let Some(Ok(record)) = cursor.next() {
                let _ = record.headers.to_owned();
            }
        }
    }
}
