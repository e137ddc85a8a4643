//! What an observer knows: a checkpoint, and the journal from there to what was published.
//!
//! Records are not kept, only where they are. All of it is what was true at one point of the journal.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use headwater_core::{
    BatchHeader, Error, ErrorKind, Offset, PartitionOffsets, Result, Timestamp, TopicPartition,
    ledger::{self, Entry, Ledger, Place},
};

use super::{
    super::{
        behind,
        checkpoint::{self, Checkpoint, PartitionMark},
        fs::DataFile,
        journal::{Position, SEGMENT_HEADER_BYTES, SegmentFile},
        layout::Layout,
        scan,
    },
    groups::{BatchPlace, Change, Window},
};

/// Where a read finds its batches.
#[derive(Debug)]
pub(super) enum Source {
    Nothing,
    /// Not in files yet, or not known to be.
    Journal(Journaled),
    /// In files, which are good up to here.
    Files(PartitionMark),
}

/// Batches that the journal holds.
#[derive(Debug)]
pub(super) struct Journaled {
    pub(super) batches: Vec<BatchPlace>,
    /// The journal file that is open, and its number: mostly they are in it.
    pub(super) open: (u64, Arc<dyn DataFile>),
}

/// Topics, offsets, positions, and where the records are.
#[derive(Debug)]
pub(super) struct View {
    pub(super) ledger: Ledger,
    /// How far files were written at the newest checkpoint that it knows, or later, and where that checkpoint stands.
    marks: HashMap<Place, PartitionMark>,
    checkpoint: Position,
    /// Batches behind that which the journal has.
    journaled: HashMap<Place, VecDeque<BatchPlace>>,
    /// Behind the last group that it knows.
    pub(super) position: Position,
    segment: Arc<SegmentFile>,
    window: Window,
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
            window: Window::default(),
            published: None,
        })
    }

    /// Behind the last group of which a later one says that it is on disk.
    pub(super) fn vouched(&self, layout: &Layout) -> Result<Position> {
        let scan = scan::scan(layout, self.position, &mut |_, _| Ok(true))?;
        Ok(Position { group: scan.durable.max(self.position.group), ..scan.end })
    }

    /// Behind the last good group there is.
    pub(super) fn last_good(layout: &Layout) -> Result<Position> {
        behind::journal_end(layout, &read_checkpoint(layout)?)
    }

    /// Learns all groups before `target`.
    ///
    /// # Errors
    /// It knows a part of a group then, and is of no use any more.
    pub(super) fn advance(&mut self, layout: &Layout, target: Position) -> Result<()> {
        while self.position.group < target.group {
            let here = target.segment == self.position.segment;
            self.window.begin(if here { target.byte } else { u64::MAX });
            let before = self.position.group;
            while self.position.group < target.group && self.next_group()? {}
            if self.position.group == before {
                self.next_segment(layout)?;
            }
        }
        Ok(())
    }

    /// Learns the next group; `false` when there is none in this file.
    fn next_group(&mut self) -> Result<bool> {
        let at = self.position;
        let mut window = std::mem::take(&mut self.window);
        let segment = Arc::clone(&self.segment);
        let read = window.group(&segment, at, &mut |change| self.change(change));
        self.window = window;
        let bytes = read.map_err(|e| match e.kind() {
            ErrorKind::Unavailable => e,
            _ => e.context(format!("journal. file={}, byte={}", segment.path.display(), at.byte)),
        })?;
        let Some(bytes) = bytes else { return Ok(false) };
        self.position = Position { byte: at.byte + bytes, group: at.group + 1, ..at };
        Ok(true)
    }

    fn change(&mut self, change: Change) -> Result<()> {
        match change {
            Change::Batch(place, batch) => {
                follow(&mut self.ledger, place, &batch.header)?;
                self.journaled.entry(place).or_default().push_back(batch);
            }
            Change::Filed(place, header) => {
                follow(&mut self.ledger, place, &header)?;
            }
            Change::Files(mark) => self.take_mark(mark),
            Change::Other(entry) => {
                self.ledger.apply(&entry)?;
                if let Entry::TopicDeleted { id } = entry {
                    self.marks.retain(|place, _| place.topic != id);
                    self.journaled.retain(|place, _| place.topic != id);
                }
            }
        }
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
        checkpoint.partitions.into_iter().for_each(|mark| self.take_mark(mark));
        let ledger = &self.ledger;
        self.marks.retain(|place, _| ledger.offsets(*place).is_some());
        self.journaled.retain(|_, batches| !batches.is_empty());
    }

    /// All batches of a partition up to there are in files; a mark that was taken behind a checkpoint may be ahead of one of it.
    fn take_mark(&mut self, mark: PartitionMark) {
        let known = self.marks.entry(mark.place).or_insert(mark);
        if known.end <= mark.end {
            *known = mark;
        }
        let end = known.end;
        let Some(batches) = self.journaled.get_mut(&mark.place) else { return };
        while batches.front().is_some_and(|batch| batch.next() <= end) {
            batches.pop_front();
        }
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

    /// What the batches of a partition take that end behind `from` and are not known to be in files.
    pub(super) fn journaled_bytes(&self, place: Place, from: Offset) -> u64 {
        let batches = self.journaled.get(&place).into_iter().flatten();
        batches.filter(|batch| batch.next() > from).map(|batch| batch.size() as u64).sum()
    }

    fn find(&self, place: Place, from: Offset, bytes_max: usize) -> Option<Source> {
        let batches = self.journaled.get(&place);
        let first = batches.and_then(|batches| batches.front());
        let Some(batches) = batches.filter(|_| first.is_some_and(|first| first.base() <= from)) else {
            return self.marks.get(&place).filter(|mark| from < mark.end).map(|mark| Source::Files(*mark));
        };
        let first = batches.partition_point(|batch| batch.next() <= from);
        let mut bytes = 0;
        let fits = |batch: &&BatchPlace| {
            let fits = bytes == 0 || bytes + batch.size() <= bytes_max;
            bytes += batch.size();
            fits
        };
        let batches = batches.range(first..).take_while(fits).copied().collect();
        Some(Source::Journal(self.in_journal(batches)))
    }

    fn in_journal(&self, batches: Vec<BatchPlace>) -> Journaled {
        Journaled { batches, open: (self.position.segment, Arc::clone(&self.segment.file)) }
    }
}

/// Moves the end of a partition behind a batch.
fn follow(ledger: &mut Ledger, place: Place, header: &BatchHeader) -> Result<()> {
    let (base, next) = (header.base_offset(), header.next_offset());
    let offsets = ledger.offsets(place).filter(|offsets| offsets.end == base);
    let offsets = offsets.ok_or_else(|| {
        Error::corrupt(format!(
            "batch does not follow the end of its partition. topic_id={}, partition={}, offset={}",
            place.topic.0, place.partition, base
        ))
    })?;
    ledger.restore_batch_bytes_largest(header.size());
    ledger.restore_offsets(place, PartitionOffsets { end: next, ..offsets })
}

/// What a search by time has to go through.
#[derive(Debug)]
pub(super) struct Newer {
    pub(super) place: Place,
    pub(super) earliest: Offset,
    /// Files that hold some of it.
    pub(super) files: Option<PartitionMark>,
    /// The first batch in the journal that has such a record: only that one.
    pub(super) journaled: Option<Journaled>,
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
            let newer = |batch: &&BatchPlace| batch.next() > from && batch.newest() >= time;
            Some(self.in_journal(vec![*batches.iter().find(newer)?]))
        });
        Ok(Newer { place, earliest: from, files, journaled })
    }
}

fn open_segment(layout: &Layout, sequence: u64) -> Result<Arc<SegmentFile>> {
    SegmentFile::open(layout, sequence)?.map(Arc::new).ok_or_else(|| scan::missing(layout, sequence))
}

fn read_checkpoint(layout: &Layout) -> Result<Checkpoint> {
    checkpoint::read(layout)?.ok_or_else(|| {
        Error::corrupt(format!(
            "checkpoint is missing: open the log, which begins it if it is new, or restore the file from a copy. file={}",
            layout.checkpoint().display()
        ))
    })
}
