//! What was true at one point of the journal: whatever came before that point is in the segments, on disk.
//!
//! ```text
//!  0  magic    8 bytes "HWCHKPNT"
//!  8  version  u32   1
//! 12  crc      u32   CRC-32C of everything from 16 on
//! 16  journal segment u64, byte u64, next group u64, size of the largest batch u64, number of the next topic u32
//! 52  count u32, entries as in the journal: topics, producers, positions
//!     count u32, per partition in which something was written: topic id u32, partition u32, earliest u64, end u64,
//!                begin of the active segment u64, its length u64, highest timestamp of its first batch i64, highest
//!                timestamp i64 and the last offset of the first batch that has it u64
//!     count u32, per producer and partition: producer id i64, topic id u32, partition u32, epoch i16,
//!                count u8, per remembered batch: first sequence i32, last sequence i32, offset u64
//! ```
//!
//! All integers are big-endian.
//!
//! There are two copies, written one after the other: one is always whole. The journal is freed when both are on disk, so
//! that either will do. A copy that is damaged or missing is made again when the log is opened.

use std::{io, path::Path};

use bytes::{Buf, BufMut, Bytes};
use headwater_core::{
    Error, ErrorKind, Offset, PartitionOffsets, Result, Timestamp,
    checksum::crc32c,
    ledger::{Ledger, Place, SeenBatch, Sequences},
};

use super::{
    codec::{self, short},
    journal::Position,
    layout::Layout,
    timeindex::Newest,
};

const MAGIC: &[u8; 8] = b"HWCHKPNT";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
/// No offset, length or number of ours comes near: there is room to count on from all that are smaller.
const NUMBERS_END: u64 = 1 << 62;

/// How far the files of a partition were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartitionMark {
    pub(super) place: Place,
    pub(super) earliest: Offset,
    pub(super) end: Offset,
    /// Offset with which the last segment begins.
    pub(super) active: Offset,
    /// Bytes in it; 0 when everything was deleted, and there is no segment: the next one begins at `end`.
    pub(super) length: u64,
    /// The highest timestamp of its first batch.
    pub(super) first: Timestamp,
    /// Its highest timestamp.
    pub(super) newest: Newest,
}

/// A checkpoint as read.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) position: Position,
    pub(super) ledger: Ledger,
    pub(super) partitions: Vec<PartitionMark>,
    /// Both copies are there, and the same.
    pub(super) agreed: bool,
    /// How many copies are neither damaged nor missing.
    pub(super) copies_good: usize,
}

/// The bytes of a checkpoint.
pub(super) fn encode(position: Position, ledger: &Ledger, partitions: &[PartitionMark]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    out.put_slice(MAGIC);
    out.put_u32(VERSION);
    out.put_u32(0);
    out.put_u64(position.segment);
    out.put_u64(position.byte);
    out.put_u64(position.group);
    out.put_u64(ledger.batch_bytes_largest() as u64);
    out.put_u32(ledger.next_topic_id().0);
    let entries = ledger.entries();
    codec::put_count(&mut out, entries.len());
    entries.iter().for_each(|entry| codec::put_entry(&mut out, entry));
    codec::put_count(&mut out, partitions.len());
    partitions.iter().for_each(|mark| put_mark(&mut out, mark));
    codec::put_count(&mut out, ledger.sequences().count());
    for (id, place, sequences) in ledger.sequences() {
        out.put_i64(id);
        codec::put_place(&mut out, place);
        out.put_i16(sequences.epoch().unwrap_or(-1));
        out.put_u8(u8::try_from(sequences.seen().len()).expect("five are remembered"));
        for seen in sequences.seen() {
            out.put_i32(seen.first);
            out.put_i32(seen.last);
            out.put_u64(seen.base.0);
        }
    }
    let crc = crc32c(&out[HEADER_BYTES..]);
    out[12..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
    out
}

/// What [`put_mark`] appends.
pub(super) const MARK_BYTES: usize = 64;

/// Appends how far the files of a partition were written.
pub(super) fn put_mark(out: &mut Vec<u8>, mark: &PartitionMark) {
    codec::put_place(out, mark.place);
    out.put_u64(mark.earliest.0);
    out.put_u64(mark.end.0);
    out.put_u64(mark.active.0);
    out.put_u64(mark.length);
    out.put_i64(mark.first.0);
    out.put_i64(mark.newest.timestamp.0);
    out.put_u64(mark.newest.offset.0);
}

/// Writes both copies, durably: the one that is not good first, so that a good one is there at any time.
///
/// # Errors
/// `Full`: one of them is as it was.
pub(super) fn write(layout: &Layout, bytes: &[u8]) -> Result<()> {
    let [first, second] = layout.checkpoints();
    let is_good =
        |copy: Result<Option<Bytes>>| copy.is_ok_and(|copy| copy.is_some_and(|copy| body(copy).is_ok()));
    let order = if is_good(read_copy(layout, &second)) { [first, second] } else { [second, first] };
    order.iter().try_for_each(|path| layout.overwrite(path, bytes))
}

/// Reads the newest good copy; `None` when there is none at all.
///
/// # Errors
/// `Corrupt` when there is no good one, `Invalid` when it is of another version.
pub(super) fn read(layout: &Layout) -> Result<Option<Checkpoint>> {
    let paths = layout.checkpoints();
    let copies = paths.each_ref().map(|path| read_copy(layout, path));
    let agreed = matches!(&copies, [Ok(Some(first)), Ok(Some(second))] if first == second);
    let (mut good, mut bad): (Vec<Checkpoint>, Option<Error>) = (Vec::new(), None);
    for (copy, path) in copies.into_iter().zip(&paths).take(if agreed { 1 } else { 2 }) {
        let place = |e: Error| e.context(format!("checkpoint. file={}", path.display()));
        match copy.and_then(|copy| copy.map(decode).transpose().map_err(place)) {
            Ok(checkpoint) => good.extend(checkpoint),
            Err(error) if error.kind() == ErrorKind::Invalid => bad = Some(error),
            Err(error) => bad = bad.or(Some(error)),
        }
    }
    let copies_good = if agreed { 2 } else { good.len() };
    match (good.into_iter().max_by_key(|checkpoint| checkpoint.position.group), bad) {
        (Some(newest), _) => Ok(Some(Checkpoint { agreed, copies_good, ..newest })),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(None),
    }
}

fn read_copy(layout: &Layout, path: &Path) -> Result<Option<Bytes>> {
    match layout.fs.read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("cannot read checkpoint. file={}", path.display()), error)),
        Ok(bytes) => Ok(Some(Bytes::from(bytes))),
    }
}

/// What follows the header, whose checksum holds.
fn body(mut input: Bytes) -> Result<Bytes> {
    let magic = input.len() >= HEADER_BYTES && input.split_to(8) == MAGIC[..];
    if !magic {
        return Err(Error::corrupt("not a checkpoint, and nor is its copy: restore one of them"));
    }
    let (version, crc) = (input.get_u32(), input.get_u32());
    if version != VERSION {
        return Err(Error::invalid(format!(
            "of another version: open the log with the Headwater that wrote it. version={version}, known={VERSION}"
        )));
    }
    let actual = crc32c(&input);
    if crc == actual {
        return Ok(input);
    }
    Err(Error::corrupt(format!(
        "checksum does not hold, and nor does that of its copy: restore one of them. stored={crc:#010x}, actual={actual:#010x}"
    )))
}

fn decode(input: Bytes) -> Result<Checkpoint> {
    decode_body(&mut body(input)?)
}

fn decode_body(input: &mut Bytes) -> Result<Checkpoint> {
    let mut next = || take_number(input);
    let position = Position { segment: next()?, byte: next()?, group: next()? };
    let largest = next()?;
    let next_topic = codec::take_topic_id(input)?;
    let mut ledger = Ledger::default();
    ledger.restore_batch_bytes_largest(usize::try_from(largest).unwrap_or(usize::MAX));
    for _ in 0..input.try_get_u32().map_err(short)? {
        ledger.apply(&codec::take_entry(input)?)?;
    }
    ledger.restore_next_topic_id(next_topic)?;
    let mut partitions = Vec::new();
    for _ in 0..input.try_get_u32().map_err(short)? {
        let mark = take_mark(input)?;
        let PartitionMark { place, earliest, end, .. } = mark;
        ledger.restore_offsets(place, PartitionOffsets { earliest, end })?;
        partitions.push(mark);
    }
    for _ in 0..input.try_get_u32().map_err(short)? {
        let id = input.try_get_i64().map_err(short)?;
        let place = codec::take_place(input)?;
        let epoch = input.try_get_i16().map_err(short)?;
        let mut seen = Vec::new();
        for _ in 0..input.try_get_u8().map_err(short)? {
            let first = input.try_get_i32().map_err(short)?;
            let last = input.try_get_i32().map_err(short)?;
            seen.push(SeenBatch { first, last, base: Offset(take_number(input)?) });
        }
        let epoch = Some(epoch).filter(|epoch| *epoch >= 0);
        ledger.restore_sequences(id, place, Sequences::restore(epoch, seen)?)?;
    }
    if !input.is_empty() {
        return Err(Error::corrupt(format!("bytes behind the end. bytes={}", input.len())));
    }
    Ok(Checkpoint { position, ledger, partitions, agreed: false, copies_good: 1 })
}

/// Takes what [`put_mark`] appended.
///
/// # Errors
/// `Corrupt` when it is none, or contradicts itself.
pub(super) fn take_mark(input: &mut Bytes) -> Result<PartitionMark> {
    let place = codec::take_place(input)?;
    let mut next = || take_number(input);
    let (earliest, end, active) = (Offset(next()?), Offset(next()?), Offset(next()?));
    let length = next()?;
    let first = Timestamp(input.try_get_i64().map_err(short)?);
    let timestamp = Timestamp(input.try_get_i64().map_err(short)?);
    let newest = Newest { timestamp, offset: Offset(take_number(input)?) };
    let mark = PartitionMark { place, earliest, end, active, length, first, newest };
    // A segment that holds something begins before the end.
    if active > end || (length > 0 && active == end) {
        return Err(Error::corrupt(format!("files of a partition begin behind its end. files={mark:?}")));
    }
    Ok(mark)
}

/// A number that the log counts up, or something as large.
fn take_number(input: &mut Bytes) -> Result<u64> {
    let number = input.try_get_u64().map_err(short)?;
    if number < NUMBERS_END {
        return Ok(number);
    }
    Err(Error::corrupt(format!("number that no log reaches. number={number}")))
}

#[cfg(test)]
mod tests {
    use headwater_core::{
        BatchBuilder, Headers, Partition, ProducerName, ProducerStamp, TopicConfig, TopicSpec,
        ledger::{Entry, TopicId},
    };

    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        let config = TopicConfig::default();
        let spec = TopicSpec { config, ..TopicSpec::new("t", 1).unwrap() };
        ledger.apply(&Entry::TopicCreated { id: TopicId(0), spec }).unwrap();
        let (producer, opened) = ledger.open_producer(&ProducerName("p".into()));
        ledger.apply(&opened).unwrap();
        let mut builder = BatchBuilder::default();
        builder.push(Timestamp(0), None, None, &Headers::new());
        let batch = builder.finish(ProducerStamp { id: producer.id, epoch: producer.epoch, sequence: 0 });
        let place = Place { topic: TopicId(0), partition: Partition(0) };
        ledger.apply(&Entry::Batch { place, batch }).unwrap();
        ledger
    }

    const POSITION: Position = Position { segment: 2, byte: 3, group: 4 };

    const MARK: PartitionMark = PartitionMark {
        place: Place { topic: TopicId(0), partition: Partition(0) },
        earliest: Offset(0),
        end: Offset(1),
        active: Offset(0),
        length: 68,
        first: Timestamp(-2),
        newest: Newest { timestamp: Timestamp(5), offset: Offset(3) },
    };

    /// A checksum that holds does not make sense of what it is of.
    #[test]
    fn numbers_that_no_log_reaches_are_corrupt() {
        let decode = |position, mark| decode(Bytes::from(encode(position, &ledger(), &[mark])));
        assert!(decode(POSITION, MARK).is_ok());
        for (position, mark) in [
            (Position { segment: u64::MAX, ..POSITION }, MARK),
            (Position { byte: u64::MAX, ..POSITION }, MARK),
            (Position { group: u64::MAX, ..POSITION }, MARK),
            (POSITION, PartitionMark { end: Offset(1 << 63), ..MARK }),
            (POSITION, PartitionMark { active: Offset(1), ..MARK }),
            (POSITION, PartitionMark { active: Offset(2), length: 0, ..MARK }),
            (POSITION, PartitionMark { length: u64::MAX, ..MARK }),
            (POSITION, PartitionMark { newest: Newest { offset: Offset(u64::MAX), ..MARK.newest }, ..MARK }),
        ] {
            let error = decode(position, mark).expect_err("it is refused");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{position:?}, {mark:?}");
        }
    }

    /// Version 1, byte for byte, and back.
    #[test]
    fn golden_bytes() {
        let ledger = ledger();
        let bytes = encode(POSITION, &ledger, &[MARK]);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let config = serde_json::to_vec(&TopicConfig::default()).unwrap();
        let config_hex: String = config.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = [
            "485743484b504e5400000001",
            &hex[24..32],
            "0000000000000002000000000000000300000000000000040000000000000044",
            "00000001",
            "00000002",
            &format!("01000000000000000100000001{}{:08x}{config_hex}", "74", config.len()),
            "0200000000000000000000_0000000170".replace('_', "").as_str(),
            "00000001",
            "00000000000000000000000000000000000000000000000100000000000000000000000000000044",
            "fffffffffffffffe00000000000000050000000000000003",
            "00000001",
            "0000000000000000_0000000000000000_0000_01_00000000_00000000_0000000000000000"
                .replace('_', "")
                .as_str(),
        ]
        .concat();
        assert_eq!(hex, expected);
        let read = decode(Bytes::from(bytes)).unwrap();
        assert_eq!((read.position, read.partitions), (POSITION, vec![MARK]));
        assert_eq!(format!("{:?}", read.ledger), format!("{ledger:?}"));
    }
}
