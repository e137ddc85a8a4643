//! What stands in a segment file, batch by batch, whatever the rest of the log says of it.
//!
//! Needs no lock and no log around the file: it is for whoever looks into one, as with Kafka's `DumpLogSegments`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use headwater_core::{BATCH_HEADER_BYTES, Error, Offset, RecordBatch, Result, TopicPartition, batch_size};

use super::{
    BYTES_MAX,
    fs::{DataFile, FileSystem, Open, RealFs},
    layout::{Layout, log_file},
};

/// Read at once.
const READ_BYTES: u64 = 1 << 20;

/// A batch as it stands in a file.
#[derive(Debug)]
pub struct DumpedBatch {
    /// Where it begins.
    pub byte: u64,
    /// Bytes of it.
    pub size: u64,
    /// The offset that it begins with, by its header, which no checksum covers.
    pub base: Offset,
    /// The batch, or what is wrong with it.
    pub batch: Result<RecordBatch>,
}

/// The batches of a segment file in their order.
///
/// A batch that is damaged is passed over by the length in its header. Where no batch can be, that is the last item: an
/// error with the byte.
///
/// ```
/// use headwater_core::{BatchBuilder, Headers, ProducerStamp, Timestamp};
/// use headwater_storage::log::SegmentDump;
/// # let folder = tempfile::tempdir().unwrap();
/// let mut builder = BatchBuilder::default();
/// builder.push(Timestamp(5), Some(b"key"), Some(b"value"), &Headers::new());
/// let mut bytes = builder.finish(ProducerStamp::NONE).bytes().to_vec();
/// let size = bytes.len() as u64;
/// bytes.extend_from_slice(b"not a batch");
/// let file = folder.path().join("00000000000000000000.log");
/// std::fs::write(&file, bytes).unwrap();
///
/// let mut dump = SegmentDump::open(&file).unwrap();
/// let first = dump.next().unwrap().unwrap();
/// assert_eq!((first.byte, first.size, first.batch.unwrap().record_count()), (0, size, 1));
/// assert!(dump.next().unwrap().is_err());
/// assert!(dump.next().is_none());
/// ```
#[derive(Debug)]
pub struct SegmentDump {
    file: Arc<dyn DataFile>,
    path: PathBuf,
    length: u64,
    byte: u64,
    /// What was read of the file, from `byte` on.
    chunk: Bytes,
    ended: bool,
}

impl SegmentDump {
    /// Opens the file at `path`, as long as it is now.
    ///
    /// # Errors
    /// `Invalid` when there is no such file, `Unavailable` when it cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::open_on(&RealFs, path, u64::MAX).map_err(|error| {
            let text = format!("cannot open segment. file={}", path.display());
            match error.kind() {
                io::ErrorKind::NotFound => Error::invalid(text).with_source(error),
                _ => Error::io(text, error),
            }
        })
    }

    /// The first `length_max` bytes of a file.
    pub(super) fn open_on(fs: &dyn FileSystem, path: &Path, length_max: u64) -> io::Result<Self> {
        let file = fs.open(path, Open::Read)?;
        let length = file.len()?.min(length_max);
        Ok(Self { file, path: path.to_owned(), length, byte: 0, chunk: Bytes::new(), ended: false })
    }

    /// Bytes of the file.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    fn batch(&mut self) -> Result<DumpedBatch> {
        self.want(BATCH_HEADER_BYTES as u64)?;
        let size = batch_size(&self.chunk)?.unwrap_or(usize::MAX);
        let left = self.length - self.byte;
        if size as u64 > left || size > BYTES_MAX {
            return Err(Error::corrupt(format!("there is less than a batch. bytes={left}")));
        }
        self.want(size as u64)?;
        let mut bytes = self.chunk.split_to(size);
        let base = bytes.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        let taken = RecordBatch::take(&mut bytes);
        let batch = taken.and_then(|batch| batch.ok_or_else(|| Error::corrupt("there is less than a batch")));
        let byte = self.byte;
        self.byte += size as u64;
        Ok(DumpedBatch { byte, size: size as u64, base: Offset(base), batch })
    }

    /// Sees to it that so many bytes are here, if the file has them.
    fn want(&mut self, count: u64) -> Result<()> {
        let left = self.length - self.byte;
        if self.chunk.len() as u64 >= count.min(left) {
            return Ok(());
        }
        let size = READ_BYTES.max(count).min(left);
        let mut bytes =
            vec![0; usize::try_from(size).map_err(|e| Error::corrupt("batch is too large").with_source(e))?];
        self.file.read_exact_at(&mut bytes, self.byte).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => Error::corrupt("the file has become shorter"),
            _ => Error::io("cannot read segment", e),
        })?;
        self.chunk = bytes.into();
        Ok(())
    }
}

/// The segment files of a partition of the log in `folder`, in order; none when nothing of it is in files.
///
/// # Errors
/// `Unavailable` when they cannot be listed.
pub fn segment_files(folder: impl AsRef<Path>, partition: &TopicPartition) -> Result<Vec<PathBuf>> {
    let layout = Layout::new(folder.as_ref(), Arc::new(RealFs));
    let folder = layout.partition(partition);
    let bases = layout.numbered(&folder, "log")?;
    Ok(bases.into_iter().map(|base| log_file(&folder, Offset(base))).collect())
}

impl Iterator for SegmentDump {
    type Item = Result<DumpedBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended || self.byte >= self.length {
            return None;
        }
        let batch = self.batch().map_err(|error| {
            self.ended = true;
            error.context(format!("file={}, byte={}", self.path.display(), self.byte))
        });
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use headwater_core::{BatchBuilder, Headers, ProducerStamp, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn segment(sizes: &[usize]) -> Vec<u8> {
        let (mut bytes, mut base) = (Vec::new(), Offset(7));
        for size in sizes {
            let mut builder = BatchBuilder::default();
            builder.push(Timestamp(5), None, Some(&vec![b'x'; *size]), &Headers::new());
            let batch = builder.finish(ProducerStamp::NONE).at_offset(base);
            base = batch.next_offset();
            bytes.extend_from_slice(batch.bytes());
        }
        bytes
    }

    fn dump(bytes: &[u8]) -> Vec<Result<DumpedBatch>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("segment.log");
        std::fs::write(&path, bytes).unwrap();
        SegmentDump::open(&path).unwrap().collect()
    }

    #[test]
    fn batches_of_all_sizes_come_in_their_order() {
        let sizes = [0, 1, 100, READ_BYTES as usize - 70, READ_BYTES as usize, 3 * READ_BYTES as usize, 5];
        let dumped = dump(&segment(&sizes));
        assert_eq!(dumped.len(), sizes.len());
        let mut byte = 0;
        for (number, batch) in dumped.into_iter().enumerate() {
            let batch = batch.unwrap();
            assert_eq!((batch.byte, batch.base), (byte, Offset(7 + number as u64)));
            assert_eq!(batch.batch.unwrap().bytes().len() as u64, batch.size);
            byte += batch.size;
        }
        assert!(dump(&[]).is_empty());
    }

    #[test]
    fn a_damaged_batch_is_passed_over() {
        let mut bytes = segment(&[10, 20, 30]);
        let second = segment(&[10]).len();
        bytes[second + 70] ^= 1;
        let dumped: Vec<_> = dump(&bytes).into_iter().map(Result::unwrap).collect();
        assert_eq!(dumped.iter().map(|batch| batch.batch.is_ok()).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!((dumped[1].byte, dumped[1].base), (second as u64, Offset(8)));
    }

    #[test]
    fn a_file_that_ends_too_early_says_where() {
        let bytes = segment(&[10, 20]);
        let second = segment(&[10]).len();
        for cut in second + 1..bytes.len() {
            let mut dumped = dump(&bytes[..cut]);
            assert_eq!(dumped.len(), 2, "{cut}");
            let error = dumped.pop().unwrap().unwrap_err().to_string();
            assert!(error.contains(&format!("byte={second}: there is less than a batch")), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_the_callers_mistake() {
        let error = SegmentDump::open("/not/there.log").unwrap_err();
        assert_eq!(error.kind(), headwater_core::ErrorKind::Invalid);
    }

    proptest! {
        #[test]
        fn whatever_stands_in_a_file_it_ends(
            garbage in proptest::collection::vec(any::<u8>(), 0..300),
            damage in proptest::collection::vec((0..400usize, any::<u8>()), 0..4),
        ) {
            let mut bytes = segment(&[10, 20, 30]);
            bytes.extend_from_slice(&garbage);
            for (at, byte) in damage {
                if let Some(there) = bytes.get_mut(at) {
                    *there = byte;
                }
            }
            let dumped = dump(&bytes);
            let size: u64 = dumped.iter().flatten().map(|batch| batch.size).sum();
            prop_assert!(size <= bytes.len() as u64);
            prop_assert!(size == bytes.len() as u64 || dumped.last().is_some_and(Result::is_err));
        }
    }
}
