//! Batches: what goes in comes out, and no bytes do harm.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{Headers, Result};

fn three() -> RecordBatch {
    let mut builder = BatchBuilder::default();
    builder.push(Timestamp(1000), Some(b"k1"), Some(b"v1"), &Headers::new());
    builder.push(Timestamp(990), None, Some(b""), &Headers::new().with("h", &b"x"[..]).with("h", &b"y"[..]));
    builder.push(Timestamp(1010), Some(b"k3"), None, &Headers::new());
    builder.finish(ProducerStamp { id: 7, epoch: 1, sequence: 42 })
}

/// A batch that Kafka made; see the file.
pub(super) fn kafka(name: &str) -> Bytes {
    let line =
        include_str!("tests/kafka-4.3.1.txt").lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    from_hex(line.unwrap()).into()
}

pub(super) fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Bytes whose length and checksum hold, whatever else was done to them.
pub(super) fn resealed(mut bytes: Vec<u8>) -> Bytes {
    let length = i32::try_from(bytes.len() - BATCH_PREFIX_BYTES).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    header::put_crc(&mut bytes);
    Bytes::from(bytes)
}

/// A record that owns its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) offset: u64,
    pub(super) timestamp: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Owned {
    pub(super) fn of(record: &RecordRef<'_>) -> Self {
        Self {
            offset: record.offset.0,
            timestamp: record.timestamp.0,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(|(n, v)| (n.to_vec(), v.map(<[u8]>::to_vec))).collect(),
        }
    }
}

/// All records of a batch.
pub(super) fn records(batch: &RecordBatch) -> Result<Vec<Owned>> {
    let mut cursor = batch.cursor();
    let mut records = Vec::new();
    while cursor.advance()? {
        records.push(Owned::of(&cursor.current().unwrap()));
    }
    Ok(records)
}

/// The records of the batches that Kafka made.
fn kafkas_three() -> Vec<Owned> {
    let header = |value: Option<&[u8]>| (b"h".to_vec(), value.map(<[u8]>::to_vec));
    let record = |offset, timestamp, key: Option<&[u8]>, value: Option<&[u8]>| Owned {
        offset,
        timestamp,
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers: Vec::new(),
    };
    vec![
        record(100, 1000, Some(b"k1"), Some(&[b'a'; 300])),
        Owned { headers: vec![header(Some(b"x")), header(None)], ..record(101, 990, None, Some(b"")) },
        record(102, 1010, Some(b"k3"), None),
    ]
}

/// Three records as Kafka wrote them, through each codec and with each attribute.
#[test]
fn what_kafka_wrote_is_read() {
    for (name, codec) in [
        ("none", Compression::None),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
        ("append", Compression::Lz4),
        ("horizon", Compression::None),
    ] {
        let batch = RecordBatch::parse(kafka(name)).unwrap();
        let append_time = name == "append";
        assert_eq!(batch.compression(), codec, "{name}");
        assert_eq!(
            (batch.base_offset(), batch.next_offset(), batch.record_count()),
            (Offset(100), Offset(103), 3)
        );
        assert_eq!(batch.stamp(), ProducerStamp { id: 7, epoch: 1, sequence: 42 });
        assert_eq!(batch.max_timestamp(), Timestamp(if append_time { 5555 } else { 1010 }), "{name}");
        assert_eq!(batch.timestamp_type() == TimestampType::LogAppendTime, append_time, "{name}");
        assert_eq!(batch.delete_horizon(), (name == "horizon").then_some(Timestamp(9999)), "{name}");
        assert_eq!((batch.is_transactional(), batch.is_control()), (name == "horizon", false), "{name}");
        let mut expected = kafkas_three();
        if append_time {
            expected.iter_mut().for_each(|record| record.timestamp = 5555);
        }
        assert_eq!(records(&batch).unwrap(), expected, "{name}");
    }
    for name in ["gzip", "snappy"] {
        let error = RecordBatch::parse(kafka(name)).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Invalid);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_marker_of_kafka_is_a_control_batch_with_one_record() {
    let batch = RecordBatch::parse(kafka("marker")).unwrap();
    assert!(batch.is_control() && batch.is_transactional());
    let records = records(&batch).unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].offset, records[0].timestamp), (100, 1234));
    // Version 0, type 1: commit.
    assert_eq!(records[0].key.as_deref(), Some(&[0, 0, 0, 1][..]));
}

/// What Kafka wrote, written by us: the same bytes where there is one way to write them.
#[test]
fn what_kafka_writes_is_written() {
    let mut builder = BatchBuilder::default();
    let headers: Headers =
        [("h".to_owned(), Some(Bytes::from("x"))), ("h".to_owned(), None)].into_iter().collect();
    builder.push(Timestamp(1000), Some(b"k1"), Some(&[b'a'; 300]), &Headers::new());
    builder.push(Timestamp(990), None, Some(b""), &headers);
    builder.push(Timestamp(1010), Some(b"k3"), None, &Headers::new());
    let mut bytes = builder
        .finish(ProducerStamp { id: 7, epoch: 1, sequence: 42 })
        .at_offset(Offset(100))
        .bytes()
        .to_vec();
    bytes[12..16].copy_from_slice(&3i32.to_be_bytes());
    assert_eq!(bytes, kafka("none"));
}

#[test]
fn append_time_is_that_of_all_records() {
    let appended = three().with_append_time(Timestamp(7));
    let appended = RecordBatch::parse(appended.bytes().clone()).unwrap();
    assert_eq!(
        (appended.timestamp_type(), appended.max_timestamp()),
        (TimestampType::LogAppendTime, Timestamp(7))
    );
    let read = records(&appended).unwrap();
    assert!(read.iter().all(|record| record.timestamp == 7));
    let plain = records(&three()).unwrap();
    assert!(
        read.iter().zip(&plain).all(|(read, plain)| (&read.key, &read.value) == (&plain.key, &plain.value))
    );
    // The original is shared, and was not written to.
    let original = three();
    let _ = original.clone().with_append_time(Timestamp(7));
    assert_eq!(original, three());
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
    assert_eq!(RecordBatch::parse(resealed(bytes)).unwrap_err().kind(), crate::ErrorKind::Corrupt);
}

#[test]
fn a_record_more_than_the_header_says_is_noticed() {
    let mut bytes = three().bytes().to_vec();
    bytes[57..61].copy_from_slice(&2i32.to_be_bytes());
    let mut cursor = RecordBatch::parse(resealed(bytes)).unwrap().cursor();
    assert!(cursor.advance().unwrap() && cursor.advance().unwrap());
    assert_eq!(cursor.advance().unwrap_err().kind(), crate::ErrorKind::Corrupt);
    assert!(!cursor.advance().unwrap());
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

#[test]
fn finishing_compressed_leaves_an_empty_builder() {
    let mut builder = BatchBuilder::default();
    for codec in [Compression::None, Compression::Lz4, Compression::Zstd] {
        builder.push(Timestamp(1), None, Some(&[b'a'; 300]), &Headers::new());
        let batch = builder.finish_compressed(ProducerStamp::NONE, codec).unwrap();
        assert_eq!((batch.compression(), batch.record_count()), (codec, 1));
        assert!(builder.is_empty());
    }
}

type Plain = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

/// Bytes that a codec makes smaller, and bytes that it does not.
fn some_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        Just(None),
        Just(Some(Vec::new())),
        any::<Vec<u8>>().prop_map(Some),
        (any::<u8>(), 1usize..2000).prop_map(|(byte, count)| Some(vec![byte; count])),
    ]
}

fn some_headers() -> impl Strategy<Value = Vec<(String, Option<Vec<u8>>)>> {
    prop::collection::vec((any::<String>(), some_bytes()), 0..3)
}

prop_compose! {
    /// What a batch may hold.
    pub(super) fn some_records()(
        records in prop::collection::vec((any::<i64>(), some_bytes(), some_bytes(), some_headers()), 1..40)
    ) -> Vec<Plain> {
        records
    }
}

pub(super) fn some_codec() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)]
}

pub(super) fn built(records: &[Plain], codec: Compression) -> RecordBatch {
    let mut builder = BatchBuilder::default();
    for (ts, key, value, headers) in records {
        let headers: Headers = headers.iter().map(|(n, v)| (n.clone(), v.clone().map(Bytes::from))).collect();
        builder.push(Timestamp(*ts), key.as_deref(), value.as_deref(), &headers);
    }
    builder.finish_compressed(ProducerStamp { id: 7, epoch: 1, sequence: 42 }, codec).unwrap()
}

proptest! {
    #[test]
    fn any_records_come_back(plain in some_records(), codec in some_codec()) {
        let batch = RecordBatch::parse(built(&plain, codec).bytes().clone()).unwrap();
        prop_assert!(batch.compression() == codec || batch.compression() == Compression::None);
        prop_assert_eq!(batch.max_timestamp().0, plain.iter().map(|record| record.0).max().unwrap());
        let read = records(&batch).unwrap();
        prop_assert_eq!(read.len(), plain.len());
        for (offset, (read, (timestamp, key, value, headers))) in (0..).zip(read.into_iter().zip(plain)) {
            let headers = headers.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
            prop_assert_eq!(read, Owned { offset, timestamp, key, value, headers });
        }
    }

    /// Garbage behind a checksum that holds: an error, never a panic, never memory beyond the input.
    #[test]
    fn hostile_records_do_no_harm(body in prop::collection::vec(any::<u8>(), 0..200), count in 0i32..40, codec in 0u8..16) {
        let mut bytes = three().bytes()[..61].to_vec();
        bytes.extend_from_slice(&body);
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        bytes[23..27].copy_from_slice(&(count.max(1) - 1).to_be_bytes());
        bytes[22] = codec;
        if let Ok(batch) = RecordBatch::parse(resealed(bytes)) {
            let mut cursor = batch.cursor();
            while let Some(Ok(record)) = cursor.next() {
                let _ = record.headers.to_owned();
            }
        }
    }
}

/// A record field by field, each behind its length.
fn put_as_defined(
    out: &mut Vec<u8>,
    (timestamp, offset): (i64, i64),
    fields: [&Option<Vec<u8>>; 2],
    headers: &Headers,
    extra: Option<(&str, &[u8])>,
) {
    let put_length = |out: &mut Vec<u8>, length: usize| varint::put(out, length.try_into().unwrap());
    let put_field = |out: &mut Vec<u8>, field: Option<&[u8]>| match field {
        Some(bytes) => {
            put_length(out, bytes.len());
            out.extend_from_slice(bytes);
        }
        None => varint::put(out, -1),
    };
    let mut body = vec![0];
    varint::put(&mut body, timestamp);
    varint::put(&mut body, offset);
    fields.iter().for_each(|field| put_field(&mut body, field.as_deref()));
    let all: Vec<_> = headers.iter().chain(extra.map(|(name, value)| (name, Some(value)))).collect();
    put_length(&mut body, all.len());
    for (name, value) in all {
        put_field(&mut body, Some(name.as_bytes()));
        put_field(&mut body, value);
    }
    put_field(out, Some(&body));
}

proptest! {
    /// Wherever keys and values are written first, the batch has the bytes that are defined; writers that fail or panic leave nothing.
    #[test]
    fn what_is_encoded_in_place_is_what_is_copied(
        all in prop::collection::vec(
            (
                prop_oneof![0i64..1_000_000, any::<i64>()],
                prop_oneof![Just(None), (0usize..200).prop_map(Some)],
                prop_oneof![Just(None), (0usize..200).prop_map(Some), (8_000usize..20_000).prop_map(Some)],
                0usize..3,
                0u8..8,
            ),
            1..40,
        ),
    ) {
        let (mut copied, mut placed) = (BatchBuilder::default(), BatchBuilder::default());
        let mut defined = Vec::new();
        for (offset, (timestamp, key, value, headers, failing)) in (0..).zip(&all) {
            let timestamp = Timestamp(*timestamp);
            let headers: Headers = (0..*headers).map(|i| (i.to_string(), None)).collect();
            let extra = (*failing == 2).then_some(("extra", &b"x"[..]));
            let bytes = |length: &Option<usize>| length.map(|length| vec![7; length]);
            let (key, value) = (bytes(key), bytes(value));
            let write = |bytes: &Option<Vec<u8>>, out: &mut Vec<u8>| {
                out.extend_from_slice(bytes.as_deref().unwrap_or(b"not to be there"));
                Ok(bytes.is_some())
            };
            if *failing == 0 {
                let fail = |out: &mut Vec<u8>| {
                    out.push(1);
                    Err(Error::processing("no"))
                };
                let failed = placed.push_encoded(timestamp, (&headers, extra), |out| write(&key, out), fail);
                prop_assert!(failed.is_err());
            }
            copied.push_with(timestamp, key.as_deref(), value.as_deref(), &headers, extra);
            let delta = timestamp.0.wrapping_sub(all[0].0);
            put_as_defined(&mut defined, (delta, offset), [&key, &value], &headers, extra);
            let about = (&headers, extra);
            placed.push_encoded(timestamp, about, |out| write(&key, out), |out| write(&value, out)).unwrap();
            prop_assert_eq!(copied.has_keyless(), placed.has_keyless());
        }
        let batches = [copied, placed].map(|mut builder| builder.finish(ProducerStamp::NONE));
        prop_assert_eq!(&batches[0].bytes()[BATCH_HEADER_BYTES..], &defined);
        prop_assert_eq!(batches[0].bytes(), batches[1].bytes());
    }
}
