//! Reads the fronts of journal groups, and jumps over the bodies of their batches.
//!
//! Whoever looks at a log reads the whole journal, and wants to know of most records only where they are. The front of a group says
//! it, and has a checksum of its own; a body is checked against that of its batch when somebody reads it.

use std::{io, ops::Range};

use bytes::Bytes;
use headwater_core::{
    BatchHeader, Error, Offset, Result, Timestamp,
    ledger::{Entry, Place},
};

use super::{
    super::{
        checkpoint::PartitionMark,
        codec::{self, Item, Line},
        group::{self, GROUP_HEADER_BYTES, GroupHeader},
        index::Front,
        journal::{Position, SegmentFile},
        scan::GROUP_BYTES_MAX,
    },
    turns::Turns,
};

/// Bodies of a group of together at least this size are jumped over: less is read sooner.
const SKIP_BYTES: usize = 4 << 10;
/// Read at once where bodies are not jumped over.
const READ_BYTES: usize = 64 << 10;
/// Read at once behind bodies that were jumped over, at least: most fronts are smaller, and what is read of the bodies behind them is
/// copied for nothing, and takes the owner's cache.
const JUMP_BYTES: usize = 512;

/// A batch that the journal holds: its header, and where its body is. Files of the journal are used again: what lies there is the body
/// if the checksum in the header says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchPlace {
    pub(super) segment: u64,
    /// Where the body begins.
    pub(super) byte: u64,
    pub(super) header: BatchHeader,
}

/// What an observer remembers of each batch in the journal, where it takes no less.
const _: () = assert!(size_of::<BatchPlace>() <= 80);

impl BatchPlace {
    /// Bytes of the batch.
    pub(super) fn size(&self) -> usize {
        self.header.size()
    }

    pub(super) fn base(&self) -> Offset {
        self.header.base_offset()
    }

    pub(super) fn next(&self) -> Offset {
        self.header.next_offset()
    }

    /// Its highest timestamp; the lowest there is when it has no records.
    pub(super) fn newest(&self) -> Timestamp {
        Front::read(self.header.bytes()).map_or(Timestamp::MIN, |front| front.newest)
    }

    /// Where the body lies in the file.
    pub(super) fn body(&self) -> Range<u64> {
        self.byte..self.byte + group::body_bytes(&self.header) as u64
    }
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

/// What was read last of a segment.
#[derive(Debug, Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    start: u64,
    /// What lies behind is of no use.
    end: u64,
    /// How much to read at once: about what the fronts took that came last. `None` where no bodies are jumped over.
    fronts: Option<usize>,
    turns: Turns,
}

impl Window {
    /// Forgets what was read: what is good goes up to `end` now, perhaps of another segment.
    pub(super) fn begin(&mut self, end: u64) {
        self.bytes.clear();
        self.end = end;
    }

    /// `size` bytes from `at` on; `None` when the file ends before that.
    fn get(&mut self, segment: &SegmentFile, at: u64, size: usize) -> Result<Option<&[u8]>> {
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || at + size as u64 > end {
            let useful = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
            let wanted = size.max(useful.min(self.fronts.unwrap_or(READ_BYTES)));
            self.start = at;
            self.turns.read(wanted);
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
        self.bytes.shrink_to(READ_BYTES);
        Ok(())
    }

    /// Tells `apply` what the group at `at` changes, if one with the right number is there and its front is good; returns how many bytes it
    /// takes in the journal.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be read, `Corrupt` when the checksum of what is no front holds, and what `apply` says: a part of
    /// the group was told then.
    pub(super) fn group(
        &mut self,
        segment: &SegmentFile,
        at: Position,
        apply: &mut dyn FnMut(Change) -> Result<()>,
    ) -> Result<Option<u64>> {
        let front = self.get(segment, at.byte, GROUP_HEADER_BYTES)?;
        let header = front.and_then(GroupHeader::read).filter(|header| header.number == at.group);
        let Some(header) = header else { return Ok(None) };
        if !can_hold(segment, at, &header)? {
            return Ok(None);
        }
        let size = header.front_size();
        let front = self.get(segment, at.byte, size)?.filter(|front| header.holds(segment.seed, front));
        let Some(front) = front else { return Ok(None) };
        let mut lines = Bytes::copy_from_slice(&front[GROUP_HEADER_BYTES..]);
        let (mut body, end) = (at.byte + size as u64, at.byte + header.size() as u64);
        while !lines.is_empty() {
            apply(match codec::take_line(&mut lines)? {
                Line::Batch(place, header) => {
                    let batch = BatchPlace { segment: segment.seed.segment, byte: body, header };
                    body = batch.body().end;
                    Change::Batch(place, batch)
                }
                Line::Item(Item::Entry(entry)) => Change::Other(entry),
                Line::Item(Item::Filed(place, header)) => Change::Filed(place, header),
                Line::Item(Item::Files(mark)) => Change::Files(mark),
            })?;
        }
        if body != end {
            return Err(Error::corrupt(format!(
                "bodies of a group are not those of its batches. end={end}, found={body}"
            )));
        }
        // Fronts of one and of two commits take turns.
        let before = self.fronts.unwrap_or_default();
        let fronts = size.clamp(JUMP_BYTES, READ_BYTES).max(before - before / 8);
        self.fronts = (header.size() - size >= SKIP_BYTES).then_some(fronts);
        Ok(Some(group::padded(header.size()) as u64))
    }
}

/// Whether a group that says to be so large can be: what a damaged length makes anybody read has its bounds.
fn can_hold(segment: &SegmentFile, at: Position, header: &GroupHeader) -> Result<bool> {
    let end = at.byte.saturating_add(header.size() as u64);
    // A file that is not full yet grows.
    let fits =
        end <= segment.length || end <= segment.file.len().map_err(|e| unreadable(segment, at.byte, e))?;
    Ok(fits && header.size() <= GROUP_BYTES_MAX)
}

pub(super) fn unreadable(segment: &SegmentFile, byte: u64, error: io::Error) -> Error {
    Error::io(format!("cannot read journal. file={}, byte={byte}", segment.path.display()), error)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use headwater_core::{
        BatchBuilder, Committed, ErrorKind, GroupId, Headers, Partition, ProducerStamp, RecordBatch,
        TopicSpec,
        checksum::crc32c_append,
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

    /// What a group changes, and how large it is.
    fn changes(window: &mut Window, segment: &SegmentFile, at: Position) -> Option<(Vec<Change>, u64)> {
        let mut changes = Vec::new();
        let size = window.group(segment, at, &mut |change| {
            changes.push(change);
            Ok(())
        });
        size.unwrap().map(|size| (changes, size))
    }

    fn read(path: &Path, bytes: &[u8], end: u64) -> Option<(Vec<Change>, u64)> {
        let mut window = Window::default();
        window.begin(end);
        changes(&mut window, &segment(path, bytes, SEED), AT)
    }

    fn whole(batch: &BatchPlace, journal: &[u8]) -> Option<RecordBatch> {
        let (begin, end) = (batch.body().start, batch.body().end);
        let body = &journal[usize::try_from(begin).unwrap()..usize::try_from(end).unwrap()];
        RecordBatch::parse([batch.header.bytes(), body].concat().into()).ok()
    }

    #[test]
    fn a_group_is_read_without_bodies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let entries = entries();
        let bytes = bytes_of(&entries);
        for end in [0, bytes.len() as u64, u64::MAX] {
            let (changes, padded) = read(&path, &bytes, end).expect("it is good");
            assert_eq!(SEGMENT_HEADER_BYTES + padded + 32, bytes.len() as u64);
            assert_eq!(changes.len(), entries.len());
            for (change, entry) in changes.into_iter().zip(&entries) {
                match (change, entry) {
                    (Change::Batch(at, found), Entry::Batch { place, batch }) => {
                        assert_eq!((at, found.newest()), (*place, batch.max_timestamp()));
                        assert_eq!(whole(&found, &bytes).as_ref(), Some(batch));
                    }
                    (Change::Other(found), entry) => assert_eq!(&found, entry),
                    (found, _) => panic!("{found:?} is not {entry:?}"),
                }
            }
        }
    }

    /// Bytes of bodies are missed by the group, and not by the batch.
    #[test]
    fn whatever_is_damaged_is_noticed_here_or_when_the_batch_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let bytes = bytes_of(&entries()[..9]);
        let batches = |changes: Vec<Change>| -> Vec<BatchPlace> {
            let batch = |change| match change {
                Change::Batch(_, batch) => Some(batch),
                _ => None,
            };
            changes.into_iter().filter_map(batch).collect()
        };
        let begin = usize::try_from(SEGMENT_HEADER_BYTES).unwrap();
        let front = GroupHeader::read(&bytes[begin..]).unwrap().front_size();
        let bodies = begin + front..bytes.len() - 40;
        // Every byte of the front.
        for at in (begin..begin + front).chain(bodies.clone().step_by(37)) {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            let Some((changes, _)) = read(&path, &bad, u64::MAX) else {
                assert!(!bodies.contains(&at), "byte {at}");
                continue;
            };
            assert!(bodies.contains(&at), "byte {at}");
            let bad = batches(changes).iter().filter(|batch| whole(batch, &bad).is_none()).count();
            assert_eq!(bad, 1, "byte {at}");
        }
        for cut in begin..begin + front {
            if cut % 61 == 0 {
                assert!(read(&path, &bytes[..cut], u64::MAX).is_none(), "cut at {cut}");
            }
        }
        let other = segment(&path, &bytes, Seed { salt: 0x5eec, ..SEED });
        assert!(changes(&mut Window::default(), &other, AT).is_none(), "of another use of the file");
        let next = Position { group: 10, ..AT };
        let same = segment(&path, &bytes, SEED);
        assert!(changes(&mut Window::default(), &same, next).is_none(), "another number");
    }

    /// Whoever makes checksums hold may name more bodies than there are, or fewer.
    #[test]
    fn a_front_that_contradicts_itself_is_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let good = bytes_of(&entries()[..3]);
        for bodies in [0_u32, 3, 20] {
            let mut bytes = good.clone();
            let begin = usize::try_from(SEGMENT_HEADER_BYTES).unwrap();
            bytes[begin + 12..begin + 16].copy_from_slice(&bodies.to_be_bytes());
            let front = begin + GroupHeader::read(&bytes[begin..]).unwrap().front_size();
            let crc = crc32c_append(SEED.checksum(), &bytes[begin + 8..front]);
            bytes[begin + 4..begin + 8].copy_from_slice(&crc.to_be_bytes());
            let read = Window::default().group(&segment(&path, &bytes, SEED), AT, &mut |_| Ok(()));
            assert_eq!(read.unwrap_err().kind(), ErrorKind::Corrupt, "bodies={bodies}");
        }
    }
}
