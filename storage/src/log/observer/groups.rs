//! Reads groups of the journal without the bodies of their batches.
//!
//! Whoever looks at a log reads the whole journal, and wants to know of most records only where they are. The checksum of a
//! group can be had without them all the same: each batch carries the checksum of its body, and checksums of pieces make
//! that of the whole. The body is checked against it when it is read.

use std::io;

use bytes::{Buf, Bytes};
use headwater_core::{
    BATCH_HEADER_BYTES, BatchHeader, Error, Offset, RecordBatch, Result, Timestamp,
    ledger::{Entry, Place},
};

use super::super::{
    checkpoint::PartitionMark,
    checksum::Checksum,
    codec::{self, BATCH_FRONT_BYTES, Item},
    group::{self, GROUP_HEADER_BYTES, GroupHeader},
    index::Front,
    journal::{Position, SegmentFile},
    scan::GROUP_BYTES_MAX,
};

/// Bodies of at least this size are skipped: less is read sooner than it is jumped over.
const SKIP_BYTES: usize = 4 << 10;
/// Read at once at the front of a group, and where nothing was skipped before.
const READ_BYTES: [usize; 2] = [4 << 10, 64 << 10];
/// Read at once behind a body that was skipped. The next body is skipped too, mostly: what is read of it is copied for nothing, and
/// takes the owner's cache.
const JUMP_BYTES: usize = 512;
/// What the checksum of a batch does not cover, up to and with itself: only this is of the group alone.
const BATCH_FRAME_BYTES: usize = 21;
/// Entries that are no batches are mostly no larger.
const ENTRY_BYTES: usize = 512;

/// Where a batch lies in the journal, and how to tell that it is still there: files of the journal are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchPlace {
    pub(super) segment: u64,
    pub(super) byte: u64,
    pub(super) size: u32,
    crc: u32,
    pub(super) base: Offset,
    pub(super) next: Offset,
    /// Its highest timestamp.
    pub(super) newest: Timestamp,
}

impl BatchPlace {
    /// The batch, if these are its bytes.
    pub(super) fn parse(&self, bytes: Bytes) -> Option<RecordBatch> {
        let batch = RecordBatch::parse(bytes).ok()?;
        let same = batch.base_offset() == self.base
            && batch.next_offset() == self.next
            && stored_crc(batch.bytes()) == self.crc;
        same.then_some(batch)
    }
}

/// The checksum that a batch carries.
fn stored_crc(mut batch: &[u8]) -> u32 {
    batch.advance(BATCH_FRAME_BYTES - 4);
    batch.get_u32()
}

/// What a group changes.
#[derive(Debug)]
pub(super) enum Change {
    Batch(Place, BatchPlace),
    /// A batch that lies in files.
    Filed(Place, BatchHeader),
    /// How far the files of a partition were written.
    Files(PartitionMark),
    Other(Entry),
}

/// A group that is what was written.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) changes: Vec<Change>,
    /// Bytes that it takes in the journal.
    pub(super) padded: u64,
}

/// What was read last of a segment.
#[derive(Debug, Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    start: u64,
    /// What lies behind is of no use.
    end: u64,
    /// Where a body that was skipped ends.
    skipped_to: u64,
}

impl Window {
    /// Forgets what was read: what is good goes up to `end` now, perhaps of another segment.
    pub(super) fn begin(&mut self, end: u64) {
        self.bytes.clear();
        (self.end, self.skipped_to) = (end, 0);
    }

    /// `size` bytes from `at` on; `None` when the file ends before that.
    fn get(&mut self, segment: &SegmentFile, at: u64, size: usize) -> Result<Option<&[u8]>> {
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || at + size as u64 > end {
            let goes_on = (self.start..=end).contains(&at);
            let useful = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
            let ahead = if at == self.skipped_to { JUMP_BYTES } else { READ_BYTES[usize::from(goes_on)] };
            let wanted = size.max(useful.min(ahead));
            self.start = at;
            self.fill(segment, wanted).map_err(|e| unreadable(segment, at, e))?;
        }
        let begin = usize::try_from(at - self.start).expect("it lies in the window");
        Ok(self.bytes.get(begin..begin + size))
    }

    fn fill(&mut self, segment: &SegmentFile, size: usize) -> io::Result<()> {
        self.bytes.resize(size, 0);
        let mut filled = 0;
        while let Some(rest) = self.bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match segment.file.read_at(rest, self.start + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.bytes.clear();
                    return Err(error);
                }
            }
        }
        self.bytes.truncate(filled);
        // After a very large entry.
        self.bytes.shrink_to(READ_BYTES[1]);
        Ok(())
    }

    /// The group at `at`, if a good one with the right number is there.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be read, `Corrupt` when the checksum of what is no group holds.
    pub(super) fn group(&mut self, segment: &SegmentFile, at: Position) -> Result<Option<Group>> {
        let Some(front) = self.get(segment, at.byte, GROUP_HEADER_BYTES)? else { return Ok(None) };
        let header = GroupHeader::read(front).filter(|header| header.number == at.group);
        let Some(header) = header else { return Ok(None) };
        let sum = Checksum::begin(segment.seed, front);
        if header.size() > READ_BYTES[0] && !can_hold(segment, at, &header)? {
            return Ok(None);
        }
        let mut walk = Walk {
            window: self,
            segment,
            sum,
            at: at.byte + GROUP_HEADER_BYTES as u64,
            end: at.byte + header.size() as u64,
        };
        let mut changes = Vec::new();
        for _ in 0..header.entries {
            match walk.entry()? {
                Some(Change::Other(Entry::Batch { .. })) | None => return Ok(None),
                Some(change) => changes.push(change),
            }
        }
        let good = walk.at == walk.end && walk.sum.is_of(&header);
        Ok(good.then(|| Group { changes, padded: group::padded(header.size()) as u64 }))
    }
}

/// Whether a group that says to be so large can be: what a damaged length makes us read has its bounds.
fn can_hold(segment: &SegmentFile, at: Position, header: &GroupHeader) -> Result<bool> {
    let length = segment.file.len().map_err(|e| unreadable(segment, at.byte, e))?;
    Ok(header.size() <= GROUP_BYTES_MAX && at.byte + header.size() as u64 <= length)
}

/// One way through a group.
struct Walk<'a> {
    window: &'a mut Window,
    segment: &'a SegmentFile,
    sum: Checksum,
    at: u64,
    end: u64,
}

impl Walk<'_> {
    /// The next entry; `None` when what is there is none. Whether it is one of the group, its checksum says.
    fn entry(&mut self) -> Result<Option<Change>> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(GROUP_BYTES_MAX);
        if left >= BATCH_FRONT_BYTES + BATCH_HEADER_BYTES {
            let front = self.window.get(self.segment, self.at, BATCH_FRONT_BYTES + BATCH_HEADER_BYTES)?;
            let Some(front) = front else { return Ok(None) };
            if let Some((place, size)) = codec::batch_front(front) {
                let (frame, header) = front.split_at(BATCH_FRONT_BYTES);
                self.sum.add(frame);
                self.sum.add(&header[..BATCH_FRAME_BYTES]);
                let (front, crc) = (Front::read(header), stored_crc(header));
                let Some(front) = front.filter(|front| front.size == size as u64) else { return Ok(None) };
                return self.batch(place, front, crc, left);
            }
        }
        self.other(left)
    }

    /// Takes the batch at its place, behind whose frame the checksum stands.
    fn batch(&mut self, place: Place, front: Front, crc: u32, left: usize) -> Result<Option<Change>> {
        let byte = self.at + BATCH_FRONT_BYTES as u64;
        let size = u32::try_from(front.size).expect("it was read as u32");
        let body = size as usize - BATCH_FRAME_BYTES;
        if size as usize > left - BATCH_FRONT_BYTES {
            return Ok(None);
        }
        if body >= SKIP_BYTES {
            self.sum.add_summed(crc, body);
            self.window.skipped_to = byte + front.size;
        } else {
            let read = self.window.get(self.segment, byte + BATCH_FRAME_BYTES as u64, body)?;
            let Some(bytes) = read else { return Ok(None) };
            self.sum.add(bytes);
        }
        self.at = byte + front.size;
        let (base, next) = (front.base, front.last.next());
        let place_there = BatchPlace {
            segment: self.segment.seed.segment,
            byte,
            size,
            crc,
            base,
            next,
            newest: front.newest,
        };
        Ok(Some(Change::Batch(place, place_there)))
    }

    /// Takes an entry whose size is not known before it is read.
    fn other(&mut self, left: usize) -> Result<Option<Change>> {
        let mut size = ENTRY_BYTES.min(left);
        loop {
            let Some(bytes) = self.window.get(self.segment, self.at, size)? else { return Ok(None) };
            let mut rest = Bytes::copy_from_slice(bytes);
            match codec::take_item(&mut rest) {
                Ok(item) => {
                    let taken = size - rest.len();
                    self.sum.add(&bytes[..taken]);
                    self.at += taken as u64;
                    return Ok(Some(match item {
                        Item::Entry(entry) => Change::Other(entry),
                        Item::Filed(place, header) => Change::Filed(place, header),
                        Item::Files(mark) => Change::Files(mark),
                    }));
                }
                Err(_) if size == left => return Ok(None),
                Err(_) => size = (8 * size).min(left),
            }
        }
    }
}

pub(super) fn unreadable(segment: &SegmentFile, byte: u64, error: io::Error) -> Error {
    Error::io(format!("cannot read journal. file={}, byte={byte}", segment.path.display()), error)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use headwater_core::{
        BatchBuilder, Committed, GroupId, Headers, Partition, ProducerStamp, TopicSpec,
        ledger::{GroupPositions, TopicId},
    };

    use super::*;
    use crate::log::{
        fs::{FileSystem, Open, RealFs},
        group::{GroupBuilder, Seed},
        journal::{Kind, SEGMENT_HEADER_BYTES},
    };

    const SEED: Seed = Seed { segment: 3, salt: 0x5eed };
    const AT: Position = Position { segment: 3, byte: SEGMENT_HEADER_BYTES, group: 9 };

    /// Batches of these sizes at rising offsets, between entries of other kinds, small and large.
    fn entries() -> Vec<Entry> {
        let place = Place { topic: TopicId(1), partition: Partition(2) };
        let spec = TopicSpec::new("t", 3).unwrap();
        let mut entries = vec![Entry::TopicCreated { id: TopicId(1), spec }];
        for (offset, size) in (0..).zip([1, 5000, SKIP_BYTES - 100, SKIP_BYTES + 1, 40_000, 9, 70_000, 3]) {
            let mut batch = BatchBuilder::default();
            batch.push(Timestamp(7), None, Some(&vec![7; size]), &Headers::new());
            let batch = batch.finish(ProducerStamp::NONE).at_offset(Offset(offset));
            entries.push(Entry::Batch { place, batch });
            let committed = Committed { offset: Offset(offset), metadata: vec![3; size / 2].into() };
            let positions =
                GroupPositions { group: GroupId("g".into()), committed: vec![(place, committed)] };
            entries.push(Entry::Positions(positions));
        }
        entries
    }

    fn bytes_of(entries: &[Entry]) -> Vec<u8> {
        let mut group = GroupBuilder::default();
        entries.iter().for_each(|entry| group.push(entry));
        let mut bytes = vec![0; usize::try_from(SEGMENT_HEADER_BYTES).unwrap()];
        group.close(SEED, AT.group, 5).for_each(|piece| bytes.extend_from_slice(piece));
        bytes
    }

    fn segment(path: &Path, bytes: &[u8], seed: Seed) -> SegmentFile {
        std::fs::write(path, bytes).unwrap();
        let (file, kind) = (RealFs.open(path, Open::Read).unwrap(), Kind::Synced);
        SegmentFile { path: path.to_owned(), file, length: bytes.len() as u64, first_group: 9, seed, kind }
    }

    fn read(path: &Path, bytes: &[u8], end: u64) -> Option<Group> {
        let segment = segment(path, bytes, SEED);
        let mut window = Window::default();
        window.begin(end);
        window.group(&segment, AT).unwrap()
    }

    #[test]
    fn a_group_is_read_without_bodies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let entries = entries();
        let bytes = bytes_of(&entries);
        for end in [0, bytes.len() as u64, u64::MAX] {
            let group = read(&path, &bytes, end).expect("it is good");
            assert_eq!(SEGMENT_HEADER_BYTES + group.padded + 32, bytes.len() as u64);
            assert_eq!(group.changes.len(), entries.len());
            for (change, entry) in group.changes.into_iter().zip(&entries) {
                match (change, entry) {
                    (Change::Batch(at, found), Entry::Batch { place, batch }) => {
                        let begin = usize::try_from(found.byte).unwrap();
                        let body = bytes[begin..begin + found.size as usize].to_vec();
                        assert_eq!((at, found.newest), (*place, batch.max_timestamp()));
                        assert_eq!(found.parse(body.into()).as_ref(), Some(batch));
                    }
                    (Change::Other(found), entry) => assert_eq!(&found, entry),
                    (found, _) => panic!("{found:?} is not {entry:?}"),
                }
            }
        }
    }

    /// Bytes of skipped bodies are missed by the group, and not by the batch.
    #[test]
    fn whatever_is_damaged_is_noticed_here_or_when_the_batch_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let bytes = bytes_of(&entries()[..9]);
        let good = read(&path, &bytes, u64::MAX).unwrap().changes;
        let mut missed = 0;
        let begin = usize::try_from(SEGMENT_HEADER_BYTES).unwrap();
        // Every byte of the front, and of what is around the bodies.
        let places = (begin..begin + 2000).chain((begin + 2000..bytes.len() - 40).step_by(37));
        for at in places {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            let Some(group) = read(&path, &bad, u64::MAX) else { continue };
            missed += 1;
            let mut batches = good.iter().chain(&group.changes).filter_map(|change| match change {
                Change::Batch(_, batch) => Some(*batch),
                _ => None,
            });
            let holds = |batch: BatchPlace| {
                let begin = usize::try_from(batch.byte).unwrap();
                batch.parse(bad[begin..begin + batch.size as usize].to_vec().into()).is_some()
            };
            assert!(!batches.all(holds), "byte {at}");
        }
        assert!(missed > 0);
        for cut in begin..bytes.len() - 40 {
            if cut % 61 == 0 {
                assert!(read(&path, &bytes[..cut], u64::MAX).is_none(), "cut at {cut}");
            }
        }
        let other = segment(&path, &bytes, Seed { salt: 0x5eec, ..SEED });
        assert!(Window::default().group(&other, AT).unwrap().is_none(), "of another use of the file");
        let next = Position { group: 10, ..AT };
        let same = segment(&path, &bytes, SEED);
        assert!(Window::default().group(&same, next).unwrap().is_none(), "another number");
    }
}
