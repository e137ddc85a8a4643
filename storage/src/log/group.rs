//! A journal group: what becomes durable together, closed by one checksum.
//!
//! ```text
//!  0  magic     u32   "HWG2"
//!  4  crc       u32   CRC-32C of the segment's sequence (u64) and salt (u64), then of everything from 8 to the end of the
//!                     front: what an earlier use of the file left behind does not pass
//!  8  front     u32   bytes of the front
//! 12  bodies    u32   bytes of the bodies
//! 16  number    u64   dense over the life of the log
//! 24  durable   u64   all groups below this number were on disk when this one was written
//! 32  front: the entries, of batches their headers
//!     bodies: what lies behind the header of each batch, in the same order
//!     zeros up to a multiple of 8
//! ```
//!
//! Whoever wants to know where records are, and not the records, reads the front and jumps over the bodies. Each body is covered by the
//! checksum in the header of its batch, which the front holds: a group is good when its front is and all of its bodies are. A
//! front alone proves only what it says itself: that somebody wrote it when all groups below `durable` were on disk
//! (`docs/decisions/0040-fronts-and-bodies.md`).
//!
//! Behind the newest group stand 32 zeros, so that whatever is left of an older use does not look like a torn group.
//! All integers are big-endian.

use bytes::{Buf, BufMut, Bytes};
use headwater_core::{
    BATCH_HEADER_BYTES, BatchHeader, Error, RecordBatch, Result,
    checksum::{crc32c, crc32c_append},
    ledger::{Entry, Place},
};

use super::{
    checkpoint::PartitionMark,
    codec::{self, Item, Line},
};

pub(super) const GROUP_HEADER_BYTES: usize = 32;
const MAGIC: u32 = u32::from_be_bytes(*b"HWG2");
const ALIGN: usize = 8;
/// Bodies of at least this size are written from where they are, without a copy: the system takes a piece of a write for
/// about as much as copying this costs.
const LARGE_BYTES: usize = 2 << 10;

/// What goes into the checksum of each group of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed {
    pub(super) segment: u64,
    pub(super) salt: u64,
}

impl Seed {
    /// What the checksum of each group begins with.
    pub(super) fn checksum(self) -> u32 {
        crc32c_append(crc32c(&self.segment.to_be_bytes()), &self.salt.to_be_bytes())
    }
}

/// The header of a group, as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupHeader {
    crc: u32,
    front: u32,
    bodies: u32,
    pub(super) number: u64,
    pub(super) durable: u64,
}

impl GroupHeader {
    /// `None` when this is not the header of a group.
    pub(super) fn read(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() < GROUP_HEADER_BYTES || bytes.get_u32() != MAGIC {
            return None;
        }
        let (crc, front, bodies) = (bytes.get_u32(), bytes.get_u32(), bytes.get_u32());
        Some(Self { crc, front, bodies, number: bytes.get_u64(), durable: bytes.get_u64() })
    }

    /// Bytes of header and front.
    pub(super) fn front_size(&self) -> usize {
        GROUP_HEADER_BYTES + self.front as usize
    }

    /// Bytes of header, front and bodies, without the zeros behind them.
    pub(super) fn size(&self) -> usize {
        self.front_size() + self.bodies as usize
    }

    /// Whether `front` (with the header) is what was written as part of the segment of `seed`.
    pub(super) fn holds(&self, seed: Seed, front: &[u8]) -> bool {
        front.len() == self.front_size() && crc32c_append(seed.checksum(), &front[8..]) == self.crc
    }
}

/// Bytes that a group of `size` bytes takes in the journal.
pub(super) fn padded(size: usize) -> usize {
    size.next_multiple_of(ALIGN)
}

/// A group that is being filled.
#[derive(Debug, Default)]
pub(super) struct GroupBuilder {
    /// Header and front.
    front: Vec<u8>,
    /// All bodies but the large ones.
    small: Vec<u8>,
    /// Large bodies, which are not copied, and behind how many of `small` each comes.
    large: Vec<(usize, Bytes)>,
    large_bytes: usize,
}

impl GroupBuilder {
    /// Forgets what it holds, and gives memory back after a very large group.
    pub(super) fn clear(&mut self) {
        for bytes in [&mut self.front, &mut self.small] {
            bytes.clear();
            bytes.shrink_to(8 << 20);
        }
        self.large.clear();
        self.large_bytes = 0;
    }

    /// What it holds now, for [`GroupBuilder::take_back`].
    pub(super) fn mark(&self) -> Mark {
        let Self { front, small, large, large_bytes } = self;
        Mark { front: front.len(), small: small.len(), large: large.len(), large_bytes: *large_bytes }
    }

    /// Forgets what was pushed since `mark`.
    pub(super) fn take_back(&mut self, mark: Mark) {
        self.front.truncate(mark.front);
        self.small.truncate(mark.small);
        self.large.truncate(mark.large);
        self.large_bytes = mark.large_bytes;
    }

    fn begin(&mut self) {
        if self.front.is_empty() {
            self.front.resize(GROUP_HEADER_BYTES, 0);
        }
    }

    /// A batch that lies in the files of its partition already.
    pub(super) fn push_filed(&mut self, place: Place, header: &BatchHeader) {
        self.begin();
        codec::put_filed(&mut self.front, place, header);
    }

    /// How far the files of a partition were written.
    pub(super) fn push_files(&mut self, mark: &PartitionMark) {
        self.begin();
        codec::put_files(&mut self.front, mark);
    }

    pub(super) fn push(&mut self, entry: &Entry) {
        self.begin();
        codec::put_entry(&mut self.front, entry);
        let Entry::Batch { batch, .. } = entry else { return };
        let body = batch.bytes().len() - BATCH_HEADER_BYTES;
        if body >= LARGE_BYTES {
            self.large.push((self.small.len(), batch.bytes().slice(BATCH_HEADER_BYTES..)));
            self.large_bytes += body;
        } else {
            self.small.put_slice(&batch.bytes()[BATCH_HEADER_BYTES..]);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.front.is_empty()
    }

    /// Bytes that it will take in the journal.
    pub(super) fn size(&self) -> usize {
        padded(self.front.len() + self.bodies())
    }

    fn bodies(&self) -> usize {
        self.small.len() + self.large_bytes
    }

    /// Closes it as group `number` of the segment of `seed`; its bytes, in pieces, end with the zeros that mark the end of
    /// the journal.
    pub(super) fn close(&mut self, seed: Seed, number: u64, durable: u64) -> impl Iterator<Item = &[u8]> {
        assert!(!self.is_empty(), "an empty group is never written");
        let length = |bytes| u32::try_from(bytes).expect("commits are limited far below 4 GiB");
        let (front, bodies) = (length(self.front.len() - GROUP_HEADER_BYTES), length(self.bodies()));
        let mut header = &mut self.front[..GROUP_HEADER_BYTES];
        header.put_u32(MAGIC);
        header.put_u32(0);
        header.put_u32(front);
        header.put_u32(bodies);
        header.put_u64(number);
        header.put_u64(durable);
        let crc = crc32c_append(seed.checksum(), &self.front[8..]);
        self.front[4..8].copy_from_slice(&crc.to_be_bytes());
        let zeros = self.size() - self.front.len() - self.bodies() + GROUP_HEADER_BYTES;
        self.small.resize(self.small.len() + zeros, 0);
        self.pieces()
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.large.iter().map(|(end, _)| *end).chain([self.small.len()]);
        let starts = [0].into_iter().chain(self.large.iter().map(|(end, _)| *end));
        let small = starts.zip(ends).map(|(start, end)| &self.small[start..end]);
        let large = self.large.iter().map(|(_, body)| Some(&body[..])).chain([None]);
        [&self.front[..]]
            .into_iter()
            .chain(small.zip(large).flat_map(|(small, large)| [Some(small), large]).flatten())
    }
}

/// How far a group had been filled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    front: usize,
    small: usize,
    large: usize,
    large_bytes: usize,
}

/// What a group is made of whose front holds; `None` when one of its bodies does not.
///
/// # Errors
/// `Corrupt` when the front cannot be read all the same.
pub(super) fn items(header: &GroupHeader, group: &Bytes) -> Result<Option<Vec<Item>>> {
    let mut front = group.slice(GROUP_HEADER_BYTES..header.front_size());
    let mut bodies = &group[header.front_size()..];
    let mut items = Vec::new();
    while !front.is_empty() {
        match codec::take_line(&mut front)? {
            Line::Item(item) => items.push(item),
            Line::Batch(place, header) => {
                let (body, rest) =
                    bodies.split_at_checked(body_bytes(&header)).ok_or_else(|| other_bodies(bodies))?;
                bodies = rest;
                // All that can be wrong with it is its checksum: its header was read before.
                let Ok(batch) = RecordBatch::parse([header.bytes(), body].concat().into()) else {
                    return Ok(None);
                };
                items.push(Item::Entry(Entry::Batch { place, batch }));
            }
        }
    }
    if bodies.is_empty() { Ok(Some(items)) } else { Err(other_bodies(bodies)) }
}

/// What is behind the header of a batch.
pub(super) fn body_bytes(header: &BatchHeader) -> usize {
    header.size() - BATCH_HEADER_BYTES
}

fn other_bodies(left: &[u8]) -> Error {
    Error::corrupt(format!("bodies of a group are not those of its batches. left={}", left.len()))
}

#[cfg(test)]
mod tests {
    use headwater_core::{
        BatchBuilder, Headers, Partition, ProducerName, ProducerStamp, Timestamp, TopicSpec,
        ledger::{Incarnation, Place, TopicId},
    };

    use super::*;

    fn group() -> GroupBuilder {
        let mut group = GroupBuilder::default();
        group.push(&Entry::TopicCreated { id: TopicId(1), spec: TopicSpec::new("t", 2).unwrap() });
        group.push(&Entry::ProducerOpened {
            name: ProducerName("p".into()),
            producer: Incarnation { id: 5, epoch: 6 },
        });
        group
    }

    fn closed(group: &mut GroupBuilder) -> Vec<u8> {
        group.close(SEED, 9, 7).flatten().copied().collect()
    }

    fn batch(size: usize) -> RecordBatch {
        let mut batch = BatchBuilder::default();
        batch.push(Timestamp(1), None, Some(&vec![7; size]), &Headers::new());
        batch.finish(ProducerStamp::NONE)
    }

    fn entry(size: usize) -> Entry {
        let place = Place { topic: TopicId(1), partition: Partition(0) };
        Entry::Batch { place, batch: batch(size) }
    }

    /// Headers in front, bodies behind, whether they are copied or not.
    #[test]
    fn bodies_lie_behind_the_front_in_their_order() {
        let sizes = [10, LARGE_BYTES, LARGE_BYTES + 5, 20, LARGE_BYTES];
        let entries: Vec<Entry> = sizes.into_iter().map(entry).collect();
        let other = Entry::GroupDeleted(headwater_core::GroupId("g".into()));
        let entries = [entries, vec![other]].concat();
        let (mut group, mut front, mut bodies) = (GroupBuilder::default(), Vec::new(), Vec::new());
        for entry in &entries {
            group.push(entry);
            codec::put_entry(&mut front, entry);
            if let Entry::Batch { batch, .. } = entry {
                bodies.extend_from_slice(&batch.bytes()[BATCH_HEADER_BYTES..]);
            }
        }
        let size = group.size();
        let bytes = closed(&mut group);
        let header = GroupHeader::read(&bytes).unwrap();
        assert!(header.holds(SEED, &bytes[..header.front_size()]));
        assert_eq!(bytes[GROUP_HEADER_BYTES..header.front_size()], front);
        assert_eq!(bytes[header.front_size()..header.size()], bodies);
        assert_eq!(bytes.len(), size + GROUP_HEADER_BYTES);
        assert!(bytes[header.size()..].iter().all(|byte| *byte == 0));
        let whole = Bytes::copy_from_slice(&bytes[..header.size()]);
        let items: Vec<_> = entries.into_iter().map(Item::Entry).collect();
        assert_eq!(super::items(&header, &whole).unwrap(), Some(items));
    }

    /// The front goes by its own checksum, and each body by that in the header of its batch.
    #[test]
    fn a_body_that_is_another_makes_the_group_bad_and_leaves_the_front_good() {
        let mut group = GroupBuilder::default();
        [10, LARGE_BYTES].into_iter().for_each(|size| group.push(&entry(size)));
        let bytes = closed(&mut group);
        let header = GroupHeader::read(&bytes).unwrap();
        for at in header.front_size()..header.size() {
            let mut bad = bytes[..header.size()].to_vec();
            bad[at] ^= 1;
            assert!(header.holds(SEED, &bad[..header.front_size()]), "byte {at}");
            assert_eq!(items(&header, &bad.into()).unwrap(), None, "byte {at}");
        }
    }

    #[test]
    fn what_was_taken_back_is_not_in_it() {
        let (mut group, mut plain) = (GroupBuilder::default(), GroupBuilder::default());
        [10, LARGE_BYTES].into_iter().for_each(|size| {
            group.push(&entry(size));
            plain.push(&entry(size));
        });
        let mark = group.mark();
        [LARGE_BYTES + 1, 20].into_iter().for_each(|size| group.push(&entry(size)));
        group.take_back(mark);
        assert_eq!(closed(&mut group), closed(&mut plain));
        group.clear();
        assert!(group.is_empty() && group.size() == 0);
    }

    /// Whoever makes a checksum hold says what he likes: more bodies than batches, or fewer.
    #[test]
    fn bodies_of_no_batch_are_corrupt() {
        let mut group = GroupBuilder::default();
        group.push(&entry(10));
        let bytes = closed(&mut group);
        let header = GroupHeader::read(&bytes).unwrap();
        let good = &bytes[..header.size()];
        for (bodies, whole) in
            [(header.bodies - 1, &good[..good.len() - 1]), (header.bodies + 1, &bytes[..good.len() + 1])]
        {
            let error = items(&GroupHeader { bodies, ..header }, &Bytes::copy_from_slice(whole)).unwrap_err();
            assert_eq!(error.kind(), headwater_core::ErrorKind::Corrupt);
        }
    }

    const SETTINGS: &str = r#"{"cleanup.policy":"delete","compression.type":"producer","delete.retention.ms":"86400000","max.message.bytes":"1048588","message.timestamp.type":"CreateTime","min.cleanable.dirty.ratio":"0.5","min.compaction.lag.ms":"0","retention.bytes":"-1","retention.ms":"-1","segment.bytes":"1073741824","segment.ms":"604800000"}"#;

    const SEED: Seed = Seed { segment: 3, salt: 0x5eed };

    /// Byte for byte: a log written today must open tomorrow.
    #[test]
    fn golden_bytes() {
        let hex: String = closed(&mut group()).iter().map(|byte| format!("{byte:02x}")).collect();
        let settings: String = SETTINGS.bytes().map(|byte| format!("{byte:02x}")).collect();
        let expected = [
            "48574732",
            "83fbfe1c",
            "0000015f",
            "00000000",
            "0000000000000009",
            "0000000000000007",
            "01",
            "00000001",
            "00000002",
            "00000001",
            "74",
            "0000013d",
            &settings,
            "02",
            "0000000000000005",
            "0006",
            "00000001",
            "70",
            "00",
        ];
        assert_eq!(hex[..hex.len() - 64], expected.concat());
        assert!(hex[hex.len() - 64..].bytes().all(|digit| digit == b'0'));
    }

    #[test]
    fn golden_bytes_of_batches() {
        let mut group = GroupBuilder::default();
        [1, 2].into_iter().for_each(|size| group.push(&entry(size)));
        let hex: String = closed(&mut group).iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = [
            "48574732b7a295260000008c0000001100000000000000090000000000000007",
            "030000000100000000",
            "00000000000000000000003900000000024d42b8c100000000000000000000000000010000000000000001",
            "ffffffffffffffffffffffffffff00000001",
            "030000000100000000",
            "00000000000000000000003a000000000223d8160300000000000000000000000000010000000000000001",
            "ffffffffffffffffffffffffffff00000001",
            "0e00000001020700",
            "100000000104070700",
            "000000",
        ];
        assert_eq!(hex[..hex.len() - 64], expected.concat());
    }

    #[test]
    fn another_segment_or_salt_another_checksum() {
        let bytes = closed(&mut group());
        let header = GroupHeader::read(&bytes).unwrap();
        assert_eq!((header.number, header.durable, header.bodies), (9, 7, 0));
        let whole = &bytes[..header.size()];
        assert!(header.holds(SEED, whole));
        assert!(!header.holds(Seed { segment: 4, ..SEED }, whole));
        assert!(!header.holds(Seed { salt: 0x5eec, ..SEED }, whole));
        for at in 8..whole.len() {
            let mut bad = whole.to_vec();
            bad[at] ^= 0x10;
            assert!(!GroupHeader::read(&bad).is_some_and(|header| header.holds(SEED, &bad)), "byte {at}");
        }
        assert_eq!(items(&header, &Bytes::copy_from_slice(whole)).unwrap().unwrap().len(), 2);
    }
}
