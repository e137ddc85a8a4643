//! The decoder of record batches: on any bytes, on any bytes behind a header and a checksum that hold, and on batches of
//! any records, whole and changed.
//!
//! Whatever is read is an error or the same each time, and what compaction and a new place make of it can be read too.
//! Memory is bounded by libFuzzer's `-malloc_limit_mb`.
#![no_main]

use bytes::Bytes;
use headwater_core::{
    BATCH_HEADER_BYTES, BatchBuilder, Compression, ErrorKind, Offset, ProducerStamp, RecordBatch, Timestamp,
    batch_size,
};
use headwater_fuzz::{
    edit::{Edit, apply},
    record::{OwnedRecord, PlainRecord, owned},
    seal::seal_batch,
};
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};

#[derive(Debug, Arbitrary)]
enum Input<'a> {
    /// As they come from a disk or a network.
    Bytes(&'a [u8]),
    /// With a length and a checksum that hold: the decoder of headers, codecs and records sees them.
    Sealed(&'a [u8]),
    /// Written by us, and then changed behind the checksum.
    Built {
        records: Vec<PlainRecord<'a>>,
        codec: u8,
        stamp: (i64, i16, i32),
        base: u32,
        edits: Vec<Edit<'a>>,
    },
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Bytes(bytes) => take_all(bytes),
    Input::Sealed(bytes) => {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().max(BATCH_HEADER_BYTES), 0);
        read_sealed(bytes);
    }
    Input::Built { records, codec, stamp, base, edits } => {
        let Some(batch) = build(&records, codec, stamp) else { return };
        let batch = batch.at_offset(Offset(base.into()));
        let written: Vec<_> = (u64::from(base)..).zip(&records).map(|(at, record)| record.at(at)).collect();
        assert_eq!(read(&batch), Some(written), "what was written is read");
        let mut bytes = batch.bytes().to_vec();
        apply(&edits, &mut bytes);
        take_all(&bytes);
        read_sealed(bytes);
    }
});

fn build(records: &[PlainRecord<'_>], codec: u8, stamp: (i64, i16, i32)) -> Option<RecordBatch> {
    if records.is_empty() {
        return None;
    }
    let mut builder = BatchBuilder::default();
    records.iter().for_each(|record| record.push(&mut builder));
    let codec = [Compression::None, Compression::Lz4, Compression::Zstd][usize::from(codec % 3)];
    let (id, epoch, sequence) = stamp;
    Some(builder.finish_compressed(ProducerStamp { id, epoch, sequence }, codec).expect("there is memory"))
}

/// One batch after the other, as readers of files and answers do.
fn take_all(bytes: &[u8]) {
    let mut rest = Bytes::copy_from_slice(bytes);
    loop {
        let (size, before) = (batch_size(&rest), rest.len());
        match RecordBatch::take(&mut rest) {
            Ok(Some(batch)) => {
                assert_eq!(size.expect("it was taken"), Some(batch.bytes().len()));
                assert_eq!(before - rest.len(), batch.bytes().len());
                read(&batch);
            }
            Ok(None) => {
                let size = size.expect("its front is one of a batch");
                return assert!(size.is_none_or(|size| size > rest.len()));
            }
            Err(error) => return check_kind(error.kind()),
        }
    }
}

fn read_sealed(mut bytes: Vec<u8>) {
    if bytes.len() < BATCH_HEADER_BYTES {
        return;
    }
    seal_batch(&mut bytes);
    match RecordBatch::parse(bytes.into()) {
        Ok(batch) => {
            read(&batch);
        }
        Err(error) => check_kind(error.kind()),
    }
}

fn check_kind(kind: ErrorKind) {
    assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::Invalid), "{kind:?}");
}

/// Its records; `None` when they cannot be read.
fn read(batch: &RecordBatch) -> Option<Vec<OwnedRecord>> {
    assert!(batch.next_offset() > batch.base_offset());
    let records = walk(batch);
    let again = RecordBatch::parse(batch.bytes().clone()).expect("it was parsed before");
    assert_eq!(walk(&again), records, "it reads the same each time");
    let moved = batch.clone().at_offset(Offset(0));
    let late = batch.clone().with_append_time(Timestamp(7));
    for other in [moved, late] {
        let other = RecordBatch::parse(other.bytes().clone()).expect("its checksum was not forgotten");
        assert_eq!(walk(&other).map(|records| records.len()), records.as_ref().map(Vec::len));
    }
    let kept = batch.retain(Some(Timestamp(9)), |record| record.offset.0 % 2 == 0);
    match (&records, kept) {
        (None, kept) => assert!(kept.is_err(), "what cannot be read is not kept"),
        (Some(records), Ok(kept)) => {
            let kept = walk(&RecordBatch::parse(kept.bytes().clone()).expect("we wrote it"));
            let even: Vec<_> = records.iter().filter(|record| record.offset % 2 == 0).cloned().collect();
            assert_eq!(kept, Some(even), "what compaction keeps does not change");
        }
        (Some(_), Err(error)) => check_kind(error.kind()),
    }
    records
}

fn walk(batch: &RecordBatch) -> Option<Vec<OwnedRecord>> {
    let mut cursor = batch.cursor();
    let mut records = Vec::new();
    loop {
        match cursor.advance() {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                check_kind(error.kind());
                assert!(!cursor.advance().is_ok_and(|more| more), "nothing comes behind an error");
                return None;
            }
        }
        let record = cursor.current().expect("it stands on one");
        cursor.with_block_keys(|keys| assert_eq!(keys.get(cursor.place()), Some(&record.key)));
        assert_eq!((cursor.offset(), cursor.timestamp()), (Some(record.offset), Some(record.timestamp)));
        records.push(owned(&record));
    }
    assert_eq!(records.len(), batch.record_count() as usize);
    Some(records)
}
