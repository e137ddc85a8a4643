//! What an observer knows: a checkpoint, and the journal from there to what was published.
//!
//! Records are not kept, only where they are. All of it is what was true at one point of the journal.

use std::collections::{HashMap, VecDeque};

use bytes::{Buf, Bytes};
use headwater_core::{
    Error, Offset, PartitionOffsets, RecordBatch, Result, Timestamp, TopicPartition,
    ledger::{self, Entry, Ledger, Place},
};

use super::super::{
    checkpoint::{self, Checkpoint, PartitionMark},
    codec,
    group::{self, GROUP_HEADER_BYTES, GroupHeader},
    journal::{Position, SEGMENT_HEADER_BYTES, SegmentFile},
    layout::Layout,
    scan::{self, GROUP_BYTES_MAX},
};

/// Read of the journal at once.
const CHUNK_BYTES: u64 = 1 << 20;

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
    newest: Timestamp,
}

impl BatchPlace {
    fn new(segment: u64, byte: u64, batch: &RecordBatch) -> Self {
        let size = u32::try_from(batch.bytes().len()).expect("lengths in the journal are u32");
        Self {
            segment,
            byte,
            size,
            crc: stored_crc(batch),
            base: batch.base_offset(),
            next: batch.next_offset(),
            newest: batch.max_timestamp(),
        }
    }

    /// The batch, if these are its bytes.
    pub(super) fn parse(&self, bytes: Bytes) -> Option<RecordBatch> {
        let batch = RecordBatch::parse(bytes).ok()?;
        let same = batch.base_offset() == self.base
            && batch.next_offset() == self.next
            && stored_crc(&batch) == self.crc;
        same.then_some(batch)
    }
}

/// The checksum that a batch carries: it holds, or the batch would not be one.
fn stored_crc(batch: &RecordBatch) -> u32 {
    batch.bytes().slice(17..21).get_u32()
}

/// Where a read finds its batches.
#[derive(Debug)]
pub(super) enum Source {
    Nothing,
    /// Not in files yet, or not known to be.
    Journal(Vec<BatchPlace>),
    /// In files, which are good up to here.
    Files(PartitionMark),
}

/// Topics, offsets, positions, and where the records are.
#[derive(Debug)]
pub(super) struct View {
    pub(super) ledger: Ledger,
    /// How far files were written at the newest checkpoint that it knows, and where that stands.
    marks: HashMap<Place, PartitionMark>,
    checkpoint: Position,
    /// Batches behind that checkpoint.
    journaled: HashMap<Place, VecDeque<BatchPlace>>,
    /// Behind the last group that it knows.
    pub(super) position: Position,
    segment: SegmentFile,
    /// What had been published when it was brought here.
    pub(super) published: Option<Position>,
}

impl View {
    /// What was true at the checkpoint.
    pub(super) fn load(layout: &Layout) -> Result<Self> {
        let Checkpoint { position, ledger, partitions, .. } = read_checkpoint(layout)?;
        let segment = open_segment(layout, position.segment)?;
        Ok(Self {
            ledger,
            marks: partitions.into_iter().map(|mark| (mark.place, mark)).collect(),
            checkpoint: position,
            journaled: HashMap::new(),
            position,
            segment,
            published: None,
        })
    }

    /// Behind the last group of which a later one says that it is on disk.
    pub(super) fn vouched(&self, layout: &Layout) -> Result<Position> {
        let scan = scan::scan(layout, self.position, &mut |_| Ok(()))?;
        Ok(Position { group: scan.durable.max(self.position.group), ..scan.end })
    }

    /// Behind the last good group there is.
    pub(super) fn last_good(&self, layout: &Layout) -> Result<Position> {
        scan::scan(layout, self.position, &mut |_| Ok(())).map(|scan| scan.end)
    }

    /// Learns all groups before `target`.
    ///
    /// # Errors
    /// It knows a part of a group then, and is of no use any more.
    pub(super) fn advance(&mut self, layout: &Layout, target: Position) -> Result<()> {
        while self.position.group < target.group {
            let before = self.position.group;
            self.apply_chunk(target)?;
            if self.position.group == before {
                self.next_segment(layout)?;
            }
        }
        Ok(())
    }

    /// Reads and learns some groups of the segment it is in; none at the segment's end.
    fn apply_chunk(&mut self, target: Position) -> Result<()> {
        let until = if target.segment == self.position.segment { target.byte } else { u64::MAX };
        let mut chunk = self.read(until.saturating_sub(self.position.byte).min(CHUNK_BYTES))?;
        while self.position.group < target.group {
            let Some(header) =
                GroupHeader::read(&chunk).filter(|header| header.number == self.position.group)
            else {
                return Ok(());
            };
            if header.size() > chunk.len() {
                if !self.holds(&header)? {
                    return Ok(());
                }
                chunk = self.read((header.size() as u64).max(CHUNK_BYTES))?;
                if header.size() > chunk.len() {
                    return Ok(());
                }
            }
            if !header.holds(self.segment.seed, &chunk[..header.size()]) {
                return Ok(());
            }
            self.apply(&header, &chunk.slice(GROUP_HEADER_BYTES..header.size()))?;
            chunk.advance(group::padded(header.size()).min(chunk.len()));
        }
        Ok(())
    }

    /// Whether a group that says to be so large can be: what a damaged length makes us read has its bounds.
    fn holds(&self, header: &GroupHeader) -> Result<bool> {
        let length = self.segment.file.len().map_err(|e| self.unreadable(e))?;
        Ok(header.size() <= GROUP_BYTES_MAX && self.position.byte + header.size() as u64 <= length)
    }

    /// Up to `size` bytes from its position on.
    fn read(&self, size: u64) -> Result<Bytes> {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(GROUP_BYTES_MAX)];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.segment.file.read_at(rest, self.position.byte + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(error)),
            }
        }
        bytes.truncate(filled);
        Ok(Bytes::from(bytes))
    }

    fn unreadable(&self, error: std::io::Error) -> Error {
        let file = self.segment.path.display();
        Error::io(format!("cannot read journal. file={file}, byte={}", self.position.byte), error)
    }

    fn apply(&mut self, header: &GroupHeader, body: &Bytes) -> Result<()> {
        let Position { segment, byte, .. } = self.position;
        let place =
            |e: Error| e.context(format!("journal. file={}, byte={byte}", self.segment.path.display()));
        let mut rest = body.clone();
        for _ in 0..header.entries {
            let entry = codec::take_entry(&mut rest).map_err(place)?;
            self.ledger.apply(&entry).map_err(place)?;
            match &entry {
                Entry::Batch { place, batch } => {
                    let begin = body.len() - rest.len() - batch.bytes().len();
                    let at = byte + (GROUP_HEADER_BYTES + begin) as u64;
                    let batches = self.journaled.entry(*place).or_default();
                    batches.push_back(BatchPlace::new(segment, at, batch));
                }
                Entry::TopicDeleted { id } => {
                    self.marks.retain(|place, _| place.topic != *id);
                    self.journaled.retain(|place, _| place.topic != *id);
                }
                _ => {}
            }
        }
        self.position.byte += group::padded(header.size()) as u64;
        self.position.group += 1;
        Ok(())
    }

    /// Goes on to the segment that begins with the next group.
    fn next_segment(&mut self, layout: &Layout) -> Result<()> {
        let Position { segment, byte, group } = self.position;
        let next = open_segment(layout, segment + 1)?;
        if next.first_group != group {
            return Err(Error::corrupt(format!(
                "journal is damaged: restore the file from a copy. file={}, byte={byte}, group={group}",
                self.segment.path.display()
            )));
        }
        self.segment = next;
        self.position = Position { segment: segment + 1, byte: SEGMENT_HEADER_BYTES, group };
        // Once per segment, so that it does not remember more places than the journal holds batches.
        self.adopt(read_checkpoint(layout)?);
        Ok(())
    }

    /// Takes over how far files were written at a newer checkpoint; `false` when that is ahead of what it knows.
    pub(super) fn refresh(&mut self, layout: &Layout) -> Result<bool> {
        let checkpoint = read_checkpoint(layout)?;
        let known = checkpoint.position.group <= self.position.group;
        self.adopt(checkpoint);
        Ok(known)
    }

    fn adopt(&mut self, checkpoint: Checkpoint) {
        let Position { group, .. } = checkpoint.position;
        if group <= self.checkpoint.group || group > self.position.group {
            return;
        }
        self.checkpoint = checkpoint.position;
        self.marks = checkpoint.partitions.into_iter().map(|mark| (mark.place, mark)).collect();
        let ledger = &self.ledger;
        self.marks.retain(|place, _| ledger.offsets(*place).is_some());
        for (place, mark) in &self.marks {
            let Some(batches) = self.journaled.get_mut(place) else { continue };
            while batches.front().is_some_and(|batch| batch.next <= mark.end) {
                batches.pop_front();
            }
        }
        self.journaled.retain(|_, batches| !batches.is_empty());
    }

    /// Where a read from `from` finds its batches, and the end as of now.
    pub(super) fn source(
        &self,
        partition: &TopicPartition,
        from: Offset,
        bytes_max: usize,
    ) -> Result<(Place, Source, Offset)> {
        let place = self.ledger.place(partition)?;
        let offsets = self.ledger.offsets(place).ok_or_else(|| ledger::unknown_partition(partition))?;
        ledger::check_range(partition, from, offsets)?;
        let source = if from == offsets.end {
            Source::Nothing
        } else {
            self.find(place, from, bytes_max).ok_or_else(|| {
                Error::corrupt(format!(
                    "checkpoint does not name the files of a partition. partition={partition}, offset={from}"
                ))
            })?
        };
        Ok((place, source, offsets.end))
    }

    fn find(&self, place: Place, from: Offset, bytes_max: usize) -> Option<Source> {
        let batches = self.journaled.get(&place);
        let first = batches.and_then(|batches| batches.front());
        let Some(batches) = batches.filter(|_| first.is_some_and(|first| first.base <= from)) else {
            return self.marks.get(&place).filter(|mark| from < mark.end).map(|mark| Source::Files(*mark));
        };
        let first = batches.partition_point(|batch| batch.next <= from);
        let mut bytes = 0;
        let fits = |batch: &&BatchPlace| {
            let fits = bytes == 0 || bytes + batch.size as usize <= bytes_max;
            bytes += batch.size as usize;
            fits
        };
        Some(Source::Journal(batches.range(first..).take_while(fits).copied().collect()))
    }
}

/// What a search by time has to go through.
#[derive(Debug)]
pub(super) struct Newer {
    pub(super) place: Place,
    pub(super) earliest: Offset,
    /// Files that hold some of it.
    pub(super) files: Option<PartitionMark>,
    /// The first batch in the journal that has such a record.
    pub(super) journaled: Option<BatchPlace>,
}

impl View {
    /// Where records from `from` on are that are not older than `time`.
    pub(super) fn newer(&self, partition: &TopicPartition, from: Offset, time: Timestamp) -> Result<Newer> {
        let place = self.ledger.place(partition)?;
        let PartitionOffsets { earliest, .. } =
            self.ledger.offsets(place).ok_or_else(|| ledger::unknown_partition(partition))?;
        let from = from.max(earliest);
        let files = self.marks.get(&place).filter(|mark| from < mark.end).copied();
        let journaled = self.journaled.get(&place).and_then(|batches| {
            batches.iter().find(|batch| batch.next > from && batch.newest >= time).copied()
        });
        Ok(Newer { place, earliest: from, files, journaled })
    }
}

fn open_segment(layout: &Layout, sequence: u64) -> Result<SegmentFile> {
    SegmentFile::open(layout, sequence)?.ok_or_else(|| scan::missing(layout, sequence))
}

fn read_checkpoint(layout: &Layout) -> Result<Checkpoint> {
    checkpoint::read(layout)?.ok_or_else(|| {
        Error::corrupt(format!(
            "checkpoint is missing: open the log, which begins it if it is new, or restore the file from a copy. file={}",
            layout.checkpoint().display()
        ))
    })
}
