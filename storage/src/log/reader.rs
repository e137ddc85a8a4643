//! Reads batches from the files of a partition, and notices when they are not what was written.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, TryLockError},
};

use bytes::Bytes;
use headwater_core::{
    Error, ErrorKind, Offset, RecordBatch, Result, TimedOffset, Timestamp, TopicPartition, batch_size,
    ledger::{self, TopicId},
};

use super::{
    chunks::Chunks,
    compaction::GROWTH_MAX,
    files::ReadFiles,
    fs::{DataFile, FileSystem, Open},
    index::{Built, Found, Indexed},
    layout::{index_file, log_file, segment_files, time_index_file},
    span::{FileSpan, Segment},
    timeindex::Indexes,
};

/// Smallest and largest read: less costs a call for a few batches, more keeps memory for little.
const READ_BYTES: std::ops::RangeInclusive<usize> = (64 << 10)..=(4 << 20);

/// Reads what is in files.
#[derive(Debug)]
pub(super) struct Reader {
    fs: Arc<dyn FileSystem>,
    files: ReadFiles,
    chunks: Chunks,
    /// Held while an index is made again. `None`: none is.
    repair: Option<Mutex<()>>,
}

/// What to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) partition: &'a TopicPartition,
    pub(super) from: Offset,
    pub(super) bytes_max: usize,
    /// No batch that was appended is larger, and none is much larger: a length that says so is damaged.
    pub(super) batch_bytes_largest: usize,
}

impl Reader {
    pub(super) fn new(fs: Arc<dyn FileSystem>, files_max: usize) -> Self {
        let (files, chunks) = (ReadFiles::new(Arc::clone(&fs), files_max), Chunks::default());
        Self { files, chunks, fs, repair: Some(Mutex::new(())) }
    }

    /// For those who do not own the files: it writes nothing, and keeps no file open, because others may take its name.
    pub(super) fn of_others(fs: Arc<dyn FileSystem>) -> Self {
        let (files, chunks) = (ReadFiles::new(Arc::clone(&fs), 0), Chunks::default());
        Self { files, chunks, fs, repair: None }
    }

    /// Memory for what is read.
    pub(super) fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// Closes the files of a segment that is gone, or was replaced.
    pub(super) fn forget(&self, topic: TopicId, folder: &Path, base: Offset) {
        for path in segment_files(folder, base) {
            self.files.forget(topic, &path);
        }
    }

    /// Replaces files while nobody makes indexes again; `None` when somebody does now, which may take long.
    pub(super) fn replace<T>(&self, replace: impl FnOnce() -> T) -> Option<T> {
        let _nobody = match self.repair.as_ref().map(Mutex::try_lock) {
            Some(Err(TryLockError::WouldBlock)) => return None,
            Some(Err(TryLockError::Poisoned(poisoned))) => Some(poisoned.into_inner()),
            Some(Ok(nobody)) => Some(nobody),
            None => None,
        };
        Some(replace())
    }

    /// Waits until an index that is made again has been made.
    pub(super) fn wait_for_repair(&self) {
        let repair = self.repair.as_ref();
        drop(repair.map(|repair| repair.lock().unwrap_or_else(PoisonError::into_inner)));
    }

    /// Closes the files that somebody read from who did not know yet that they went away, or were replaced.
    pub(super) fn forget_span(&self, span: &FileSpan) {
        self.files.forget_edition(span.edition(), &span.folder);
    }

    /// Closes all files of a topic that is gone.
    pub(super) fn forget_topic(&self, topic: TopicId) {
        self.files.forget_topic(topic);
    }

    /// Whole batches from the one that holds `wanted.from` on, of one segment.
    ///
    /// # Errors
    /// `Corrupt` with topic, partition, offset, file and byte.
    pub(super) fn read(&self, span: &FileSpan, wanted: &Wanted<'_>) -> Result<Vec<RecordBatch>> {
        let found = span.find(wanted.from).and_then(|index| Some((index, span.segments.get(index)?)));
        let Some((index, segment)) = found else {
            return Err(Error::corrupt(format!(
                "no segment holds the offset: restore the partition's folder from a copy. partition={}, offset={}, folder={}",
                wanted.partition,
                wanted.from,
                span.folder.display()
            )));
        };
        let path = log_file(&span.folder, segment.base);
        let place = |e: Error| damage(e, wanted, &path);
        let log = self
            .files
            .open(span.edition(), &path)
            .map_err(|e| place(unreadable(&e, "cannot open segment")))?;
        let mut at = Found { base: segment.base, byte: 0 };
        // Whoever reads a segment from its front needs no index.
        if wanted.from > segment.base {
            let indexed = Indexed { log: &*log, base: segment.base, length: segment.length };
            let found = self.look_up(span, &indexed, |indexes| indexed.find(indexes.offsets, wanted.from));
            at = found.map_err(|e| place(unreadable(&e, "cannot read index")))?.unwrap_or(at);
        }
        Walk { log: &*log, chunks: &self.chunks, segment, end: span.end_of(index), wanted, at }
            .run()
            .map_err(place)
    }

    /// The first record from `wanted.from` on that is not older than `time`.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub(super) fn first_at(
        &self,
        span: &FileSpan,
        wanted: &Wanted<'_>,
        time: Timestamp,
    ) -> Result<Option<TimedOffset>> {
        let first = span.find(wanted.from).unwrap_or(span.segments.len());
        for (index, segment) in span.segments.iter().enumerate().skip(first) {
            if segment.newest.is_some_and(|newest| newest < time) {
                continue;
            }
            let mut next = self.all_older(span, segment, wanted, time)?.max(wanted.from);
            while next < span.end_of(index) {
                for batch in self.read(span, &Wanted { from: next, ..*wanted })? {
                    next = batch.next_offset();
                    let found = (batch.max_timestamp() >= time)
                        .then(|| ledger::first_at(&batch, time, wanted.from))
                        .transpose()
                        .map_err(|e| damage(e, wanted, &log_file(&span.folder, segment.base)))?;
                    if let Some(found) = found.flatten() {
                        return Ok(Some(found));
                    }
                }
            }
        }
        Ok(None)
    }

    /// An offset of a segment before which all records are older than `time`.
    fn all_older(
        &self,
        span: &FileSpan,
        segment: &Segment,
        wanted: &Wanted<'_>,
        time: Timestamp,
    ) -> Result<Offset> {
        let path = log_file(&span.folder, segment.base);
        let failed = |e: io::Error| damage(unreadable(&e, "cannot read segment"), wanted, &path);
        let log = self.files.open(span.edition(), &path).map_err(failed)?;
        let indexed = Indexed { log: &*log, base: segment.base, length: segment.length };
        let found = self.look_up(span, &indexed, |indexes| indexed.all_older(indexes, time));
        Ok(found.map_err(failed)?.unwrap_or(segment.base))
    }

    /// The highest timestamp of a segment; `None` when it is damaged.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn newest(&self, span: &FileSpan, segment: &Segment) -> io::Result<Option<Timestamp>> {
        let log = self.files.open(span.edition(), &log_file(&span.folder, segment.base))?;
        let indexed = Indexed { log: &*log, base: segment.base, length: segment.length };
        match self.look_up(span, &indexed, |indexes| indexed.newest(Some(indexes)))? {
            None => indexed.newest(None),
            newest => Ok(newest),
        }
    }

    /// What `find` finds with the help of a segment's indexes, which are made again when they are missing or wrong;
    /// `None` when it must do without: indexes only help.
    fn look_up<T>(
        &self,
        span: &FileSpan,
        indexed: &Indexed<'_>,
        find: impl Fn(Indexes<'_>) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        let look = || match self.indexes(span, indexed.base) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => {
                let (offsets, times) = opened?;
                match find(Indexes { offsets: &*offsets, times: &*times }) {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
                    found => found,
                }
            }
        };
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        // The indexes of the segment that is written belong to its writer.
        let is_written = span.segments.last().is_some_and(|last| last.base == indexed.base);
        let Some(repair) = self.repair.as_ref().filter(|_| !is_written) else { return Ok(None) };
        let _one_at_a_time = repair.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        self.repair(span, indexed)?;
        look()
    }

    fn indexes(&self, span: &FileSpan, base: Offset) -> io::Result<(Arc<dyn DataFile>, Arc<dyn DataFile>)> {
        let offsets = self.files.open(span.edition(), &index_file(&span.folder, base))?;
        Ok((offsets, self.files.open(span.edition(), &time_index_file(&span.folder, base))?))
    }

    /// Makes the indexes of a closed segment again, unless it was replaced. Where that fails, it works without.
    fn repair(&self, span: &FileSpan, indexed: &Indexed<'_>) -> io::Result<()> {
        let log = self.fs.open(&log_file(&span.folder, indexed.base), Open::Read)?;
        if log.len()? != indexed.length {
            return Ok(());
        }
        let indexed = &Indexed { log: &*log, ..*indexed };
        let paths = [index_file(&span.folder, indexed.base), time_index_file(&span.folder, indexed.base)];
        tracing::info!(file = %paths[0].display(), "an index is missing or wrong: made again");
        let Built { offsets, mut times, mut time_tail, .. } = indexed.build()?;
        time_tail.push(&mut times);
        for (path, entries) in paths.into_iter().zip([offsets, times]) {
            let new = path.with_extension("new");
            if self.fs.write(&new, &entries).is_ok() && self.fs.rename(&new, &path).is_ok() {
                self.files.forget(span.topic, &path);
            } else {
                // A full disk does not want half of it.
                let _ = self.fs.remove_file(&new);
            }
        }
        Ok(())
    }
}

/// One way through a segment: from batch to batch, each of which must follow the one before.
struct Walk<'a> {
    log: &'a dyn DataFile,
    chunks: &'a Chunks,
    segment: &'a Segment,
    /// Offset after the segment's last record.
    end: Offset,
    wanted: &'a Wanted<'a>,
    /// The next batch.
    at: Found,
}

impl Walk<'_> {
    fn run(mut self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        let mut bytes = 0;
        let mut size = self.wanted.bytes_max.clamp(*READ_BYTES.start(), *READ_BYTES.end());
        loop {
            let mut chunk = self.chunk(size)?;
            let before = self.at.byte;
            loop {
                let batch = match self.next_batch(&mut chunk) {
                    Ok(Some(batch)) => batch,
                    Ok(None) => break,
                    // What is good is returned; whoever goes on from there meets the damage.
                    Err(_) if !batches.is_empty() => return Ok(batches),
                    Err(error) => return Err(error),
                };
                if batch.next_offset() <= self.wanted.from {
                    continue;
                }
                bytes += batch.bytes().len();
                if !batches.is_empty() && bytes > self.wanted.bytes_max {
                    return Ok(batches);
                }
                batches.push(batch);
            }
            if !batches.is_empty() {
                return Ok(batches);
            }
            // Not there yet: go on, with a larger read when the next batch is larger than this one was.
            if self.at.byte == before {
                size = self.batch_size(&chunk)?;
            }
        }
    }

    fn chunk(&self, size: usize) -> Result<Bytes> {
        let left = self.segment.length - self.at.byte;
        if left == 0 || self.at.base >= self.end {
            return Err(Error::corrupt(format!(
                "segment ends before its last record. ends_at={}, expected={}",
                self.at.base, self.end
            )));
        }
        let mut bytes = self.chunks.take(usize::try_from(left).unwrap_or(size).min(size));
        self.log
            .read_exact_at(&mut bytes, self.at.byte)
            .map_err(|e| unreadable(&e, "cannot read segment"))?;
        Ok(self.chunks.lend(bytes))
    }

    /// The next batch in `chunk`, checked; `None` when it does not hold all of one.
    fn next_batch(&mut self, chunk: &mut Bytes) -> Result<Option<RecordBatch>> {
        if batch_size(chunk)?.is_none_or(|size| size > chunk.len()) {
            return Ok(None);
        }
        let Some(batch) = RecordBatch::take(chunk)? else { return Ok(None) };
        if batch.base_offset() != self.at.base || batch.next_offset() > self.end {
            return Err(Error::corrupt(format!(
                "batch has an offset that does not follow. expected={}, found={batch:?}, segment_end={}",
                self.at.base, self.end
            )));
        }
        // With the offset, all that the checksum does not cover.
        if batch.leader_epoch() != 0 {
            let epoch = batch.leader_epoch();
            return Err(Error::corrupt(format!(
                "batch has the epoch of another leader. epoch={epoch}, expected=0"
            )));
        }
        self.at = Found { base: batch.next_offset(), byte: self.at.byte + batch.bytes().len() as u64 };
        Ok(Some(batch))
    }

    fn batch_size(&self, chunk: &Bytes) -> Result<usize> {
        let left = self.segment.length - self.at.byte;
        match batch_size(chunk)? {
            Some(size)
                if size as u64 <= left
                    && size <= self.wanted.batch_bytes_largest.saturating_mul(GROWTH_MAX) =>
            {
                Ok(size)
            }
            size => Err(Error::corrupt(format!(
                "batch is larger than what is left of its segment, or than any that was written. bytes={size:?}, left={left}, largest={}",
                self.wanted.batch_bytes_largest
            ))),
        }
    }
}

/// A missing file or a short read is damage; other errors may go away.
fn unreadable(error: &io::Error, what: &str) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::corrupt(format!("{what}: the file is missing")),
        io::ErrorKind::UnexpectedEof => Error::corrupt(format!("{what}: it is shorter than it was")),
        kind => Error::io(what, io::Error::new(kind, error.to_string())),
    }
}

/// Adds the place. What cannot be read of what we wrote is damage, whatever the reader of batches calls it.
fn damage(error: Error, wanted: &Wanted<'_>, file: &Path) -> Error {
    let place = format!("partition={}, offset={}, file={}", wanted.partition, wanted.from, file.display());
    if error.kind() == ErrorKind::Unavailable {
        return error.context(place);
    }
    Error::corrupt(format!("segment is damaged: restore it from a copy. {place}: {error}"))
}
