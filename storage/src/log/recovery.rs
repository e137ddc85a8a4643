//! Opens a folder: checkpoint, then at most the journal behind it.
//!
//! 1. The journal behind the checkpoint is read and checked, with the batches that it does not hold itself (`filed`). If it is damaged,
//!    nothing has been touched. Other segments are checked when they are read.
//! 2. Each partition's files are cut back to the checkpoint, or to how far the journal says that they were written; those that it
//!    says to be gone need not be there.
//! 3. The journal's entries are applied once more, in their order.
//! 4. A new checkpoint and a new journal segment make that durable; until then, a crash begins at 1 again.

use std::{io, path::Path, sync::Arc};

use headwater_core::{
    Error, Offset, Partition, PartitionOffsets, Result, TopicName, TopicPartition, TopicSpec,
    ledger::{Entry, Ledger, Place, TopicId},
};

use super::{
    behind::{self, Found, Later},
    checkpoint::{self, Checkpoint, PartitionMark},
    compaction,
    files::WriteFiles,
    fs::{FileSystem, Open, write_error},
    index::Indexed,
    journal::{self, Journal, Kind, Position, SEGMENT_HEADER_BYTES},
    layout::{FORMAT, Layout, index_file, is_deleted, log_file, time_index_file},
    options::{LogOptions, RecoveryReport},
    partition::{Active, PartitionWriter},
    published::Publisher,
    scan::{self, Visited},
    shared::Shared,
    span::{self, FileSpan},
    timeindex::{Indexes, TimeTail},
    visible::Visible,
    writer::{Books, Writer},
};
use crate::lock::FolderLock;

/// What whoever finds the folder taken is told.
pub(super) const TAKEN: &str =
    "log is already open: close it there, look at it read-only, or use another folder";

/// Opens the log in `folder`, a new one when there is none.
pub(super) fn open(
    folder: &Path,
    options: LogOptions,
    fs: Arc<dyn FileSystem>,
) -> Result<(Arc<Shared>, Writer)> {
    let layout = Layout::new(folder, fs);
    layout.create_folder_durably(folder)?;
    // Before anything is made in it.
    if !layout.exists(&layout.format())? {
        check_empty(&layout)?;
    }
    let lock = FolderLock::take(&layout.lock(), TAKEN)?;
    check_format(&layout)?;
    let checkpoint = match checkpoint::read(&layout)? {
        Some(checkpoint) => checkpoint,
        None => begin(&layout, &options)?,
    };
    let found = behind::read_journal(&layout, &checkpoint)?;
    let Found { scan, later } = &found;
    if scan.torn_bytes > 0 {
        tracing::warn!(
            folder = %folder.display(), bytes = scan.torn_bytes, segment = scan.end.segment, byte = scan.end.byte,
            "what stands behind the last good journal group was never known to be on disk, and is cut"
        );
    }
    if later.deletes() {
        // Files that are missing must be missing for a reason that is on disk, and that readers elsewhere can see.
        behind::sync_filed(&layout, &checkpoint, later)?;
        journal::sync_scanned(&layout, checkpoint.position, scan.end)?;
        Publisher::begin(&layout, scan.end);
    }
    recover(layout, options, lock, checkpoint, &found)
}

fn recover(
    layout: Layout,
    options: LogOptions,
    lock: FolderLock,
    checkpoint: Checkpoint,
    Found { scan, later }: &Found,
) -> Result<(Arc<Shared>, Writer)> {
    let Checkpoint { position, ledger, partitions, agreed, copies_good } = checkpoint;
    if copies_good < 2 {
        tracing::warn!(folder = %layout.folder.display(), "a copy of the checkpoint is damaged or missing, and is made again");
    }
    let mut restore = Restore {
        layout: &layout,
        later,
        books: Books::new(ledger, WriteFiles::new(layout.clone(), options.open_files_max)),
        visible: Visible::default(),
        indexes_rebuilt: 0,
    };
    restore.topics(&partitions)?;
    restore.strays()?;
    let Restore { mut books, mut visible, indexes_rebuilt, .. } = restore;
    if !later.filed.marks.is_empty() {
        // The next journal file may say that all before it is on disk: what that refers to must be, too.
        books.files.take_unsynced().sync(&layout)?;
    }
    visible.batch_bytes_largest = books.ledger.batch_bytes_largest();
    let report = RecoveryReport {
        groups_replayed: scan.groups,
        bytes_replayed: scan.bytes,
        torn_bytes_cut: scan.torn_bytes,
        indexes_rebuilt,
        checkpoints_rebuilt: 2 - copies_good as u64,
    };
    let clean = agreed && scan.groups == 0 && scan.torn_bytes == 0 && scan.end == position;
    let goes_on = clean && scan.newest == position.segment && scan.kind == Kind::of(options.durability);
    let shared = Arc::new(Shared::new(layout, options, lock, (visible, report)));
    let books = replay(&shared, books, position, scan.end.group)?;
    let layout = &shared.layout;
    let mut writer = if goes_on {
        let journal = Journal::resume(layout, shared.options.journal_segment_bytes, position)?;
        Writer::new(Arc::clone(&shared), books, journal, Some(position))
    } else {
        let journal = Journal::begin_behind(layout, &shared.options, position.segment, scan)?;
        let mut writer = Writer::new(Arc::clone(&shared), books, journal, None);
        writer.checkpoint_now()?;
        writer
    };
    writer.sweep();
    Ok((shared, writer))
}

fn check_format(layout: &Layout) -> Result<()> {
    let path = layout.format();
    match layout.fs.read(&path) {
        Ok(format) => check_version(&path, &format),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            check_empty(layout)?;
            layout.replace(&path, FORMAT.as_bytes())
        }
        Err(error) => Err(Error::io(format!("cannot read. file={}", path.display()), error)),
    }
}

/// Whether we can read what says to be of this version.
pub(super) fn check_version(path: &Path, format: &[u8]) -> Result<()> {
    if format == FORMAT.as_bytes() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "log is of another version: open it with the Headwater that wrote it. file={}, version=`{}`, known=`{}`",
        path.display(),
        String::from_utf8_lossy(format).trim().escape_debug(),
        FORMAT.trim()
    )))
}

/// Whether a folder without a `format` file is one in which a log may begin.
fn check_empty(layout: &Layout) -> Result<()> {
    let folder = layout.folder.display();
    let failed = |e| Error::io(format!("cannot list folder. folder={folder}"), e);
    let mut foreign = None;
    for name in layout.fs.list(&layout.folder).map_err(failed)? {
        match name.to_str() {
            // What an interrupted beginning leaves, what is worth nothing, and what a new file system has.
            Some("LOCK" | "format.new" | "published" | "lost+found") => {}
            // Somebody began a log in the meantime.
            Some("format") => return Ok(()),
            Some("checkpoint" | "checkpoint.copy" | "journal" | "topics") => {
                return Err(Error::corrupt(format!(
                    "log has lost its `format` file: restore it from a copy. folder={folder}"
                )));
            }
            _ => foreign = Some(name),
        }
    }
    match foreign {
        None => Ok(()),
        Some(name) => Err(Error::invalid(format!(
            "folder is not empty and not a log: choose an empty folder. folder={folder}, found=`{}`",
            name.display()
        ))),
    }
}

/// A folder without a checkpoint is new, or else it has lost it.
fn begin(layout: &Layout, options: &LogOptions) -> Result<Checkpoint> {
    let lost = || {
        Err(Error::corrupt(format!(
            "checkpoint is missing, and there is data: restore the file from a copy. file={}",
            layout.checkpoint().display()
        )))
    };
    layout.create_folder(&layout.journal())?;
    layout.create_folder(&layout.topics())?;
    let topics = layout.fs.list(&layout.topics()).map_err(|e| Error::io("cannot list topics", e))?;
    if !topics.is_empty() {
        return lost();
    }
    let position = Position { segment: 1, byte: SEGMENT_HEADER_BYTES, group: 1 };
    match layout.numbered(&layout.journal(), "journal")?.as_slice() {
        [] => {
            let begin = match Kind::of(options.durability) {
                Kind::Synced => Journal::begin,
                Kind::Unsynced => Journal::begin_unsynced,
            };
            drop(begin(layout, options.journal_segment_bytes, position.segment, position.group)?);
        }
        // Somebody was interrupted here.
        [1] if scan::scan(layout, position, &mut |_, _| Ok(true))?.groups == 0 => {
            layout.sync_folder(&layout.journal())?;
        }
        _ => return lost(),
    }
    layout.sync_folder(&layout.folder)?;
    let ledger = Ledger::default();
    checkpoint::write(layout, &checkpoint::encode(position, &ledger, &[]))?;
    Ok(Checkpoint { position, ledger, partitions: Vec::new(), agreed: true, copies_good: 2 })
}

/// Brings files back to the checkpoint.
struct Restore<'a> {
    layout: &'a Layout,
    later: &'a Later,
    books: Books,
    visible: Visible,
    indexes_rebuilt: u64,
}

impl Restore<'_> {
    fn topics(&mut self, marks: &[PartitionMark]) -> Result<()> {
        for entry in self.books.ledger.entries() {
            if matches!(entry, Entry::TopicCreated { .. } | Entry::Positions(_)) {
                self.visible.apply(entry, self.layout);
            }
        }
        let topics: Vec<_> = self.books.ledger.topics().map(|(id, spec)| (id, spec.clone())).collect();
        for (id, spec) in &topics {
            self.unneeded(*id, spec)?;
        }
        let places: Vec<_> = self.books.ledger.all_offsets().collect();
        let mut marks = marks.iter().peekable();
        for (place, offsets) in places {
            let mark = marks.next_if(|mark| mark.place == place);
            self.partition(place, offsets, mark)?;
        }
        match marks.next() {
            None => Ok(()),
            Some(mark) => Err(Error::corrupt(format!("checkpoint names files out of order. files={mark:?}"))),
        }
    }

    /// Removes what the journal has, or says to be gone: all of a deleted topic, and partitions that were added.
    fn unneeded(&mut self, id: TopicId, spec: &TopicSpec) -> Result<()> {
        if self.later.deleted.contains(&id) {
            self.books.files.removed_from(&self.layout.topics());
            self.books.to_sweep |= self.layout.set_deleted_aside(&spec.name, id)?;
            return Ok(());
        }
        let grown = self.later.grown.get(&id).copied().unwrap_or_default();
        for number in spec.partitions.get()..grown {
            self.remove_segments((id, TopicPartition::new(spec.name.clone(), Partition(number))))?;
        }
        Ok(())
    }

    fn partition(
        &mut self,
        place: Place,
        offsets: PartitionOffsets,
        mark: Option<&PartitionMark>,
    ) -> Result<()> {
        let partition = self.books.ledger.partition(place)?;
        let folder = self.layout.partition(&partition);
        if mark.is_none() && offsets.end > Offset(0) {
            return Err(Error::corrupt(format!(
                "checkpoint does not name the files of a partition. partition={partition}"
            )));
        }
        compaction::resolve(self.layout, &folder)?;
        let synced = mark.map_or(Offset(0), |mark| mark.active);
        let filed = self.later.filed.marks.get(&place);
        // What was deleted, the entries say that did it.
        let filed = filed.map(|filed| PartitionMark { earliest: offsets.earliest, ..*filed });
        let filed = filed.as_ref();
        let mark = filed.or(mark).filter(|_| !self.later.deleted.contains(&place.topic));
        let before = self.later.earliest.get(&place).copied().unwrap_or_default();
        let mut span = span::cut_back((place.topic, &folder), mark, before, &mut self.books.files)?;
        span.end = filed.map_or(offsets.end, |filed| filed.end.max(offsets.end));
        if filed.is_some() && !span.segments.is_empty() {
            let behind = span.segments.iter().map(|segment| segment.base).filter(|base| *base >= synced);
            self.books.files.reopen(&folder, behind)?;
        }
        let active = mark.filter(|_| !span.segments.is_empty());
        let active = active.map(|mark| self.active(&span, mark)).transpose()?;
        let topic = self.books.ledger.topic(place.topic).expect("its partition was just found");
        let mut writer = PartitionWriter::new(folder, &topic.config, active);
        writer.filed_until = filed.map_or(Offset(0), |filed| filed.end);
        self.books.partitions.insert(place, writer);
        self.visible.restore_files(place, offsets, span);
        Ok(())
    }

    /// The segment that is written next, with indexes that fit.
    fn active(&mut self, span: &FileSpan, mark: &PartitionMark) -> Result<Active> {
        let PartitionMark { active: base, length, first, newest, .. } = *mark;
        let fs = &*self.layout.fs;
        let log_path = log_file(&span.folder, base);
        let (index_path, times_path) = (index_file(&span.folder, base), time_index_file(&span.folder, base));
        let repair = || {
            let log = fs.open(&log_path, Open::Read)?;
            let indexed = Indexed { log: &*log, base, length };
            let (index, index_rebuilt) = indexed.repair(fs, &index_path, self.largest())?;
            let times = TimeTail::resume(fs, &times_path, (base, newest), index.bytes > 0)?;
            let holds = |tail: &TimeTail| {
                let (offsets, times) = (fs.open(&index_path, Open::Read)?, fs.open(&times_path, Open::Read)?);
                indexed.resumes(Indexes { offsets: &*offsets, times: &*times }, tail)
            };
            let (times, times_rebuilt) = match times {
                Some(times) if times.bytes == 0 || holds(&times)? => (times, false),
                _ => (indexed.rebuild_times(fs, &times_path)?, true),
            };
            Ok((index, times, u64::from(index_rebuilt) + u64::from(times_rebuilt)))
        };
        let failed = |e| write_error(format_args!("cannot make index. file={}", index_path.display()), e);
        let (index, times, rebuilt) = repair().map_err(failed)?;
        self.indexes_rebuilt += rebuilt;
        Ok(Active { base, length, kept: 0, first, index, times: times.with(base, newest) })
    }

    /// Size of the largest batch in files.
    fn largest(&self) -> usize {
        self.books.ledger.batch_bytes_largest().max(self.later.filed.largest)
    }

    /// Segments of topics that the checkpoint does not know. The journal has the records of those that were created since;
    /// others are not ours to remove.
    fn strays(&mut self) -> Result<()> {
        let folder = self.layout.topics();
        let failed = |e| Error::io(format!("cannot list folder. folder={}", folder.display()), e);
        let names = match self.layout.fs.list(&folder) {
            // Copies of a log in which nothing was written may be without it. What should be in it would have been missed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.layout.create_folder(&folder);
            }
            names => names.map_err(failed)?,
        };
        for name in names {
            if is_deleted(&name) {
                self.books.to_sweep = true;
                continue;
            }
            let topic = name.to_str().and_then(|name| TopicName::new(name).ok());
            if topic.as_ref().is_some_and(|topic| self.visible.topic(topic).is_some()) {
                continue;
            }
            match topic.filter(|topic| self.later.created.contains(topic)) {
                Some(topic) => self.remove_topic_segments(&topic)?,
                None => tracing::warn!(
                    path = %folder.join(&name).display(),
                    "not of any topic of this log, and left alone: move it away if you do not need it"
                ),
            }
        }
        Ok(())
    }

    fn remove_topic_segments(&mut self, topic: &TopicName) -> Result<()> {
        let folder = self.layout.topic(topic);
        let failed = |e| Error::io(format!("cannot list folder. folder={}", folder.display()), e);
        for name in self.layout.fs.list(&folder).map_err(failed)? {
            let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            let stray = TopicPartition::new(topic.clone(), Partition(number));
            self.remove_segments((TopicId::default(), stray))?;
        }
        Ok(())
    }

    fn remove_segments(&mut self, (id, partition): (TopicId, TopicPartition)) -> Result<()> {
        let folder = self.layout.partition(&partition);
        span::cut_back((id, &folder), None, Offset(0), &mut self.books.files).map(drop)
    }
}

/// Applies what came after the checkpoint.
fn replay(shared: &Shared, mut books: Books, from: Position, until: u64) -> Result<Books> {
    // Kept apart: an error of a segment's file is no damage of the journal.
    let mut spilled = Ok(());
    scan::scan(&shared.layout, from, &mut |Visited { group, .. }, items| {
        if spilled.is_err() || group >= until {
            return Ok(group < until);
        }
        for item in items {
            books.replay(item, shared)?;
            spilled = books.remove_files(shared);
            if spilled.is_err() {
                return Ok(true);
            }
        }
        spilled = books.bound_tail(shared);
        Ok(true)
    })?;
    spilled.map(|()| books)
}
