//! The writing end of a partition's files, in Kafka's layout: written lazily from batches that are in the journal already, or, where
//! much comes at once, before the journal says that they are there (`filed`).

use std::{
    io::{self, IoSlice},
    mem,
    path::{Path, PathBuf},
};

use headwater_core::{
    Error, Offset, PartitionOffsets, RecordBatch, Result, Timestamp, TopicConfig, ledger::Place,
};

use super::{
    checkpoint::PartitionMark,
    files::WriteFiles,
    fs::{DataFile, write_error},
    index::IndexTail,
    layout::{index_file, log_file, segment_files, time_index_file},
    span::Segment,
    timeindex::{Newest, TimeTail},
};

/// So many batches are written at once, from where they are.
const PIECES_MAX: usize = 1024;

/// For a write of so many bytes, room is kept on the disk before it, and for some that follow: a file system that finds room for one block after
/// the other takes a quarter longer.
const KEPT_WRITE_MIN: u64 = 128 << 10;
/// For so many writes as large, and so many bytes at most that are not written yet.
const KEPT_WRITES: u64 = 4;
const KEPT_MAX: u64 = 8 << 20;

/// The writing end of a partition's files.
#[derive(Debug)]
pub(super) struct PartitionWriter {
    folder: PathBuf,
    rolling: Rolling,
    active: Option<Active>,
    unwritten: Vec<RecordBatch>,
    unwritten_bytes: usize,
    /// Batches before this offset are in files already.
    pub(super) filed_until: Offset,
}

/// When a new segment is begun (Kafka: `LogSegment.shouldRoll`).
#[derive(Debug, Clone, Copy)]
struct Rolling {
    bytes: u64,
    ms: i64,
}

impl Rolling {
    fn of(config: &TopicConfig) -> Self {
        // Positions in an index are u32, and signed in Kafka.
        let bytes = config.segment_bytes.clamp(1, i32::MAX as u64);
        Self { bytes, ms: i64::try_from(config.segment_ms).unwrap_or(i64::MAX) }
    }
}

/// The segment that is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Active {
    pub(super) base: Offset,
    pub(super) length: u64,
    /// Up to where room is kept for it on the disk; 0 when none is.
    pub(super) kept: u64,
    /// The highest timestamp of its first batch: `segment.ms` counts from there.
    pub(super) first: Timestamp,
    pub(super) index: IndexTail,
    pub(super) times: TimeTail,
}

/// What was written at some moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    active: Option<Active>,
    filed_until: Offset,
    next: Offset,
}

impl PartitionWriter {
    pub(super) fn new(folder: PathBuf, config: &TopicConfig, active: Option<Active>) -> Self {
        let (rolling, unwritten) = (Rolling::of(config), Vec::new());
        Self { folder, rolling, active, unwritten, unwritten_bytes: 0, filed_until: Offset(0) }
    }

    /// The topic has other settings now.
    pub(super) fn alter(&mut self, config: &TopicConfig) {
        self.rolling = Rolling::of(config);
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the segment begins that is written; `None` when there is none.
    pub(super) fn active(&self) -> Option<Offset> {
        self.active.map(|active| active.base)
    }

    /// A batch that is in the journal, to be written some time, unless it was filed. How many bytes wait to be written.
    pub(super) fn push(&mut self, batch: RecordBatch) -> usize {
        if batch.next_offset() <= self.filed_until {
            return self.unwritten_bytes;
        }
        self.unwritten_bytes += batch.bytes().len();
        self.unwritten.push(batch);
        self.unwritten_bytes
    }

    /// Writes batches before they are in the journal; what waits must have been written. Says how far the files go then, and
    /// which segments were written to.
    ///
    /// # Errors
    /// Nothing has changed for those who go by what it says, but files may hold more: [`PartitionWriter::take_back`].
    pub(super) fn file(&mut self, files: &mut WriteFiles, batches: Vec<RecordBatch>) -> Result<Vec<Segment>> {
        assert!(self.unwritten.is_empty(), "batches lie in files in their order");
        let end = batches.last().map(RecordBatch::next_offset);
        for batch in batches {
            self.push(batch);
        }
        let mut written = Vec::new();
        let (_, result) = self.write_out(files, &mut written);
        result.map(|()| {
            self.filed_until = end.unwrap_or(self.filed_until);
            written
        })
    }

    /// Where it stands before the batch at `next` is filed, for [`PartitionWriter::take_back`].
    pub(super) fn standing(&self, next: Offset) -> Standing {
        Standing { active: self.active, filed_until: self.filed_until, next }
    }

    /// Takes back what was filed since, or half filed.
    ///
    /// # Errors
    /// Files hold more than they should: the log must stop.
    pub(super) fn take_back(&mut self, files: &mut WriteFiles, to: Standing) -> Result<()> {
        self.unwritten.clear();
        self.unwritten_bytes = 0;
        let Standing { active, filed_until, next } = to;
        let active = active.map(|active| Active { kept: 0, ..active });
        (self.active, self.filed_until) = (active, filed_until);
        for base in files.layout.numbered(&self.folder, "log")?.into_iter().map(Offset) {
            if base >= next {
                segment_files(&self.folder, base).iter().for_each(|path| files.forget(path));
                files.layout.remove_segment(&self.folder, base)?;
                files.removed_from(&self.folder);
            }
        }
        let Some(Active { base, length, index, times, .. }) = active else { return Ok(()) };
        for (path, length) in [
            (log_file(&self.folder, base), length),
            (index_file(&self.folder, base), index.bytes),
            (time_index_file(&self.folder, base), times.bytes),
        ] {
            let cut = files.open(&path)?.set_len(length);
            cut.map_err(|e| Error::io(format!("cannot cut segment. file={}", path.display()), e))?;
        }
        Ok(())
    }

    /// Gives back the room on the disk that is kept for what may never come.
    ///
    /// # Errors
    /// It is kept until the segment is deleted.
    pub(super) fn give_room_back(&mut self, files: &mut WriteFiles) -> Result<()> {
        let Some(active) = &mut self.active else { return Ok(()) };
        give_back(&self.folder, files, active)
    }

    /// Whether the batch at `base` waits to be written.
    pub(super) fn is_waiting(&self, base: Offset) -> bool {
        self.unwritten.first().is_some_and(|first| first.base_offset() <= base)
    }

    /// How many bytes wait to be written.
    pub(super) fn unwritten_bytes(&self) -> usize {
        self.unwritten_bytes
    }

    /// Records before `before` are gone, and with them the segments `gone`.
    pub(super) fn delete(&mut self, before: Offset, gone: &[Segment]) {
        self.active = self.active.filter(|active| gone.iter().all(|segment| segment.base != active.base));
        if self.active.is_none() {
            let unneeded = self.unwritten.partition_point(|batch| batch.next_offset() <= before);
            self.forget(unneeded);
        }
    }

    /// Lets the first batches go that waited to be written; gives the offset behind them.
    fn forget(&mut self, count: usize) -> Option<Offset> {
        let gone = self.unwritten.drain(..count);
        gone.fold(None, |_, batch| {
            self.unwritten_bytes -= batch.bytes().len();
            Some(batch.next_offset())
        })
    }

    /// Where it stands; everything pushed must have been written. `None` when nothing was ever written.
    pub(super) fn mark(&self, place: Place, offsets: PartitionOffsets) -> Option<PartitionMark> {
        assert!(self.unwritten.is_empty(), "a checkpoint comes after everything was written");
        let PartitionOffsets { earliest, end } = offsets;
        let none = PartitionMark {
            place,
            earliest,
            end,
            active: end,
            length: 0,
            first: Timestamp(0),
            newest: Newest { timestamp: Timestamp(0), offset: end },
        };
        match self.active {
            Some(Active { base, length, first, times, .. }) => {
                let newest = times.newest(base).expect("an active segment holds a batch");
                Some(PartitionMark { active: base, length, first, newest, ..none })
            }
            None => (end > Offset(0)).then_some(none),
        }
    }

    /// Writes everything that was pushed, and adds the segments that were written to; returns the offset after the last
    /// record that was, if any was. What an error keeps from being written is written the next time, to the same place.
    pub(super) fn write_out(
        &mut self,
        files: &mut WriteFiles,
        written: &mut Vec<Segment>,
    ) -> (Option<Offset>, Result<()>) {
        let mut done = 0;
        let result = loop {
            match self.unwritten.get(done..) {
                None | Some([]) => break Ok(()),
                Some(rest) => match self.write_to_one(files, rest) {
                    Ok((active, count)) => {
                        written.retain(|segment| segment.base != active.base);
                        let newest = active.times.newest(active.base).map(|newest| newest.timestamp);
                        written.push(Segment { base: active.base, length: active.length, newest });
                        self.active = Some(active);
                        done += count;
                    }
                    Err(error) => break Err(error),
                },
            }
        };
        (self.forget(done), result)
    }

    /// Writes those at the front of `batches` that go to one segment; returns the segment and their number.
    fn write_to_one(&self, files: &mut WriteFiles, batches: &[RecordBatch]) -> Result<(Active, usize)> {
        let first = batches.first().expect("there is something to write");
        let mut active = match self.active {
            Some(active) if !self.is_full(&active, first) => active,
            full => {
                self.close(files, full)?;
                self.roll(files, first)?
            }
        };
        let full =
            |(batch, after): (&RecordBatch, u64)| self.is_full(&Active { length: after, ..active }, batch);
        let mut after = active.length;
        let lengths = batches.iter().map(|batch| {
            let before = after;
            after += batch.bytes().len() as u64;
            (batch, before)
        });
        let count = lengths.skip(1).position(full).map_or(batches.len(), |fitting| fitting + 1);
        self.write_run(files, &mut active, &batches[..count])?;
        Ok((active, count))
    }

    fn is_full(&self, active: &Active, next: &RecordBatch) -> bool {
        let relative = next.next_offset().0 - active.base.0;
        let waited = next.max_timestamp().0.saturating_sub(active.first.0);
        active.length > 0
            && (active.length + next.bytes().len() as u64 > self.rolling.bytes
                || relative > i32::MAX as u64
                // As in Kafka: a segment whose first records have no time goes by size only.
                || (active.first.0 >= 0 && waited > self.rolling.ms))
    }

    /// Writes the last entry of the time index of a segment that gets no more records.
    fn close(&self, files: &mut WriteFiles, active: Option<Active>) -> Result<()> {
        let Some(mut active) = active else { return Ok(()) };
        give_back(&self.folder, files, &mut active)?;
        let mut entries = Vec::new();
        active.times.push(&mut entries);
        if entries.is_empty() {
            return Ok(());
        }
        let path = time_index_file(&self.folder, active.base);
        write_at(&*files.open(&path)?, &entries, active.times.bytes, &path)
    }

    fn roll(&self, files: &mut WriteFiles, first: &RecordBatch) -> Result<Active> {
        let base = first.base_offset();
        files.create_folder(&self.folder)?;
        for path in segment_files(&self.folder, base) {
            files.create(&path)?;
        }
        let (index, times) = (IndexTail::default(), TimeTail::default());
        Ok(Active { base, length: 0, kept: 0, first: first.max_timestamp(), index, times })
    }

    /// Has the disk keep room for batches that are about to be written, if they are much.
    fn keep_room(&self, file: &dyn DataFile, active: &mut Active, batches: &[RecordBatch]) {
        let size: u64 = batches.iter().map(|batch| batch.bytes().len() as u64).sum();
        let end = active.length + size;
        if size < KEPT_WRITE_MIN || end <= active.kept {
            return;
        }
        let more = (size * (KEPT_WRITES - 1)).min(KEPT_MAX).min(self.rolling.bytes.saturating_sub(end));
        let from = active.length.max(active.kept);
        // Without it, writing finds the room, or says that there is none.
        let kept = file.keep_room(from, end + more - from);
        if kept.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Unsupported) {
            return;
        }
        active.kept = end + more;
        // A full disk may have kept all that was left, which is more than is needed here, and others need it.
        if kept.is_err() && file.set_len(active.length).is_ok() {
            active.kept = 0;
        }
    }

    fn write_run(&self, files: &mut WriteFiles, active: &mut Active, batches: &[RecordBatch]) -> Result<()> {
        let path = log_file(&self.folder, active.base);
        let file = files.open(&path)?;
        self.keep_room(&*file, active, batches);
        let (mut entries, mut times) = (Vec::new(), Vec::new());
        let mut pieces = Vec::with_capacity(batches.len().min(PIECES_MAX));
        let mut at = active.length;
        for batch in batches {
            let size = batch.bytes().len() as u64;
            let last = u32::try_from(batch.next_offset().0 - 1 - active.base.0)
                .expect("segments are rolled before that");
            let byte = u32::try_from(active.length)
                .expect("segments are rolled before that, and batches are smaller");
            active.times.note(batch.max_timestamp(), last);
            if active.index.push(&mut entries, last, byte, size) {
                active.times.push(&mut times);
            }
            active.length += size;
            pieces.push(IoSlice::new(batch.bytes()));
            if pieces.len() == PIECES_MAX {
                write_pieces_at(&*file, &mut pieces, at, &path)?;
                at = active.length;
                pieces.clear();
            }
        }
        write_pieces_at(&*file, &mut pieces, at, &path)?;
        let indexes = [
            (index_file(&self.folder, active.base), entries, &mut active.index.bytes),
            (time_index_file(&self.folder, active.base), times, &mut active.times.bytes),
        ];
        for (path, entries, bytes) in indexes {
            if !entries.is_empty() {
                write_at(&*files.open(&path)?, &entries, *bytes, &path)?;
                *bytes += entries.len() as u64;
            }
        }
        Ok(())
    }
}

/// Gives back what is kept behind the end of a segment.
fn give_back(folder: &Path, files: &mut WriteFiles, active: &mut Active) -> Result<()> {
    if mem::take(&mut active.kept) <= active.length {
        return Ok(());
    }
    let path = log_file(folder, active.base);
    let cut = files.open(&path)?.set_len(active.length);
    cut.map_err(|e| write_error(format_args!("cannot cut segment. file={}", path.display()), e))
}

fn write_pieces_at(file: &dyn DataFile, pieces: &mut [IoSlice<'_>], at: u64, path: &Path) -> Result<()> {
    let written = file.write_all_pieces_at(pieces, at);
    written.map_err(|e| write_error(place(at, path), e))
}

fn write_at(file: &dyn DataFile, bytes: &[u8], at: u64, path: &Path) -> Result<()> {
    let written = file.write_all_at(bytes, at);
    written.map_err(|e| write_error(place(at, path), e))
}

fn place(at: u64, path: &Path) -> String {
    format!("cannot write segment. file={}, byte={at}", path.display())
}
