//! The files of a partition: written lazily, in Kafka's layout, from the batches that are in the journal already.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use headwater_core::{Error, Offset, PartitionOffsets, RecordBatch, Result, TopicSpec, ledger::Place};

use super::{
    checkpoint::PartitionMark,
    files::WriteFiles,
    fs::DataFile,
    index::IndexTail,
    layout::{index_file, log_file},
};

/// Small batches are gathered up to this much, so that each is not a write of its own.
const GATHER_BYTES: usize = 1 << 20;
/// Batches of at least this size are written as they are, without a copy.
const OWN_WRITE_BYTES: usize = 32 << 10;

/// A segment as readers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// Offset of its first record.
    pub(super) base: Offset,
    /// Good bytes in its file.
    pub(super) length: u64,
}

/// What of a partition is in files. Never changes: there is a new one after each write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileSpan {
    pub(super) folder: PathBuf,
    /// In order; none when nothing was written.
    pub(super) segments: Vec<Segment>,
    /// The offset after the last record in them.
    pub(super) end: Offset,
}

impl FileSpan {
    /// Takes note of segments that were written or begun.
    pub(super) fn extend(&mut self, written: &[Segment], end: Offset) {
        for segment in written {
            match self.segments.last_mut() {
                Some(last) if last.base == segment.base => *last = *segment,
                _ => self.segments.push(*segment),
            }
        }
        self.end = end;
    }
}

/// The writing end of a partition's files.
#[derive(Debug)]
pub(super) struct PartitionWriter {
    folder: PathBuf,
    segment_bytes: u64,
    active: Option<Active>,
    unwritten: Vec<RecordBatch>,
}

/// The segment that is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Active {
    pub(super) base: Offset,
    pub(super) length: u64,
    pub(super) index: IndexTail,
}

impl PartitionWriter {
    pub(super) fn new(folder: PathBuf, topic: &TopicSpec, active: Option<Active>) -> Self {
        // Positions in an index are u32, and signed in Kafka.
        let segment_bytes = topic.config.segment_bytes.clamp(1, i32::MAX as u64);
        Self { folder, segment_bytes, active, unwritten: Vec::new() }
    }

    /// A batch that is in the journal, to be written some time.
    pub(super) fn push(&mut self, batch: RecordBatch) {
        self.unwritten.push(batch);
    }

    /// Where it stands; everything pushed must have been written. `None` when it has no files.
    pub(super) fn mark(&self, place: Place, offsets: PartitionOffsets) -> Option<PartitionMark> {
        assert!(self.unwritten.is_empty(), "a checkpoint comes after everything was written");
        let PartitionOffsets { earliest, end } = offsets;
        self.active.map(|active| PartitionMark {
            place,
            earliest,
            end,
            active: active.base,
            length: active.length,
        })
    }

    /// Writes everything that was pushed; returns the segments that were written to, and the offset after the last
    /// record. Nothing when there was nothing to write.
    pub(super) fn write_out(&mut self, files: &mut WriteFiles) -> Result<Option<(Vec<Segment>, Offset)>> {
        let Some(end) = self.unwritten.last().map(RecordBatch::next_offset) else { return Ok(None) };
        let mut written: Vec<Segment> = Vec::new();
        let batches = std::mem::take(&mut self.unwritten);
        let mut rest = batches.as_slice();
        while let Some(first) = rest.first() {
            let mut active = match self.active {
                Some(active) if !self.is_full(&active, first) => active,
                _ => self.roll(files, first.base_offset())?,
            };
            let full = |(batch, after): (&RecordBatch, u64)| {
                self.is_full(&Active { length: after, ..active }, batch)
            };
            let mut after = active.length;
            let lengths = rest.iter().map(|batch| {
                let before = after;
                after += batch.bytes().len() as u64;
                (batch, before)
            });
            let count = lengths.skip(1).position(full).map_or(rest.len(), |fitting| fitting + 1);
            let (now, later) = rest.split_at(count);
            self.write_run(files, &mut active, now)?;
            written.retain(|segment| segment.base != active.base);
            written.push(Segment { base: active.base, length: active.length });
            self.active = Some(active);
            rest = later;
        }
        Ok(Some((written, end)))
    }

    fn is_full(&self, active: &Active, next: &RecordBatch) -> bool {
        let relative = next.next_offset().0 - active.base.0;
        active.length > 0
            && (active.length + next.bytes().len() as u64 > self.segment_bytes || relative > i32::MAX as u64)
    }

    fn roll(&self, files: &mut WriteFiles, base: Offset) -> Result<Active> {
        files.create(&log_file(&self.folder, base))?;
        files.create(&index_file(&self.folder, base))?;
        Ok(Active { base, length: 0, index: IndexTail::default() })
    }

    fn write_run(&self, files: &mut WriteFiles, active: &mut Active, batches: &[RecordBatch]) -> Result<()> {
        let path = log_file(&self.folder, active.base);
        let file = files.open(&path)?;
        let mut entries = Vec::new();
        let mut gathered = Vec::new();
        let mut at = active.length;
        for batch in batches {
            let size = batch.bytes().len() as u64;
            let last = u32::try_from(batch.next_offset().0 - 1 - active.base.0)
                .expect("segments are rolled before that");
            let byte = u32::try_from(active.length)
                .expect("segments are rolled before that, and batches are smaller");
            active.index.push(&mut entries, last, byte, size);
            let large = batch.bytes().len() >= OWN_WRITE_BYTES;
            if !large {
                gathered.extend_from_slice(batch.bytes());
            }
            if large || gathered.len() >= GATHER_BYTES {
                write_at(&*file, &gathered, at, &path)?;
                at += gathered.len() as u64;
                gathered.clear();
            }
            if large {
                write_at(&*file, batch.bytes(), at, &path)?;
                at += size;
            }
            active.length += size;
        }
        write_at(&*file, &gathered, at, &path)?;
        if !entries.is_empty() {
            let path = index_file(&self.folder, active.base);
            write_at(&*files.open(&path)?, &entries, active.index.bytes, &path)?;
            active.index.bytes += entries.len() as u64;
        }
        Ok(())
    }
}

fn write_at(file: &dyn DataFile, bytes: &[u8], at: u64, path: &Path) -> Result<()> {
    let written = file.write_all_at(bytes, at);
    written.map_err(|e| Error::io(format!("cannot write segment. file={}, byte={at}", path.display()), e))
}

/// Brings the files of a partition back to what they were at the checkpoint; what came later is in the journal.
///
/// # Errors
/// `Corrupt` when something is missing.
pub(super) fn cut_back(
    folder: &Path,
    mark: Option<&PartitionMark>,
    files: &mut WriteFiles,
) -> Result<FileSpan> {
    let mut segments = Vec::new();
    for base in files.layout.numbered(folder, "log")?.into_iter().map(Offset) {
        let path = log_file(folder, base);
        let failed = |e| Error::io(format!("cannot cut segment. file={}", path.display()), e);
        let Some(mark) = mark.filter(|mark| base <= mark.active) else {
            files.layout.remove_file(&path)?;
            // An index without its segment is of no use, and need not be there.
            let _ = files.layout.fs.remove_file(&index_file(folder, base));
            files.removed_from(folder);
            continue;
        };
        let mut length = files.layout.fs.size(&path).map_err(failed)?;
        if base == mark.active {
            if length < mark.length {
                return Err(Error::corrupt(format!(
                    "segment is shorter than it was at the checkpoint: restore it from a copy. file={}, bytes={length}, checkpoint={}",
                    path.display(),
                    mark.length
                )));
            }
            if length > mark.length {
                let file = files.open(&path)?;
                file.set_len(mark.length).map_err(failed)?;
                length = mark.length;
            }
        }
        segments.push(Segment { base, length });
    }
    if let Some(mark) = mark {
        let complete = segments.first().is_some_and(|first| first.base == Offset(0))
            && segments.last().is_some_and(|last| last.base == mark.active);
        if !complete {
            return Err(Error::corrupt(format!(
                "segment is missing: restore it from a copy. folder={}, first={:?}, active={}",
                folder.display(),
                segments.first().map(|first| first.base),
                mark.active
            )));
        }
    }
    Ok(FileSpan { folder: folder.to_owned(), segments, end: mark.map_or(Offset(0), |mark| mark.end) })
}

/// For sharing with readers.
pub(super) fn empty_span(folder: PathBuf) -> Arc<FileSpan> {
    Arc::new(FileSpan { folder, segments: Vec::new(), end: Offset(0) })
}
