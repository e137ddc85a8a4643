//! One way through the closed segments of a partition: neighbours that fit into one become one.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use futures::{channel::oneshot, executor::block_on};
use headwater_core::{
    Cleaned, Error, Offset, RecordBatch, Result, Timestamp,
    ledger::{CleanPoint, Compaction, KeyMap},
};

use super::{GROWTH_MAX, Job, Swap, Swapped, go_on, swap};
use crate::log::{
    fs::{DataFile, Open, write_error},
    index::{Built, Front},
    layout::{Layout, log_file},
    queue::Request,
    reader::Wanted,
    shared::Shared,
    span::{FileSpan, Segment},
};

/// Read and written at once.
const IO_BYTES: usize = 1 << 20;
/// Positions in an index are signed in Kafka, and offsets relative to the segment's first too.
const SEGMENT_MAX: u64 = i32::MAX as u64;

pub(super) struct Pass<'a> {
    shared: &'a Shared,
    job: &'a Job,
    files: Arc<FileSpan>,
    stop: &'a AtomicBool,
    batch_bytes_largest: usize,
}

impl<'a> Pass<'a> {
    pub(super) fn new(shared: &'a Shared, job: &'a Job, files: Arc<FileSpan>, stop: &'a AtomicBool) -> Self {
        let batch_bytes_largest = shared.visible().batch_bytes_largest;
        Self { shared, job, files, stop, batch_bytes_largest }
    }

    /// Compacts all segments that begin before what the map of the keys in `dirty` reaches; says how far it came. `None`
    /// when segments went away meanwhile.
    pub(super) fn run(
        &self,
        dirty: Range<Offset>,
        now: Timestamp,
        compacted: &mut Cleaned,
    ) -> Result<Option<CleanPoint>> {
        let Some(front) = self.files.segments.first().map(|segment| segment.base) else { return Ok(None) };
        let mut keys = KeyMap::new(&dirty, self.shared.options.cleaner_bytes_max);
        if !self.visit(dirty.start.max(front)..dirty.end, &mut |batch| keys.add(batch))? {
            return Ok(None);
        }
        let reached = |segment: &Segment| segment.base < keys.reach() && segment.base < self.job.active;
        let count = self.files.segments.partition_point(reached);
        let mut compaction = Compaction::new(keys, front, &self.job.config, now);
        let mut first = 0;
        while first < count {
            let group = first..self.group_end(first, count);
            first = group.end;
            if !self.compact(group, &mut compaction, compacted)? {
                return Ok(None);
            }
        }
        Ok(Some(compaction.clean_point()))
    }

    /// The end of the group that begins with segment `first`: as many as fit into one segment, as they are now.
    fn group_end(&self, first: usize, count: usize) -> usize {
        let bytes_max = self.job.config.segment_bytes.min(SEGMENT_MAX);
        let base = self.files.segments.get(first).map_or(Offset(0), |segment| segment.base);
        let mut bytes = 0;
        let fits = |(index, segment): &(usize, &Segment)| {
            bytes += segment.length;
            bytes <= bytes_max && self.files.end_of(*index).0 - base.0 <= SEGMENT_MAX
        };
        let segments = self.files.segments.iter().enumerate().take(count).skip(first);
        first + segments.take_while(fits).count().max(1)
    }

    /// Writes what is left of a group of segments, and puts it in their place; `false` when they went away meanwhile.
    fn compact(
        &self,
        group: Range<usize>,
        compaction: &mut Compaction,
        compacted: &mut Cleaned,
    ) -> Result<bool> {
        let replaced = self.files.segments.get(group.clone()).unwrap_or_default();
        let base = compaction.next();
        let bytes: u64 = replaced.iter().map(|segment| segment.length).sum();
        let limit = self.batch_bytes_largest.saturating_mul(GROWTH_MAX);
        let mut room = Room { batch: limit, segment: SEGMENT_MAX.saturating_sub(bytes) };
        let mut file = NewSegment::create(&self.shared.layout, &self.files.folder, base, self.stop)?;
        let (mut left, mut changed) = (Vec::new(), replaced.len() > 1);
        for (index, segment) in group.clone().zip(replaced) {
            let end = self.files.end_of(index);
            let there = self.visit(segment.base..end, &mut |batch| {
                changed |= compaction.push(batch, room.of(batch), &mut left)?;
                room.took(batch, &left);
                file.put_all(&mut left, limit).map(|()| true)
            })?;
            if !there {
                return Ok(false);
            }
            // No batch lies across what was the end of a segment: a reader from outside that still sees the segment behind
            // it finds that all fits together.
            compaction.cover(end, &mut left)?;
            file.put_all(&mut left, limit)?;
        }
        if !changed {
            // Those of a whole partition would take its room once more.
            file.discard()?;
            compacted.compacted_bytes += bytes;
            compacted.kept_bytes += bytes;
            return Ok(true);
        }
        let by = file.finish()?;
        let next = compaction.next();
        let place = self.job.place;
        let swapped = swap::commit(self.shared, place, &(base..next))?
            && self.ask(&Swap { place, replaced: replaced.to_vec(), by, next })?;
        if swapped {
            compacted.compacted_bytes += bytes;
            compacted.kept_bytes += by.length;
        }
        swap::tidy(self.shared, place).map(|()| swapped)
    }

    /// Has the journal thread do it; `false` when the old segments went away meanwhile.
    fn ask(&self, swap: &Swap) -> Result<bool> {
        loop {
            go_on(self.stop)?;
            let (to, answer) = oneshot::channel();
            if !self.shared.queue.push_now(Request::Swap(swap.clone(), to)) {
                return Err(self.shared.stopped());
            }
            match block_on(answer).unwrap_or_else(|oneshot::Canceled| Err(self.shared.stopped()))? {
                Swapped::Done => return Ok(true),
                Swapped::Gone => return Ok(false),
                Swapped::Busy => self.shared.reader.wait_for_repair(),
            }
        }
    }

    /// Shows the batches of some offsets to `each`, until it has seen enough; `false` when a segment went away meanwhile.
    fn visit(
        &self,
        offsets: Range<Offset>,
        each: &mut dyn FnMut(&RecordBatch) -> Result<bool>,
    ) -> Result<bool> {
        let mut next = offsets.start;
        while next < offsets.end {
            go_on(self.stop)?;
            let wanted = Wanted {
                partition: &self.job.partition,
                from: next,
                bytes_max: IO_BYTES,
                batch_bytes_largest: self.batch_bytes_largest,
            };
            let batches = match self.shared.reader.read(&self.files, &wanted) {
                // What was deleted is not damaged.
                Err(_) if !self.is_there(next) => return Ok(false),
                batches => batches?,
            };
            for batch in batches {
                next = batch.next_offset();
                if !each(&batch)? {
                    return Ok(true);
                }
            }
        }
        Ok(true)
    }

    /// Whether the segment that held `offset` is still there. Others may have been replaced, by this pass too.
    fn is_there(&self, offset: Offset) -> bool {
        let segment = |files: &FileSpan| {
            let segment = files.find(offset).and_then(|index| files.segments.get(index))?;
            Some((segment.base, segment.length))
        };
        let now = self.shared.visible().files(self.job.place);
        now.is_some_and(|now| segment(&now) == segment(&self.files))
    }
}

/// What batches may grow by when their tombstones get the time when they may go. Without that they do not grow: whatever was
/// written has room.
struct Room {
    /// Bytes of a batch.
    batch: usize,
    /// Bytes that the new segment may have more than those that it replaces.
    segment: u64,
}

impl Room {
    /// How large this batch may be.
    fn of(&self, batch: &RecordBatch) -> usize {
        let segment = usize::try_from(self.segment).unwrap_or(usize::MAX);
        self.batch.min(batch.bytes().len().saturating_add(segment))
    }

    /// Takes note of what became of it.
    fn took(&mut self, batch: &RecordBatch, left: &[RecordBatch]) {
        let size: usize = left.iter().map(|batch| batch.bytes().len()).sum();
        self.segment = self.segment.saturating_sub(size.saturating_sub(batch.bytes().len()) as u64);
    }
}

/// A segment that is to take the place of others.
struct NewSegment<'a> {
    layout: &'a Layout,
    folder: &'a Path,
    stop: &'a AtomicBool,
    base: Offset,
    path: PathBuf,
    file: Arc<dyn DataFile>,
    gathered: Vec<u8>,
    written: u64,
    indexes: Built,
}

impl<'a> NewSegment<'a> {
    fn create(layout: &'a Layout, folder: &'a Path, base: Offset, stop: &'a AtomicBool) -> Result<Self> {
        let path = swap::new_file(&log_file(folder, base));
        let file = layout.fs.open(&path, Open::Truncate);
        let file =
            file.map_err(|e| write_error(format_args!("cannot begin segment. file={}", path.display()), e))?;
        let (gathered, indexes) = (Vec::new(), Built::default());
        Ok(Self { layout, folder, stop, base, path, file, gathered, written: 0, indexes })
    }

    /// Writes `batches`, none of which is left.
    fn put_all(&mut self, batches: &mut Vec<RecordBatch>, bytes_max: usize) -> Result<()> {
        for batch in batches.drain(..) {
            let bytes = batch.bytes();
            let byte = self.written + self.gathered.len() as u64;
            let length = byte + bytes.len() as u64;
            let fits = bytes.len() <= bytes_max && length <= SEGMENT_MAX;
            let mut noted = || self.indexes.note(self.base, &Front::read(bytes)?, byte);
            if !fits || noted().is_none() {
                return Err(Error::invalid(format!(
                    "compaction would make it too large. batch={batch:?}, file={}, bytes={length}",
                    self.path.display()
                )));
            }
            self.gathered.extend_from_slice(bytes);
            if self.gathered.len() >= IO_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let written = self.file.write_all_at(&self.gathered, self.written);
        written.map_err(|e| self.failed(e))?;
        self.written += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    /// Puts it on disk. Nobody waits for its indexes: they can be made again.
    ///
    /// # Errors
    /// `Closed` before anything that takes long when the log is being closed.
    fn finish(mut self) -> Result<Segment> {
        self.flush()?;
        go_on(self.stop)?;
        self.file.sync_data().map_err(|e| self.failed(e))?;
        let Built { offsets, mut times, mut time_tail, .. } = std::mem::take(&mut self.indexes);
        time_tail.push(&mut times);
        for (path, entries) in swap::new_indexes(self.folder, self.base).iter().zip([offsets, times]) {
            go_on(self.stop)?;
            self.layout.fs.write(path, &entries).map_err(|e| self.failed(e))?;
        }
        let newest = time_tail.newest(self.base).map(|newest| newest.timestamp);
        Ok(Segment { base: self.base, length: self.written, newest })
    }

    /// Nobody needs it.
    fn discard(self) -> Result<()> {
        swap::remove(self.layout, &self.path)
    }

    fn failed(&self, error: std::io::Error) -> Error {
        write_error(format_args!("cannot write segment. file={}", self.path.display()), error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use headwater_core::{BatchBuilder, ErrorKind, Headers, ProducerStamp, TopicConfig};

    use super::*;
    use crate::log::fs::RealFs;

    fn tombstones(keys: Range<u32>) -> RecordBatch {
        let mut builder = BatchBuilder::default();
        let base = Offset(keys.start.into());
        for key in keys {
            builder.push(Timestamp(0), Some(&key.to_be_bytes()), None, &Headers::new());
        }
        builder.finish(ProducerStamp::NONE).at_offset(base)
    }

    /// Whoever closes the log does not wait until it is on disk.
    #[test]
    fn a_new_segment_is_not_finished_when_the_log_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), Arc::new(RealFs));
        let [index, _] = swap::new_indexes(folder.path(), Offset(0));
        for closed in [true, false] {
            let stop = AtomicBool::new(false);
            let mut segment = NewSegment::create(&layout, folder.path(), Offset(0), &stop).unwrap();
            segment.put_all(&mut vec![tombstones(0..3)], usize::MAX).unwrap();
            stop.store(closed, Ordering::Relaxed);
            let finished = segment.finish();
            assert_eq!(finished.err().map(|error| error.kind()), closed.then_some(ErrorKind::Closed));
            assert_eq!(index.exists(), !closed);
        }
    }

    /// A segment without room for all the times of its tombstones gets those that fit, and no more.
    #[test]
    fn no_segment_outgrows_its_room() {
        let batches: Vec<_> = (0..10).map(|number| tombstones(number * 20..number * 20 + 20)).collect();
        let size = |batches: &[RecordBatch]| batches.iter().map(|batch| batch.bytes().len()).sum::<usize>();
        let before = size(&batches);
        for (batch_max, more, stamped) in
            [(usize::MAX, usize::MAX, 10), (usize::MAX, 500, 3), (usize::MAX, 0, 0), (0, usize::MAX, 0)]
        {
            let mut keys = KeyMap::new(&(Offset(0)..Offset(200)), usize::MAX);
            assert!(batches.iter().all(|batch| keys.add(batch).unwrap()));
            let config = TopicConfig { delete_retention_ms: 0, ..TopicConfig::default() };
            let mut compaction = Compaction::new(keys, Offset(0), &config, Timestamp(i64::MAX / 2));
            let mut room = Room { batch: batch_max, segment: more as u64 };
            let (mut left, mut all) = (Vec::new(), Vec::new());
            for batch in &batches {
                compaction.push(batch, room.of(batch), &mut left).unwrap();
                room.took(batch, &left);
                all.append(&mut left);
            }
            assert!(size(&all) <= before.saturating_add(more));
            let times = all.iter().filter(|batch| batch.delete_horizon().is_some()).count();
            assert_eq!((all.len(), times), (10, stamped), "{batch_max}, {more}");
        }
    }
}
