//! How entries look in the journal and in checkpoints. What a journal group is made of is drawn in `group`.
//!
//! ```text
//!  1 topic created       id u32, partitions u32, name, settings (JSON)
//!  2 producer opened     id i64, epoch i16, name
//!  3 batch               topic id u32, partition u32, header of the batch: what lies behind it is among the bodies of the group
//!  4 positions           group, count u32, count times: topic id u32, partition u32, offset u64, metadata
//!  5 topic altered       id u32, settings (JSON)
//!  6 partitions added    id u32, partitions u32
//!  7 topic deleted       id u32
//!  8 records deleted     topic id u32, partition u32, first offset that is left u64
//!  9 group deleted       group
//! 10 producers reviewed  time i64, next id i64, count u32, count times: id i64 of one that is forgotten
//! 11 filed batch         topic id u32, partition u32, header of the batch: it lies in its partition's files
//! 12 files written       how far, as in a checkpoint: all before lies in files
//! ```
//!
//! The last two and batches are in the journal only.
//!
//! Each begins with its number as u8. Names, JSON and metadata are a length u32 and bytes. All integers are big-endian.

use std::num::NonZeroU32;

use bytes::{Buf, BufMut, Bytes, TryGetError};
use headwater_core::{
    BATCH_HEADER_BYTES, BatchHeader, Committed, Error, GroupId, Offset, Partition, ProducerName, Result,
    Timestamp, TopicConfig, TopicName, TopicSpec,
    ledger::{Entry, GroupPositions, Incarnation, PARTITIONS_MAX, Place, TopicId},
};

use super::checkpoint::{self, MARK_BYTES, PartitionMark};

const TOPIC_CREATED: u8 = 1;
const PRODUCER_OPENED: u8 = 2;
const BATCH: u8 = 3;
const POSITIONS: u8 = 4;
const TOPIC_ALTERED: u8 = 5;
const PARTITIONS_ADDED: u8 = 6;
const TOPIC_DELETED: u8 = 7;
const RECORDS_DELETED: u8 = 8;
const GROUP_DELETED: u8 = 9;
const PRODUCERS_REVIEWED: u8 = 10;
const BATCH_FILED: u8 = 11;
const FILES_WRITTEN: u8 = 12;

/// Producers are numbered from 0 on, and no log comes near this: there is room to count on from all that are smaller.
const PRODUCERS_END: i64 = 1 << 62;

/// What a journal group is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    Entry(Entry),
    /// A batch that lies in the files of its partition already.
    Filed(Place, BatchHeader),
    /// All batches of a partition up to here lie in its files: those that were filed, and what was before them.
    Files(PartitionMark),
}

/// What stands in the front of a journal group.
#[derive(Debug)]
pub(super) enum Line {
    /// All of it, which is no batch.
    Item(Item),
    /// A batch, of which the rest is the next body.
    Batch(Place, BatchHeader),
}

/// What [`Item::Files`] takes in a group.
pub(super) const FILES_BYTES: usize = 1 + MARK_BYTES;

/// Appends a batch that lies in the files of its partition.
pub(super) fn put_filed(out: &mut Vec<u8>, place: Place, header: &BatchHeader) {
    put_header(out, BATCH_FILED, place, header);
}

fn put_header(out: &mut Vec<u8>, kind: u8, place: Place, header: &BatchHeader) {
    out.put_u8(kind);
    put_place(out, place);
    out.put_slice(header.bytes());
}

/// Appends how far the files of a partition were written.
pub(super) fn put_files(out: &mut Vec<u8>, mark: &PartitionMark) {
    out.put_u8(FILES_WRITTEN);
    checkpoint::put_mark(out, mark);
}

/// Takes the line at the front of `input`.
///
/// # Errors
/// `Corrupt` when it is none, `Invalid` for a batch that is compressed with gzip or snappy.
pub(super) fn take_line(input: &mut Bytes) -> Result<Line> {
    match input.first() {
        Some(&BATCH) => take_header(input).map(|(place, header)| Line::Batch(place, header)),
        Some(&BATCH_FILED) => {
            take_header(input).map(|(place, header)| Line::Item(Item::Filed(place, header)))
        }
        Some(&FILES_WRITTEN) => {
            input.advance(1);
            checkpoint::take_mark(input).map(|mark| Line::Item(Item::Files(mark)))
        }
        _ => take_entry(input).map(|entry| Line::Item(Item::Entry(entry))),
    }
}

/// What [`put_header`] put.
fn take_header(input: &mut Bytes) -> Result<(Place, BatchHeader)> {
    input.advance(1);
    let place = take_place(input)?;
    let header = BatchHeader::parse(input)?;
    input.advance(BATCH_HEADER_BYTES);
    Ok((place, header))
}

/// Appends `entry`; of a batch, what stands in the front of a group.
pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    match entry {
        Entry::TopicCreated { id, spec } => {
            out.put_u8(TOPIC_CREATED);
            out.put_u32(id.0);
            out.put_u32(spec.partitions.get());
            put_bytes(out, spec.name.as_str().as_bytes());
            put_config(out, &spec.config);
        }
        Entry::ProducerOpened { name, producer } => {
            out.put_u8(PRODUCER_OPENED);
            out.put_i64(producer.id);
            out.put_i16(producer.epoch);
            put_bytes(out, name.0.as_bytes());
        }
        Entry::ProducersReviewed { at, next_id, forgotten } => {
            out.put_u8(PRODUCERS_REVIEWED);
            out.put_i64(at.0);
            out.put_i64(*next_id);
            put_count(out, forgotten.len());
            forgotten.iter().for_each(|id| out.put_i64(*id));
        }
        Entry::Batch { place, batch } => put_header(out, BATCH, *place, &BatchHeader::of(batch)),
        Entry::Positions(positions) => {
            out.put_u8(POSITIONS);
            put_bytes(out, positions.group.0.as_bytes());
            put_count(out, positions.committed.len());
            for (place, committed) in &positions.committed {
                put_place(out, *place);
                out.put_u64(committed.offset.0);
                put_bytes(out, &committed.metadata);
            }
        }
        Entry::TopicAltered { id, config } => {
            out.put_u8(TOPIC_ALTERED);
            out.put_u32(id.0);
            put_config(out, config);
        }
        Entry::PartitionsAdded { id, partitions } => {
            out.put_u8(PARTITIONS_ADDED);
            out.put_u32(id.0);
            out.put_u32(partitions.get());
        }
        Entry::TopicDeleted { id } => {
            out.put_u8(TOPIC_DELETED);
            out.put_u32(id.0);
        }
        Entry::RecordsDeleted { place, before } => {
            out.put_u8(RECORDS_DELETED);
            put_place(out, *place);
            out.put_u64(before.0);
        }
        Entry::GroupDeleted(group) => {
            out.put_u8(GROUP_DELETED);
            put_bytes(out, group.0.as_bytes());
        }
    }
}

fn put_config(out: &mut Vec<u8>, config: &TopicConfig) {
    let json = serde_json::to_vec(config).expect("settings are plain data, which JSON can hold");
    put_bytes(out, &json);
}

/// Takes the entry at the front of `input`, which is no batch.
///
/// # Errors
/// `Corrupt` when it is none.
pub(super) fn take_entry(input: &mut Bytes) -> Result<Entry> {
    match input.try_get_u8().map_err(short)? {
        TOPIC_CREATED => take_topic(input),
        PRODUCER_OPENED => {
            let id = take_producer_id(input)?;
            let epoch = input.try_get_i16().map_err(short)?;
            Ok(Entry::ProducerOpened {
                name: ProducerName(take_text(input)?),
                producer: Incarnation { id, epoch },
            })
        }
        POSITIONS => take_positions(input),
        TOPIC_ALTERED => Ok(Entry::TopicAltered { id: take_topic_id(input)?, config: take_config(input)? }),
        PARTITIONS_ADDED => {
            Ok(Entry::PartitionsAdded { id: take_topic_id(input)?, partitions: take_partitions(input)? })
        }
        TOPIC_DELETED => Ok(Entry::TopicDeleted { id: take_topic_id(input)? }),
        RECORDS_DELETED => {
            let place = take_place(input)?;
            Ok(Entry::RecordsDeleted { place, before: Offset(input.try_get_u64().map_err(short)?) })
        }
        GROUP_DELETED => Ok(Entry::GroupDeleted(GroupId(take_text(input)?))),
        PRODUCERS_REVIEWED => take_review(input),
        kind => {
            Err(Error::corrupt(format!("entry of unknown kind, perhaps of a newer version. kind={kind}")))
        }
    }
}

fn take_topic(input: &mut Bytes) -> Result<Entry> {
    let id = take_topic_id(input)?;
    let partitions = take_partitions(input)?;
    let name = TopicName::new(take_text(input)?).map_err(|e| Error::corrupt("topic name").with_source(e))?;
    let config = take_config(input).map_err(|e| e.context(format!("topic={name}")))?;
    Ok(Entry::TopicCreated { id, spec: TopicSpec { name, partitions, config } })
}

/// The number of a topic, or the one that the next will get: the last that there is was given to none.
pub(super) fn take_topic_id(input: &mut Bytes) -> Result<TopicId> {
    match input.try_get_u32().map_err(short)? {
        u32::MAX => Err(Error::corrupt("number of a topic that no log has")),
        id => Ok(TopicId(id)),
    }
}

/// The number of a producer, or the one that the next will get.
fn take_producer_id(input: &mut Bytes) -> Result<i64> {
    let id = input.try_get_i64().map_err(short)?;
    if (0..PRODUCERS_END).contains(&id) {
        return Ok(id);
    }
    Err(Error::corrupt(format!("number of a producer that no log has. producer_id={id}")))
}

/// A count that lies must not take memory for partitions that never were.
fn take_partitions(input: &mut Bytes) -> Result<NonZeroU32> {
    let count = input.try_get_u32().map_err(short)?;
    let legal = NonZeroU32::new(count).filter(|count| count.get() <= PARTITIONS_MAX);
    legal.ok_or_else(|| Error::corrupt(format!("number of partitions that no topic has. partitions={count}")))
}

fn take_config(input: &mut Bytes) -> Result<TopicConfig> {
    let json = take_bytes(input)?;
    serde_json::from_slice(&json).map_err(|e| Error::corrupt("settings of a topic").with_source(e))
}

fn take_review(input: &mut Bytes) -> Result<Entry> {
    let at = Timestamp(input.try_get_i64().map_err(short)?);
    let next_id = take_producer_id(input)?;
    let count = input.try_get_u32().map_err(short)?;
    let mut forgotten = Vec::new();
    for _ in 0..count {
        forgotten.push(take_producer_id(input)?);
    }
    Ok(Entry::ProducersReviewed { at, next_id, forgotten })
}

fn take_positions(input: &mut Bytes) -> Result<Entry> {
    let group = GroupId(take_text(input)?);
    let count = input.try_get_u32().map_err(short)?;
    let mut committed = Vec::new();
    for _ in 0..count {
        let place = take_place(input)?;
        let offset = Offset(input.try_get_u64().map_err(short)?);
        // A copy: a slice would keep the whole group in memory for as long as the position stands.
        let metadata = Bytes::copy_from_slice(&take_bytes(input)?);
        committed.push((place, Committed { offset, metadata }));
    }
    Ok(Entry::Positions(GroupPositions { group, committed }))
}

pub(super) fn put_place(out: &mut Vec<u8>, place: Place) {
    out.put_u32(place.topic.0);
    out.put_u32(place.partition.0);
}

pub(super) fn take_place(input: &mut Bytes) -> Result<Place> {
    let topic = TopicId(input.try_get_u32().map_err(short)?);
    Ok(Place { topic, partition: Partition(input.try_get_u32().map_err(short)?) })
}

pub(super) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.put_u32(u32::try_from(count).expect("lists and fields of an entry are far below 4 Gi"));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.put_slice(bytes);
}

fn take_bytes(input: &mut Bytes) -> Result<Bytes> {
    let length = input.try_get_u32().map_err(short)? as usize;
    if length > input.len() {
        return Err(Error::corrupt(format!("field is cut short. length={length}, left={}", input.len())));
    }
    Ok(input.split_to(length))
}

fn take_text(input: &mut Bytes) -> Result<String> {
    String::from_utf8(take_bytes(input)?.into())
        .map_err(|e| Error::corrupt("text that is not UTF-8").with_source(e))
}

/// For the number readers of `bytes`, which say how much is missing.
#[expect(clippy::needless_pass_by_value, reason = "it is an argument of map_err")]
pub(super) fn short(error: TryGetError) -> Error {
    Error::corrupt(format!("entry is cut short. left={}, wanted={}", error.available, error.requested))
}

#[cfg(test)]
mod tests {
    use headwater_core::ErrorKind;

    use super::*;

    /// The next topic and the next producer get numbers of their own, whatever an entry says that was made to pass.
    #[test]
    fn numbers_behind_which_none_can_follow_are_corrupt() {
        let opened = |id| {
            let name = ProducerName("p".into());
            Entry::ProducerOpened { name, producer: Incarnation { id, epoch: 0 } }
        };
        let reviewed = |next_id, forgotten| Entry::ProducersReviewed { at: Timestamp(0), next_id, forgotten };
        let created = |id| Entry::TopicCreated { id: TopicId(id), spec: TopicSpec::new("t", 1).unwrap() };
        let taken = |entry: &Entry| {
            let mut bytes = Vec::new();
            put_entry(&mut bytes, entry);
            take_entry(&mut Bytes::from(bytes)).map_err(|error| error.kind())
        };
        for good in [opened(0), opened(7), reviewed(8, vec![0, 7]), created(u32::MAX - 1)] {
            assert_eq!(taken(&good), Ok(good));
        }
        for bad in [
            opened(-1),
            opened(i64::MAX),
            reviewed(i64::MAX, vec![]),
            reviewed(8, vec![-1]),
            created(u32::MAX),
        ] {
            assert_eq!(taken(&bad), Err(ErrorKind::Corrupt), "{bad:?}");
        }
    }
}
