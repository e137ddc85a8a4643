//! A journal group: what becomes durable together, closed by one checksum.
//!
//! ```text
//!  0  magic     u32   "HWG1"
//!  4  crc       u32   CRC-32C of the segment's sequence (u64) and salt (u64), then of everything from 8 to the end of the
//!                     entries: what an earlier use of the file left behind does not pass
//!  8  length    u32   bytes of the entries
//! 12  entries   u32   how many
//! 16  number    u64   dense over the life of the log
//! 24  durable   u64   all groups below this number were on disk when this one was written
//! 32  entries, then zeros up to a multiple of 8
//! ```
//!
//! Behind the newest group stand 32 zeros, so that whatever is left of an older use does not look like a torn group.
//! All integers are big-endian.

use bytes::{Buf, BufMut, Bytes};
use headwater_core::{
    BatchHeader, Result,
    ledger::{Entry, Place},
};

use super::{
    checkpoint::PartitionMark,
    codec::{self, Item},
};

pub(super) const GROUP_HEADER_BYTES: usize = 32;
const MAGIC: u32 = u32::from_be_bytes(*b"HWG1");
const ALIGN: usize = 8;
/// Batches of at least this size are written from where they are, without a copy: the system takes a piece of a write for
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
        crc32c::crc32c_append(crc32c::crc32c(&self.segment.to_be_bytes()), &self.salt.to_be_bytes())
    }
}

/// The front of a group, as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupHeader {
    pub(super) crc: u32,
    pub(super) length: u32,
    pub(super) entries: u32,
    pub(super) number: u64,
    pub(super) durable: u64,
}

impl GroupHeader {
    /// `None` when this is not the front of a group.
    pub(super) fn read(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() < GROUP_HEADER_BYTES || bytes.get_u32() != MAGIC {
            return None;
        }
        let (crc, length, entries) = (bytes.get_u32(), bytes.get_u32(), bytes.get_u32());
        Some(Self { crc, length, entries, number: bytes.get_u64(), durable: bytes.get_u64() })
    }

    /// Bytes of header and entries, without the zeros behind them.
    pub(super) fn size(&self) -> usize {
        GROUP_HEADER_BYTES + self.length as usize
    }

    /// Whether `group` (header and entries) is what was written as part of the segment of `seed`.
    pub(super) fn holds(&self, seed: Seed, group: &[u8]) -> bool {
        group.len() == self.size() && crc32c::crc32c_append(seed.checksum(), &group[8..]) == self.crc
    }
}

/// Bytes that a group of `size` bytes takes in the journal.
pub(super) fn padded(size: usize) -> usize {
    size.next_multiple_of(ALIGN)
}

/// A group that is being filled.
#[derive(Debug, Default)]
pub(super) struct GroupBuilder {
    /// All but the large batches.
    bytes: Vec<u8>,
    /// Large batches, which are not copied, and behind how many of `bytes` each comes.
    large: Vec<(usize, Bytes)>,
    large_bytes: usize,
    entries: u32,
}

impl GroupBuilder {
    /// Forgets what it holds, and gives memory back after a very large group.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(16 << 20);
        self.large.clear();
        self.large_bytes = 0;
        self.entries = 0;
    }

    /// What it holds now, for [`GroupBuilder::take_back`].
    pub(super) fn mark(&self) -> Mark {
        let Self { bytes, large, large_bytes, entries } = self;
        Mark { bytes: bytes.len(), large: large.len(), large_bytes: *large_bytes, entries: *entries }
    }

    /// Forgets what was pushed since `mark`.
    pub(super) fn take_back(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        self.large.truncate(mark.large);
        (self.large_bytes, self.entries) = (mark.large_bytes, mark.entries);
    }

    fn begin(&mut self) {
        if self.entries == 0 {
            self.bytes.resize(GROUP_HEADER_BYTES, 0);
        }
    }

    /// A batch that lies in the files of its partition already.
    pub(super) fn push_filed(&mut self, place: Place, header: &BatchHeader) {
        self.begin();
        codec::put_filed(&mut self.bytes, place, header);
        self.entries += 1;
    }

    /// How far the files of a partition were written.
    pub(super) fn push_files(&mut self, mark: &PartitionMark) {
        self.begin();
        codec::put_files(&mut self.bytes, mark);
        self.entries += 1;
    }

    pub(super) fn push(&mut self, entry: &Entry) {
        self.begin();
        match entry {
            Entry::Batch { place, batch } if batch.bytes().len() >= LARGE_BYTES => {
                codec::put_batch_front(&mut self.bytes, *place, batch.bytes().len());
                self.large.push((self.bytes.len(), batch.bytes().clone()));
                self.large_bytes += batch.bytes().len();
            }
            entry => codec::put_entry(&mut self.bytes, entry),
        }
        self.entries += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes that it will take in the journal.
    pub(super) fn size(&self) -> usize {
        padded(self.length())
    }

    fn length(&self) -> usize {
        self.bytes.len() + self.large_bytes
    }

    /// Closes it as group `number` of the segment of `seed`; its bytes, in pieces, end with the zeros that mark the end of
    /// the journal.
    pub(super) fn close(&mut self, seed: Seed, number: u64, durable: u64) -> impl Iterator<Item = &[u8]> {
        assert!(!self.is_empty(), "an empty group is never written");
        let length =
            u32::try_from(self.length() - GROUP_HEADER_BYTES).expect("commits are limited far below 4 GiB");
        let mut header = &mut self.bytes[..GROUP_HEADER_BYTES];
        header.put_u32(MAGIC);
        header.put_u32(0);
        header.put_u32(length);
        header.put_u32(self.entries);
        header.put_u64(number);
        header.put_u64(durable);
        let crc = self.pieces(8).fold(seed.checksum(), crc32c::crc32c_append);
        self.bytes[4..8].copy_from_slice(&crc.to_be_bytes());
        let zeros = self.size() - self.length() + GROUP_HEADER_BYTES;
        self.bytes.resize(self.bytes.len() + zeros, 0);
        self.pieces(0)
    }

    /// Everything from byte `from` on, which is in front of the first large batch.
    fn pieces(&self, from: usize) -> impl Iterator<Item = &[u8]> {
        let ends = self.large.iter().map(|(end, _)| *end).chain([self.bytes.len()]);
        let starts = [from].into_iter().chain(self.large.iter().map(|(end, _)| *end));
        let own = starts.zip(ends).map(|(start, end)| &self.bytes[start..end]);
        let large = self.large.iter().map(|(_, batch)| Some(&batch[..])).chain([None]);
        own.zip(large).flat_map(|(own, large)| [Some(own), large]).flatten()
    }
}

/// How far a group had been filled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    bytes: usize,
    large: usize,
    large_bytes: usize,
    entries: u32,
}

/// What a group is made of whose checksum holds.
///
/// # Errors
/// `Corrupt` when they cannot be read all the same.
pub(super) fn items(header: &GroupHeader, mut body: Bytes) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for _ in 0..header.entries {
        items.push(codec::take_item(&mut body)?);
    }
    Ok(items)
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

    /// Batches that are not copied lie where they would have lain.
    #[test]
    fn large_batches_lie_between_small_entries() {
        let place = Place { topic: TopicId(1), partition: Partition(0) };
        let sizes = [10, LARGE_BYTES, LARGE_BYTES + 5, 20, LARGE_BYTES];
        let batch = |size: usize| {
            let mut batch = BatchBuilder::default();
            batch.push(Timestamp(1), None, Some(&vec![7; size]), &Headers::new());
            batch.finish(ProducerStamp::NONE)
        };
        let entries: Vec<Entry> =
            sizes.iter().map(|size| Entry::Batch { place, batch: batch(*size) }).collect();
        let (mut group, mut copied) = (GroupBuilder::default(), Vec::new());
        for entry in &entries {
            group.push(entry);
            codec::put_entry(&mut copied, entry);
        }
        let size = group.size();
        let bytes = closed(&mut group);
        let header = GroupHeader::read(&bytes).unwrap();
        assert!(header.holds(SEED, &bytes[..header.size()]));
        assert_eq!(bytes[GROUP_HEADER_BYTES..header.size()], copied);
        assert_eq!(bytes.len(), size + GROUP_HEADER_BYTES);
        let body = Bytes::copy_from_slice(&bytes[GROUP_HEADER_BYTES..header.size()]);
        let items: Vec<_> = entries.into_iter().map(Item::Entry).collect();
        assert_eq!(super::items(&header, body).unwrap(), items);
    }

    const SETTINGS: &str = r#"{"cleanup.policy":"delete","compression.type":"producer","delete.retention.ms":"86400000","max.message.bytes":"1048588","message.timestamp.type":"CreateTime","min.cleanable.dirty.ratio":"0.5","min.compaction.lag.ms":"0","retention.bytes":"-1","retention.ms":"-1","segment.bytes":"1073741824","segment.ms":"604800000"}"#;

    const SEED: Seed = Seed { segment: 3, salt: 0x5eed };

    /// Version 1, byte for byte: a log written today must open tomorrow.
    #[test]
    fn golden_bytes() {
        let hex: String = closed(&mut group()).iter().map(|byte| format!("{byte:02x}")).collect();
        let settings: String = SETTINGS.bytes().map(|byte| format!("{byte:02x}")).collect();
        let expected = [
            "48574731",
            "9ccdd06b",
            "0000015f",
            "00000002",
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
    fn another_segment_or_salt_another_checksum() {
        let bytes = closed(&mut group());
        let header = GroupHeader::read(&bytes).unwrap();
        assert_eq!((header.number, header.durable, header.entries), (9, 7, 2));
        let whole = &bytes[..header.size()];
        assert!(header.holds(SEED, whole));
        assert!(!header.holds(Seed { segment: 4, ..SEED }, whole));
        assert!(!header.holds(Seed { salt: 0x5eec, ..SEED }, whole));
        for at in 8..whole.len() {
            let mut bad = whole.to_vec();
            bad[at] ^= 0x10;
            assert!(!GroupHeader::read(&bad).is_some_and(|header| header.holds(SEED, &bad)), "byte {at}");
        }
        let read = items(&header, Bytes::copy_from_slice(&whole[GROUP_HEADER_BYTES..])).unwrap();
        assert_eq!(read.len(), 2);
    }
}
