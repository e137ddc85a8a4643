//! Reads batches from the files of a partition, and notices when they are not what was written.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use headwater_core::{Error, ErrorKind, Offset, RecordBatch, Result, TopicPartition, batch_size};

use super::{
    files::ReadFiles,
    fs::{DataFile, FileSystem},
    index::{Found, Indexed},
    layout::{index_file, log_file},
    partition::{FileSpan, Segment},
};

/// Smallest and largest read: less costs a call for a few batches, more keeps memory for little.
const READ_BYTES: std::ops::RangeInclusive<usize> = (64 << 10)..=(4 << 20);

/// Reads what is in files.
#[derive(Debug)]
pub(super) struct Reader {
    fs: Arc<dyn FileSystem>,
    files: ReadFiles,
    /// Held while an index is made again.
    repair: Mutex<()>,
}

/// What to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) partition: &'a TopicPartition,
    pub(super) from: Offset,
    pub(super) bytes_max: usize,
    /// No batch is larger: a length that says so is damaged.
    pub(super) batch_bytes_largest: usize,
}

impl Reader {
    pub(super) fn new(fs: Arc<dyn FileSystem>, files_max: usize) -> Self {
        Self { files: ReadFiles::new(Arc::clone(&fs), files_max), fs, repair: Mutex::new(()) }
    }

    /// Whole batches from the one that holds `wanted.from` on, of one segment.
    ///
    /// # Errors
    /// `Corrupt` with topic, partition, offset, file and byte.
    pub(super) fn read(&self, span: &FileSpan, wanted: &Wanted<'_>) -> Result<Vec<RecordBatch>> {
        let after = span.segments.partition_point(|segment| segment.base <= wanted.from);
        let segment = after.checked_sub(1).and_then(|index| span.segments.get(index));
        let Some(segment) = segment.filter(|_| wanted.from < span.end) else {
            return Err(Error::corrupt(format!(
                "no segment holds the offset: restore the partition's folder from a copy. partition={}, offset={}, folder={}",
                wanted.partition,
                wanted.from,
                span.folder.display()
            )));
        };
        let end = span.segments.get(after).map_or(span.end, |next| next.base);
        let path = log_file(&span.folder, segment.base);
        let place = |e: Error| damage(e, wanted, &path);
        let log = self.files.open(&path).map_err(|e| place(unreadable(&e, "cannot open segment")))?;
        let start = self
            .find(span, segment, &*log, wanted.from)
            .map_err(|e| place(unreadable(&e, "cannot read index")))?;
        Walk { log: &*log, segment, end, wanted, at: start }.run().map_err(place)
    }

    /// Where to begin. The index only helps: without it, at the front of the segment.
    fn find(
        &self,
        span: &FileSpan,
        segment: &Segment,
        log: &dyn DataFile,
        from: Offset,
    ) -> io::Result<Found> {
        let path = index_file(&span.folder, segment.base);
        let indexed = Indexed { log, base: segment.base, length: segment.length };
        if let Some(found) = self.look_up(&indexed, &path, from)? {
            return Ok(found);
        }
        let front = Found { base: segment.base, byte: 0 };
        // The index of the segment that is written belongs to its writer.
        if span.segments.last() == Some(segment) {
            return Ok(front);
        }
        let _one_at_a_time = self.repair.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.look_up(&indexed, &path, from)? {
            return Ok(found);
        }
        tracing::info!(file = %path.display(), "index is missing or wrong: made again");
        let (entries, _) = indexed.build()?;
        let new = path.with_extension("new");
        if self.fs.write(&new, &entries).is_ok() && self.fs.rename(&new, &path).is_ok() {
            self.files.forget(&path);
            return Ok(self.look_up(&indexed, &path, from)?.unwrap_or(front));
        }
        Ok(front)
    }

    /// `None` when the index is missing or wrong.
    fn look_up(&self, indexed: &Indexed<'_>, path: &Path, from: Offset) -> io::Result<Option<Found>> {
        let index = match self.files.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            index => index?,
        };
        match indexed.find(&*index, from) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            found => found,
        }
    }
}

/// One way through a segment: from batch to batch, each of which must follow the one before.
struct Walk<'a> {
    log: &'a dyn DataFile,
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
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(size).min(size)];
        self.log
            .read_exact_at(&mut bytes, self.at.byte)
            .map_err(|e| unreadable(&e, "cannot read segment"))?;
        Ok(Bytes::from(bytes))
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
        self.at = Found { base: batch.next_offset(), byte: self.at.byte + batch.bytes().len() as u64 };
        Ok(Some(batch))
    }

    fn batch_size(&self, chunk: &Bytes) -> Result<usize> {
        let left = self.segment.length - self.at.byte;
        match batch_size(chunk)? {
            Some(size) if size as u64 <= left && size <= self.wanted.batch_bytes_largest => Ok(size),
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
