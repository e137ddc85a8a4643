//! Walks everything that a log holds and compares it with what it should be; changes nothing.
//!
//! What the log says of a partition is the measure: its files must hold, batch by batch, what the last checkpoint says, and
//! the rest must be readable from the journal, of which fronts only were checked when the log was opened. While another process owns
//! the log, its files may be replaced and removed on the way: damage counts when it is still there after the log has
//! come to rest.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Buf;
use headwater_core::{
    Error, ErrorKind, Log, Offset, PartitionOffsets, RecordBatch, Result, Timestamp, TopicPartition,
    ledger::Place,
};

use super::{
    checkpoint::PartitionMark,
    compaction,
    dump::{DumpedBatch, SegmentDump},
    index,
    layout::{Layout, log_file},
    observer::ObservedLog,
    timeindex,
};

/// Read at once of what is not in files yet.
const READ_BYTES: usize = 1 << 20;
/// So much of a partition's damage is named: whoever reads more is not helped by it.
const DAMAGES_MAX: usize = 100;
/// How often a partition is walked when its owner changes it meanwhile.
const WALKS_MAX: usize = 4;

/// What a walk through a partition found.
#[derive(Debug, Clone, Default)]
pub struct VerifiedPartition {
    /// Segment files.
    pub segments: u64,
    /// Good batches.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// What is not what was written, at most 100 of it.
    pub damages: Vec<Damage>,
}

/// A place that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Whose it is.
    pub partition: TopicPartition,
    /// In which file.
    pub file: PathBuf,
    /// From which byte on.
    pub byte: u64,
    /// The first offset that cannot be read because of it; `None` when all can.
    pub offset: Option<Offset>,
    /// What is wrong.
    pub what: String,
}

/// Walks the partitions of a log, one at a time.
///
/// ```
/// use headwater_core::{Log, TopicSpec};
/// use headwater_storage::log::{EmbeddedLog, ObservedLog, Verifier};
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// # futures::executor::block_on(async {
/// let log = EmbeddedLog::open(folder)?;
/// let topic = TopicSpec::new("readings", 1)?;
/// log.create_topic(&topic).await?;
/// let observed = ObservedLog::open(folder)?;
/// let verifier = Verifier::new(&observed);
/// for partition in topic.topic_partitions() {
///     let found = verifier.partition(&partition, &mut |_bytes, _records| {}).await?;
///     assert!(found.is_some_and(|found| found.damages.is_empty()));
/// }
/// # Ok::<(), headwater_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct Verifier<'a> {
    log: &'a ObservedLog,
}

impl<'a> Verifier<'a> {
    /// Will compare what is in the files of `log` with what it says.
    #[must_use]
    pub fn new(log: &'a ObservedLog) -> Self {
        Self { log }
    }

    /// Reads the journal as whoever opens the log will: what a partition says of its records does not tell of it where files have
    /// them, too.
    ///
    /// # Errors
    /// `Corrupt` when the log does not open, or not with all that is seen of it; `Unavailable` when the disk fails.
    pub async fn journal(&self) -> Result<()> {
        self.log.check_journal().await
    }

    /// How many bytes the files of a partition have, for whoever wants to know how far the work is.
    ///
    /// # Errors
    /// `Unavailable` when they cannot be listed.
    pub fn bytes(&self, partition: &TopicPartition) -> Result<u64> {
        let layout = self.log.layout();
        let folder = layout.partition(partition);
        let (bases, _) = self.segments(&folder)?;
        // One that was removed in the meantime has none.
        let size = |base| layout.fs.size(&log_file(&folder, base)).unwrap_or(0);
        Ok(bases.into_iter().map(size).sum())
    }

    /// Where the segments of a partition begin, and the swaps that somebody was killed in: the first segment of one holds
    /// all of its offsets, and of those that it has taken the place of some may be there still.
    fn segments(&self, folder: &Path) -> Result<(Vec<Offset>, Vec<Range<Offset>>)> {
        let layout = self.log.layout();
        let mut bases: Vec<_> = layout.numbered(folder, "log")?.into_iter().map(Offset).collect();
        let swaps = compaction::begun(layout, folder)?;
        bases.retain(|base| !swaps.iter().any(|range| range.start < *base && *base < range.end));
        Ok((bases, swaps))
    }

    /// Walks a partition; `progress` is told of bytes and records as they are read. `None` when its topic has been
    /// deleted.
    ///
    /// # Errors
    /// `Unavailable` when the disk fails, `Corrupt` when the checkpoint or the journal is damaged.
    pub async fn partition(
        &self,
        partition: &TopicPartition,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Option<VerifiedPartition>> {
        let mut previous: Vec<Damage> = Vec::new();
        let mut walks = 0;
        loop {
            let Some(state) = self.state(partition).await? else { return Ok(None) };
            let mut files = Files::new(self.log.layout(), partition);
            files.walk(&state, progress)?;
            let written = state.mark.map_or(Offset(0), |mark| mark.end);
            self.unwritten(&mut files, written.max(state.offsets.earliest), state.offsets.end).await?;
            let mut found = files.found;
            walks += 1;
            if found.damages.is_empty() || self.state(partition).await?.is_some_and(|now| now.is_like(&state))
            {
                return Ok(Some(found));
            }
            // What is missing may have gone on purpose meanwhile.
            if walks == WALKS_MAX {
                found.damages.retain(|damage| previous.contains(damage));
                return Ok(Some(found));
            }
            previous = found.damages;
        }
    }

    /// `None` when there is no such partition any more.
    async fn state(&self, partition: &TopicPartition) -> Result<Option<State>> {
        let (place, offsets, mark) = match self.log.files(partition).await {
            Err(error) if error.kind() == ErrorKind::Invalid => return Ok(None),
            files => files?,
        };
        let layout = self.log.layout();
        let folder = layout.partition(partition);
        let (bases, swaps) = self.segments(&folder)?;
        let is_closed = |base: &&Offset| mark.is_some_and(|mark| **base < mark.active);
        // One that was removed meanwhile has none.
        let size = |base: &Offset| layout.fs.size(&log_file(&folder, *base)).unwrap_or(0);
        let closed_bytes = bases.iter().filter(is_closed).map(size).collect();
        Ok(Some(State { place, offsets, mark, bases, swaps, closed_bytes }))
    }

    /// Reads what is in no file yet.
    async fn unwritten(&self, files: &mut Files<'_>, from: Offset, end: Offset) -> Result<()> {
        let mut at = from;
        while at < end {
            let fetched = match self.log.read(files.partition, at, READ_BYTES).await {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let (file, offset) = (self.log.layout().journal(), Some(at));
                    let partition = files.partition.clone();
                    files.found.damages.push(Damage {
                        partition,
                        file,
                        byte: 0,
                        offset,
                        what: error.to_string(),
                    });
                    return Ok(());
                }
                // Deleted meanwhile.
                Err(error) if error.kind() == ErrorKind::Invalid => return Ok(()),
                fetched => fetched?,
            };
            let Some(last) = fetched.batches.last() else { return Ok(()) };
            at = last.next_offset();
            for batch in &fetched.batches {
                files.found.batches += 1;
                files.found.records += u64::from(batch.record_count());
                files.found.bytes += batch.bytes().len() as u64;
            }
        }
        Ok(())
    }
}

/// What there should be of a partition.
struct State {
    place: Place,
    offsets: PartitionOffsets,
    mark: Option<PartitionMark>,
    /// Where its segments begin.
    bases: Vec<Offset>,
    /// What compaction was about to replace and did in part.
    swaps: Vec<Range<Offset>>,
    /// How large those are that nothing is written to any more: compaction replaces them by smaller ones of their names.
    closed_bytes: Vec<u64>,
}

impl State {
    /// Whether nothing was removed or replaced between the two.
    fn is_like(&self, other: &Self) -> bool {
        let of = |state: &Self| (state.place, state.offsets.earliest);
        let closed = self.closed_bytes.iter().zip(&other.closed_bytes);
        of(self) == of(other)
            && self.bases == other.bases
            && closed.into_iter().all(|(one, other)| one == other)
    }
}

/// The files of one partition.
struct Files<'a> {
    layout: &'a Layout,
    partition: &'a TopicPartition,
    found: VerifiedPartition,
}

impl<'a> Files<'a> {
    fn new(layout: &'a Layout, partition: &'a TopicPartition) -> Self {
        Self { layout, partition, found: VerifiedPartition::default() }
    }

    /// Walks the segments that hold what the checkpoint says.
    fn walk(
        &mut self,
        State { offsets, mark, bases, swaps, .. }: &State,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<()> {
        let Some(mark) = mark.filter(|mark| mark.length > 0) else { return Ok(()) };
        let folder = self.layout.partition(self.partition);
        let bases: Vec<_> = bases.iter().copied().filter(|base| *base <= mark.active).collect();
        // What lies before the first offset that can be read is on its way to be removed, and need not be there.
        let first = bases.partition_point(|base| *base <= offsets.earliest).saturating_sub(1);
        let bases = bases.get(first..).unwrap_or_default();
        let mut expected = bases.first().copied().unwrap_or(mark.end);
        if expected > offsets.earliest && offsets.earliest < mark.end {
            self.damage(
                &log_file(&folder, offsets.earliest),
                0,
                Some(offsets.earliest),
                "the segment is missing",
            );
        }
        for (number, base) in bases.iter().enumerate() {
            let path = log_file(&folder, *base);
            if *base != expected {
                let what =
                    format!("the segment does not begin where the one before it ends. expected={expected}");
                self.damage(&path, 0, Some(expected.min(*base)), &what);
            }
            let (end, length) = match bases.get(number + 1) {
                Some(next) => (*next, u64::MAX),
                None if *base == mark.active => (mark.end, mark.length),
                None => (mark.active, u64::MAX),
            };
            let is_new = swaps.iter().any(|range| range.start == *base);
            let segment = Segment { base: *base, end, length_max: length, is_new, path };
            expected = self.segment(&segment, progress)?;
        }
        if bases.last().is_some_and(|last| *last != mark.active) {
            self.damage(&log_file(&folder, mark.active), 0, Some(mark.active), "the segment is missing");
        }
        Ok(())
    }

    /// Walks a segment; returns the offset behind it.
    fn segment(&mut self, segment: &Segment, progress: &mut dyn FnMut(u64, u64)) -> Result<Offset> {
        let mut dump = match SegmentDump::open_on(&*self.layout.fs, &segment.path, segment.length_max) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.damage(&segment.path, 0, Some(segment.base), "the segment is missing");
                return Ok(segment.end);
            }
            dump => dump.map_err(|e| unreadable(&segment.path, e))?,
        };
        self.found.segments += 1;
        if !segment.is_closed() && dump.length() < segment.length_max {
            let what = format!("the segment is shorter than it was. bytes={}", segment.length_max);
            self.damage(&segment.path, dump.length(), None, &what);
        }
        let mut places = Index::read(self.layout, segment, "index", index::ENTRY_BYTES)?;
        let mut times = Index::read(self.layout, segment, "timeindex", timeindex::ENTRY_BYTES)?;
        let damages = self.found.damages.len();
        let mut expected = segment.base;
        let mut byte = 0;
        for dumped in &mut dump {
            let dumped = match dumped {
                Ok(dumped) => dumped,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    self.damage(&segment.path, byte, Some(expected), &error.to_string());
                    // No batch can be found behind it.
                    return Ok(segment.end);
                }
                Err(error) => return Err(error),
            };
            byte = dumped.byte + dumped.size;
            let (next, records) = self.batch(segment, &dumped, expected);
            places.check_places(&dumped, next);
            times.check_times(&dumped, next);
            expected = next;
            progress(dumped.size, records);
        }
        if expected < segment.end {
            let what = format!(
                "the segment ends too early, or the one behind it is missing. expected={}",
                segment.end
            );
            self.damage(&segment.path, byte, Some(expected), &what);
        }
        for index in [places, times] {
            // What damage makes of an index is no damage of its own.
            let counts = self.found.damages.len() == damages && !segment.is_new;
            if let Some(at) = index.wrong(segment).filter(|_| counts) {
                let what = "the index does not agree with its segment: remove the file, and it is made again";
                self.damage(&index.path, at, None, what);
            }
        }
        Ok(segment.end)
    }

    /// Checks a batch; returns the offset behind it, and how many records it has.
    fn batch(&mut self, segment: &Segment, dumped: &DumpedBatch, expected: Offset) -> (Offset, u64) {
        let batch = match &dumped.batch {
            Ok(batch) => batch,
            Err(error) => {
                self.damage(&segment.path, dumped.byte, Some(expected), &error.to_string());
                return (expected, 0);
            }
        };
        let (base, next) = (batch.base_offset(), batch.next_offset());
        // A batch that could not be read leaves a gap that was named already.
        let gap = base > expected && self.found.damages.is_empty();
        if base < expected || gap || next > segment.end {
            let what =
                format!("the batch does not follow the one before it. expected={expected}, found={batch:?}");
            self.damage(&segment.path, dumped.byte, Some(expected.min(base)), &what);
        }
        // With the offset, all that the checksum does not cover: whoever reads the partition refuses it too.
        if batch.leader_epoch() != 0 {
            let what = format!("the batch has the epoch of another leader. found={}", batch.leader_epoch());
            self.damage(&segment.path, dumped.byte, Some(base), &what);
        }
        let records = records(batch).unwrap_or_else(|error| {
            self.damage(&segment.path, dumped.byte, Some(base), &error.to_string());
            0
        });
        self.found.batches += 1;
        self.found.records += records;
        self.found.bytes += dumped.size;
        (next.max(expected), records)
    }

    fn damage(&mut self, file: &Path, byte: u64, offset: Option<Offset>, what: &str) {
        if self.found.damages.len() < DAMAGES_MAX {
            let (partition, file, what) = (self.partition.clone(), file.to_owned(), what.to_owned());
            self.found.damages.push(Damage { partition, file, byte, offset, what });
        }
    }
}

struct Segment {
    base: Offset,
    /// Offset behind its last record.
    end: Offset,
    /// What comes behind is no part of it yet.
    length_max: u64,
    /// Its indexes may be those of the segment that had its name before.
    is_new: bool,
    path: PathBuf,
}

impl Segment {
    /// Whether nothing is written to it any more.
    fn is_closed(&self) -> bool {
        self.length_max == u64::MAX
    }
}

/// Decodes all records of a batch.
fn records(batch: &RecordBatch) -> Result<u64> {
    let mut cursor = batch.cursor();
    let (mut count, mut next) = (0, batch.base_offset());
    while cursor.advance()? {
        let offset = cursor.offset().unwrap_or_default();
        if offset < next || offset >= batch.next_offset() {
            return Err(Error::corrupt(format!(
                "a record has an offset that does not follow. offset={offset}"
            )));
        }
        next = offset.next();
        count += 1;
    }
    Ok(count)
}

/// An index of a segment, compared with the batches as they come. It may be missing: then it is made again.
struct Index {
    path: PathBuf,
    base: Offset,
    entries: Vec<u8>,
    entry_bytes: u64,
    /// Where the next entry stands.
    at: u64,
    wrong_at: Option<u64>,
}

impl Index {
    fn read(layout: &Layout, segment: &Segment, extension: &str, entry_bytes: u64) -> Result<Self> {
        let path = segment.path.with_extension(extension);
        let entries = match layout.fs.read(&path) {
            // It may be cut back while it is read: it is its writer's.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
                Vec::new()
            }
            entries => entries.map_err(|e| unreadable(&path, e))?,
        };
        Ok(Self { path, base: segment.base, entries, entry_bytes, at: 0, wrong_at: None })
    }

    fn entry(&self) -> Option<&[u8]> {
        let (begin, end) =
            (usize::try_from(self.at).ok()?, usize::try_from(self.at + self.entry_bytes).ok()?);
        self.entries.get(begin..end)
    }

    /// The last offset of a batch, and the byte at which that batch begins.
    fn place(&self) -> Option<(Offset, u64)> {
        let mut entry = self.entry()?;
        Some((self.base.plus(entry.try_get_u32().ok()?.into()), entry.try_get_u32().ok()?.into()))
    }

    /// The last offset of a batch, and its highest timestamp.
    fn time(&self) -> Option<(Offset, Timestamp)> {
        let mut entry = self.entry()?;
        let timestamp = Timestamp(entry.try_get_i64().ok()?);
        Some((self.base.plus(entry.try_get_u32().ok()?.into()), timestamp))
    }

    fn pass(&mut self, right: bool) {
        if !right {
            self.wrong_at.get_or_insert(self.at);
        }
        self.at += self.entry_bytes;
    }

    /// Entries that speak of this batch, or of bytes before it, which no batch began with.
    fn check_places(&mut self, dumped: &DumpedBatch, next: Offset) {
        while let Some((last, byte)) = self.place().filter(|(_, byte)| *byte <= dumped.byte) {
            self.pass(byte == dumped.byte && (dumped.batch.is_err() || last.next() == next));
        }
    }

    /// Entries that speak of this batch, or of offsets before it, with which no batch ended.
    fn check_times(&mut self, dumped: &DumpedBatch, next: Offset) {
        let Ok(batch) = &dumped.batch else { return };
        while let Some((last, time)) = self.time().filter(|(last, _)| *last < next) {
            self.pass(last.next() == next && time == batch.max_timestamp());
        }
    }

    /// Where it is wrong first, when the whole segment was walked. The index of one that is written may be ahead.
    fn wrong(&self, segment: &Segment) -> Option<u64> {
        let ahead = self.entry().filter(|_| segment.is_closed());
        self.wrong_at.or(ahead.map(|_| self.at))
    }
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::io(format!("cannot read. file={}", path.display()), error)
}

#[cfg(test)]
mod tests;
