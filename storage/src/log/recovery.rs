//! Opens a folder: checkpoint, then at most the journal behind it.
//!
//! 1. The journal is read and checked as a whole. If it is damaged, nothing has been touched.
//! 2. Each partition's files are cut back to the checkpoint.
//! 3. The journal's entries are applied once more, in their order.
//! 4. A new checkpoint and a new journal segment make that durable; until then, a crash begins at 1 again.

use std::{fs, io, path::Path, sync::Arc};

use headwater_core::{
    Error, Offset, Partition, Result, TopicName, TopicPartition,
    ledger::{Entry, Ledger},
};

use super::{
    checkpoint::{self, Checkpoint, PartitionMark},
    files::WriteFiles,
    index::Indexed,
    journal::{Journal, Position, SEGMENT_HEADER_BYTES},
    layout::{self, FORMAT, Layout, index_file, log_file},
    lock::FolderLock,
    options::{LogOptions, RecoveryReport},
    partition::{self, Active, FileSpan, PartitionWriter},
    scan::{self, Scan},
    shared::Shared,
    visible::Visible,
    writer::{Books, Writer},
};

/// Opens the log in `folder`, a new one when there is none.
pub(super) fn open(folder: &Path, options: LogOptions) -> Result<(Arc<Shared>, Writer)> {
    let layout = Layout { folder: folder.to_owned() };
    layout::create_folder(folder)?;
    let lock = FolderLock::take(&layout.lock())?;
    check_format(&layout)?;
    let checkpoint = match checkpoint::read(&layout.checkpoint())? {
        Some(checkpoint) => checkpoint,
        None => begin(&layout, &options)?,
    };
    let scan = scan::scan(&layout, checkpoint.position, &mut |_| Ok(()))?;
    if scan.torn_bytes > 0 {
        tracing::warn!(
            folder = %folder.display(), bytes = scan.torn_bytes, segment = scan.end.segment, byte = scan.end.byte,
            "the last journal group was never finished and is cut: nobody was told that it was written"
        );
    }
    recover(layout, options, lock, checkpoint, &scan)
}

fn recover(
    layout: Layout,
    options: LogOptions,
    lock: FolderLock,
    checkpoint: Checkpoint,
    scan: &Scan,
) -> Result<(Arc<Shared>, Writer)> {
    let Checkpoint { position, ledger, partitions } = checkpoint;
    let mut restore = Restore {
        layout: &layout,
        books: Books::new(ledger, WriteFiles::new(options.open_files_max)),
        visible: Visible::default(),
        indexes_rebuilt: 0,
    };
    restore.topics(&partitions)?;
    restore.strays()?;
    let Restore { books, mut visible, indexes_rebuilt, .. } = restore;
    visible.batch_bytes_largest = books.ledger.batch_bytes_largest();
    let report = RecoveryReport {
        groups_replayed: scan.groups,
        bytes_replayed: scan.bytes,
        torn_bytes_cut: scan.torn_bytes,
        indexes_rebuilt,
    };
    let clean = scan.groups == 0 && scan.torn_bytes == 0 && scan.end == position;
    let segment_bytes = options.journal_segment_bytes;
    let shared = Arc::new(Shared::new(layout, options, lock, (visible, report)));
    let books = replay(&shared, books, position)?;
    let layout = &shared.layout;
    if clean {
        let journal = Journal::resume(layout, segment_bytes, position)?;
        return Ok((Arc::clone(&shared), Writer::new(Arc::clone(&shared), books, journal, Some(position))));
    }
    let journal = Journal::begin(layout, segment_bytes, scan.end.segment + 1, scan.end.group)?;
    let mut writer = Writer::new(Arc::clone(&shared), books, journal, None);
    writer.checkpoint_now()?;
    Ok((shared, writer))
}

fn check_format(layout: &Layout) -> Result<()> {
    let path = layout.format();
    match fs::read_to_string(&path) {
        Ok(format) if format == FORMAT => Ok(()),
        Ok(format) => Err(Error::invalid(format!(
            "log is of another version: open it with the Headwater that wrote it. file={}, version=`{}`, known=`{}`",
            path.display(),
            format.trim().escape_debug(),
            FORMAT.trim()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let foreign = fs::read_dir(&layout.folder).map_err(|e| {
                Error::io(format!("cannot list folder. folder={}", layout.folder.display()), e)
            })?;
            let foreign = foreign
                .filter_map(|entry| Some(entry.ok()?.file_name()))
                .find(|name| name != "LOCK" && name != "format.new");
            match foreign {
                None => layout::replace(&path, FORMAT.as_bytes()),
                Some(name) => Err(Error::corrupt(format!(
                    "folder is not empty and not a log, or its `format` file is missing: choose an empty folder, or restore the file. folder={}, found=`{}`",
                    layout.folder.display(),
                    name.display()
                ))),
            }
        }
        Err(error) => Err(Error::io(format!("cannot read. file={}", path.display()), error)),
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
    layout::create_folder(&layout.journal())?;
    layout::create_folder(&layout.topics())?;
    let topics = fs::read_dir(layout.topics()).map_err(|e| Error::io("cannot list topics", e))?;
    if topics.count() > 0 {
        return lost();
    }
    let position = Position { segment: 1, byte: SEGMENT_HEADER_BYTES, group: 1 };
    match layout::numbered(&layout.journal(), "journal")?.as_slice() {
        [] => drop(Journal::begin(layout, options.journal_segment_bytes, position.segment, position.group)?),
        // Somebody was interrupted here.
        [1] if scan::scan(layout, position, &mut |_| Ok(()))?.groups == 0 => {}
        _ => return lost(),
    }
    layout::sync_folder(&layout.folder)?;
    let ledger = Ledger::default();
    layout::replace(&layout.checkpoint(), &checkpoint::encode(position, &ledger, &[]))?;
    Ok(Checkpoint { position, ledger, partitions: Vec::new() })
}

/// Brings files back to the checkpoint.
struct Restore<'a> {
    layout: &'a Layout,
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
        let places: Vec<_> = self.books.ledger.ends().collect();
        let mut marks = marks.iter().peekable();
        for (place, end) in places {
            let mark = marks.next_if(|mark| mark.place == place);
            let partition = self.books.ledger.partition(place)?;
            let folder = self.layout.partition(&partition);
            if mark.is_none() && end > Offset(0) {
                return Err(Error::corrupt(format!(
                    "checkpoint does not name the files of a partition. partition={partition}"
                )));
            }
            let span = partition::cut_back(&folder, mark, &mut self.books.files)?;
            let active = mark.map(|mark| self.active(&span, mark)).transpose()?;
            let topic = self.books.ledger.topic(place.topic).expect("its partition was just found");
            self.books.partitions.insert(place, PartitionWriter::new(folder, topic, active));
            self.visible.restore_files(place, span);
        }
        match marks.next() {
            None => Ok(()),
            Some(mark) => Err(Error::corrupt(format!("checkpoint names files out of order. files={mark:?}"))),
        }
    }

    fn active(&mut self, span: &FileSpan, mark: &PartitionMark) -> Result<Active> {
        let path = log_file(&span.folder, mark.active);
        let log = self.books.files.open(&path)?;
        let indexed = Indexed { log: &log, base: mark.active, length: mark.length };
        let index = index_file(&span.folder, mark.active);
        let repaired = indexed.repair(&index, self.books.ledger.batch_bytes_largest());
        let (index, rebuilt) =
            repaired.map_err(|e| Error::io(format!("cannot make index. file={}", index.display()), e))?;
        self.indexes_rebuilt += u64::from(rebuilt);
        Ok(Active { base: mark.active, length: mark.length, index })
    }

    /// Segments of topics that the checkpoint does not know: the journal has their records, or nobody was told of them.
    fn strays(&mut self) -> Result<()> {
        let folder = self.layout.topics();
        let failed = |e| Error::io(format!("cannot list folder. folder={}", folder.display()), e);
        for topic in fs::read_dir(&folder).map_err(failed)? {
            let name = topic.map_err(failed)?.file_name();
            let Some(topic) = name.to_str().and_then(|name| TopicName::new(name).ok()) else { continue };
            if self.visible.topic(&topic).is_some() || !folder.join(topic.as_str()).is_dir() {
                continue;
            }
            for partition in fs::read_dir(folder.join(topic.as_str())).map_err(failed)? {
                let number =
                    partition.map_err(failed)?.file_name().to_str().and_then(|name| name.parse().ok());
                let Some(number) = number else { continue };
                let stray = self.layout.partition(&TopicPartition::new(topic.clone(), Partition(number)));
                partition::cut_back(&stray, None, &mut self.books.files)?;
            }
        }
        Ok(())
    }
}

/// Applies what came after the checkpoint.
fn replay(shared: &Shared, mut books: Books, from: Position) -> Result<Books> {
    scan::scan(&shared.layout, from, &mut |entries| {
        for entry in entries {
            books.ledger.apply(&entry)?;
            books.show(entry, &mut shared.visible_mut(), shared);
        }
        books.bound_tail(shared)
    })?;
    Ok(books)
}
