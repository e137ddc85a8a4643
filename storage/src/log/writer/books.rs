//! What entries change, live and in recovery: the ledger, and what is to be written and removed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    iter, mem,
    path::PathBuf,
    sync::Arc,
};

use headwater_core::{
    BatchHeader, Error, Offset, Partition, RecordBatch, Result, TopicName, TopicSpec,
    ledger::{Entry, Ledger, Place, TopicId},
};

use crate::log::{
    codec::Item,
    compaction::{Swap, Swapped},
    files::WriteFiles,
    fs::{DataFile, Open},
    layout::{log_file, segment_files},
    partition::PartitionWriter,
    shared::Shared,
    span::Segment,
    visible::{Hidden, Visible},
};

/// What a batch in memory costs beyond its bytes.
const BATCH_OVERHEAD_BYTES: usize = 96;
/// The system takes about a millisecond for each MiB of a file that it frees. The room of larger ones is freed elsewhere.
const FREED_AT_ONCE_BYTES_MAX: u64 = 1 << 20;
/// But no more of them than this, because they are open meanwhile.
const UNLINKED_MAX: usize = 16;
/// A partition is written when it has this part of what makes a checkpoint.
const EARLY_PARTS: u64 = 256;
/// Of what may be in memory, batches that lie in files may take this part: others can read them there, and what is written next finds memory
/// that is in the processor's cache.
const IN_FILES_PART: usize = 4;
/// So many batches may be listed that are gone.
const STALE_MAX: usize = 4096;

/// The state that entries change, live and in recovery.
#[derive(Debug)]
pub(in crate::log) struct Books {
    pub(in crate::log) ledger: Ledger,
    pub(in crate::log) partitions: BTreeMap<Place, PartitionWriter>,
    pub(in crate::log) files: WriteFiles,
    /// Batches in memory and their offsets, oldest first; some of them may have been deleted since.
    tail: VecDeque<(Place, Offset)>,
    tail_bytes: usize,
    /// How many of them were deleted.
    stale: usize,
    /// Partitions of which so much is in memory only that it is worth a write of its own.
    long: BTreeSet<Place>,
    /// Bytes written to segments since somebody began to sync them.
    pub(super) unsynced_bytes: u64,
    /// Files that entries have made useless.
    pub(in crate::log) removals: Vec<Removal>,
    /// Large segments that have no name any more. Whoever closes the last handle frees their room.
    pub(in crate::log) unlinked: Vec<Arc<dyn DataFile>>,
    /// Deleted topics left something to be swept away.
    pub(in crate::log) to_sweep: bool,
}

/// Batches of a partition that were filed together.
#[derive(Debug)]
pub(in crate::log) struct FiledRun {
    pub(in crate::log) place: Place,
    /// Where they went.
    pub(in crate::log) segments: Vec<Segment>,
    /// The offset after the last of them.
    pub(in crate::log) end: Offset,
    pub(in crate::log) bytes: usize,
}

/// Files that nobody needs when the entries that say so are on disk.
#[derive(Debug)]
pub(in crate::log) enum Removal {
    Topic(TopicId, TopicName),
    Segments(TopicId, PathBuf, Vec<Segment>),
}

impl Books {
    pub(in crate::log) fn new(ledger: Ledger, files: WriteFiles) -> Self {
        let (partitions, tail) = (BTreeMap::new(), VecDeque::new());
        Self {
            ledger,
            partitions,
            files,
            tail,
            tail_bytes: 0,
            stale: 0,
            long: BTreeSet::new(),
            unsynced_bytes: 0,
            removals: Vec::new(),
            unlinked: Vec::new(),
            to_sweep: false,
        }
    }

    /// Shows an entry that is durable, and remembers what is to be written and removed.
    pub(in crate::log) fn show(&mut self, entry: Entry, visible: &mut Visible, shared: &Shared) {
        // What is shown is of the same moment as the entry; the ledger may be ahead.
        let named = |visible: &Visible, id| visible.spec(id).expect("the ledger knows the topic").clone();
        match entry {
            Entry::TopicCreated { id, .. } => {
                self.apply(entry, visible, shared);
                self.new_partitions(id, 0, &named(visible, id), shared);
            }
            Entry::PartitionsAdded { id, .. } => {
                let before = named(visible, id).partitions.get();
                self.apply(entry, visible, shared);
                self.new_partitions(id, before, &named(visible, id), shared);
            }
            Entry::TopicAltered { id, ref config } => {
                self.partitions.range_mut(places(id)).for_each(|(_, partition)| partition.alter(config));
                self.apply(entry, visible, shared);
            }
            Entry::TopicDeleted { id } => {
                self.partitions.retain(|place, _| place.topic != id);
                self.removals.push(Removal::Topic(id, named(visible, id).name));
                self.apply(entry, visible, shared);
            }
            Entry::RecordsDeleted { place, before } => {
                let hidden = self.apply(entry, visible, shared);
                let partition = self.partitions.get_mut(&place).expect("the ledger knows the partition");
                partition.delete(before, &hidden.segments);
                if let Some(files) = visible.files(place).filter(|_| !hidden.segments.is_empty()) {
                    self.removals.push(Removal::Segments(place.topic, files.folder.clone(), hidden.segments));
                }
            }
            Entry::Batch { place, ref batch } => {
                let writer = self.partitions.get_mut(&place).expect("the ledger knows the partition");
                if writer.push(batch.clone()) as u64 >= early_bytes(shared) {
                    self.long.insert(place);
                }
                self.tail.push_back((place, batch.base_offset()));
                self.tail_bytes += batch.bytes().len() + BATCH_OVERHEAD_BYTES;
                self.apply(entry, visible, shared);
            }
            Entry::ProducerOpened { .. }
            | Entry::ProducersReviewed { .. }
            | Entry::Positions(_)
            | Entry::GroupDeleted(_) => {
                self.apply(entry, visible, shared);
            }
        }
    }

    /// Does once more what was done when an item came into the journal.
    ///
    /// # Errors
    /// `Corrupt` when it does not follow from what was before it.
    pub(in crate::log) fn replay(&mut self, item: Item, shared: &Shared) -> Result<()> {
        let filed = |books: &Self, place, header: &BatchHeader| {
            books.partitions.get(&place).is_some_and(|writer| header.next_offset() <= writer.filed_until)
        };
        match item {
            Item::Files(mark)
                if self.ledger.offsets(mark.place).is_some_and(|offsets| offsets.end == mark.end) =>
            {
                Ok(())
            }
            Item::Files(mark) => Err(Error::corrupt(format!(
                "files of a partition do not end where it does. files={mark:?}, offsets={:?}",
                self.ledger.offsets(mark.place)
            ))),
            Item::Filed(place, header) if filed(self, place, &header) => {
                self.replay_filed(place, &header, shared)
            }
            Item::Filed(place, header) => Err(Error::corrupt(format!(
                "batch is in files of which nothing is said. topic_id={}, partition={}, batch={header:?}",
                place.topic.0, place.partition
            ))),
            Item::Entry(Entry::Batch { place, batch }) if filed(self, place, &BatchHeader::of(&batch)) => {
                self.replay_filed(place, &BatchHeader::of(&batch), shared)
            }
            Item::Entry(entry) => {
                self.ledger.apply(&entry)?;
                self.show(entry, &mut shared.visible_mut(), shared);
                Ok(())
            }
        }
    }

    /// A batch that lies in files is read from there.
    fn replay_filed(&mut self, place: Place, header: &BatchHeader, shared: &Shared) -> Result<()> {
        self.ledger.apply_header(place, header)?;
        shared.visible_mut().pass(place, header);
        Ok(())
    }

    fn apply(&mut self, entry: Entry, visible: &mut Visible, shared: &Shared) -> Hidden {
        let hidden = visible.apply(entry, &shared.layout);
        self.forget_hidden(&hidden, visible);
        hidden
    }

    fn forget_hidden(&mut self, hidden: &Hidden, visible: &Visible) {
        self.tail_bytes -= hidden.bytes + hidden.batches * BATCH_OVERHEAD_BYTES;
        self.stale += hidden.batches;
        if self.stale > STALE_MAX.max(self.tail.len() / 2) {
            self.tail.retain(|(place, base)| visible.is_in_memory(*place, *base));
            self.stale = 0;
        }
    }

    /// Where the active segments of compacted topics begin.
    pub(super) fn compacted(&self) -> BTreeMap<Place, Offset> {
        let topics = self.ledger.topics().filter(|(_, spec)| spec.config.cleanup_policy.compacts());
        let partitions = topics.flat_map(|(id, _)| self.partitions.range(places(id)));
        partitions.filter_map(|(place, partition)| Some((*place, partition.active()?))).collect()
    }

    /// Puts a compacted segment in the place of others, if that need not wait.
    ///
    /// # Errors
    /// Nothing was done.
    pub(super) fn swap(&mut self, swap: &Swap, shared: &Shared) -> Result<Swapped> {
        let Some(files) = shared.visible().files(swap.place).filter(|files| swap.fits(files)) else {
            return Ok(Swapped::Gone);
        };
        let swapped = shared.reader.replace(|| {
            // Whoever finds other files than those of the span that they know looks again when this is done.
            let mut visible = shared.visible_mut();
            swap.rename(&shared.layout, &files.folder)?;
            let hidden = visible.swap(swap.place, swap.by, swap.next);
            self.forget_hidden(&hidden, &visible);
            Ok::<_, Error>(())
        });
        if swapped.transpose()?.is_none() {
            return Ok(Swapped::Busy);
        }
        for segment in &swap.replaced {
            segment_files(&files.folder, segment.base).iter().for_each(|path| self.files.forget(path));
            shared.reader.forget(files.topic, &files.folder, segment.base);
        }
        for segment in swap.replaced.iter().skip(1) {
            // What is left is removed with the marker.
            if let Err(error) = shared.layout.remove_segment(&files.folder, segment.base) {
                tracing::warn!(error = error.report(), "compacted segment is not removed yet");
            }
        }
        Ok(Swapped::Done)
    }

    fn new_partitions(&mut self, id: TopicId, first: u32, spec: &TopicSpec, shared: &Shared) {
        for partition in spec.topic_partitions().skip(first as usize) {
            let place = Place { topic: id, partition: partition.partition };
            let writer = PartitionWriter::new(shared.layout.partition(&partition), &spec.config, None);
            self.partitions.insert(place, writer);
        }
    }

    /// Gives back the room on the disk that is kept for what may never come.
    pub(super) fn give_room_back(&mut self) -> Result<()> {
        let Self { partitions, files, .. } = self;
        partitions.values_mut().try_for_each(|partition| partition.give_room_back(files))
    }

    /// Closes files that are about to be removed: what they hold need not come to the disk before.
    pub(super) fn close(&mut self, removals: &[Removal]) {
        removals.iter().for_each(|removal| close(&mut self.files, removal));
    }

    /// As [`Books::close`], for topics that go next. Segments that somebody deletes are synced before they go: a power cut may leave the
    /// last of a partition and take the one behind it, and what the journal says of it must hold then, or the log ends in front of
    /// the entry that was the reason for the others to go.
    pub(super) fn close_deleted_topics(&mut self) {
        let Self { files, removals, .. } = self;
        let topics = removals.iter().filter(|removal| matches!(removal, Removal::Topic(..)));
        topics.for_each(|removal| close(files, removal));
    }

    /// Takes back that files are closed which are not removed yet: a checkpoint that was to say so was not made.
    pub(super) fn reopen(&mut self, removals: &[Removal]) {
        for removal in removals {
            if let Removal::Segments(_, folder, segments) = removal {
                let paths = segments.iter().map(|segment| log_file(folder, segment.base));
                paths.for_each(|path| self.files.sync_again(path));
            }
        }
    }

    /// Removes the files that are of no use any more; after an error the rest are removed the next time. The entries that
    /// say so must be on disk.
    pub(in crate::log) fn remove_files(&mut self, shared: &Shared) -> Result<()> {
        let mut removals = mem::take(&mut self.removals).into_iter();
        while let Some(removal) = removals.next() {
            if let Err(error) = self.remove(&removal, shared) {
                self.removals = iter::once(removal).chain(removals).collect();
                return Err(error);
            }
        }
        Ok(())
    }

    fn remove(&mut self, removal: &Removal, shared: &Shared) -> Result<()> {
        close(&mut self.files, removal);
        match removal {
            Removal::Topic(id, name) => {
                shared.reader.forget_topic(*id);
                self.to_sweep |= shared.layout.set_deleted_aside(name, *id)?;
                self.files.removed_from(&shared.layout.topics());
            }
            Removal::Segments(topic, folder, segments) => {
                for Segment { base, length, .. } in segments {
                    if *length > FREED_AT_ONCE_BYTES_MAX && self.unlinked.len() < UNLINKED_MAX {
                        // Without it, its room is freed here and now.
                        self.unlinked.extend(shared.layout.fs.open(&log_file(folder, *base), Open::Read));
                    }
                    shared.reader.forget(*topic, folder, *base);
                    shared.layout.remove_segment(folder, *base)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the batches of some partitions to their files before they are in the journal, all or none.
    ///
    /// # Errors
    /// `Full`: nothing has changed. After another one the log must stop.
    pub(in crate::log) fn file(
        &mut self,
        batches: BTreeMap<Place, Vec<RecordBatch>>,
        shared: &Shared,
    ) -> Result<Vec<FiledRun>> {
        for place in batches.keys() {
            let partition = self.partitions.get_mut(place).map(|partition| (*place, partition));
            write(partition, &mut self.files, &mut self.unsynced_bytes, shared)?;
        }
        let mut filed = Vec::new();
        let mut standings = Vec::new();
        for (place, batches) in batches {
            let writer = self.partitions.get_mut(&place).expect("a checkpoint knows the partition");
            let (first, last) = batches.first().zip(batches.last()).expect("there is something to file");
            standings.push((place, writer.standing(first.base_offset())));
            let (end, bytes) = (last.next_offset(), batches.iter().map(|batch| batch.bytes().len()).sum());
            match writer.file(&mut self.files, batches) {
                Ok(segments) => filed.push(FiledRun { place, segments, end, bytes }),
                Err(error) => {
                    for (place, standing) in standings {
                        let writer = self.partitions.get_mut(&place).expect("it was just there");
                        writer.take_back(&mut self.files, standing)?;
                    }
                    return Err(error);
                }
            }
        }
        Ok(filed)
    }

    /// Puts on disk what was filed.
    pub(super) fn sync(&mut self, run: &FiledRun, shared: &Shared) -> Result<()> {
        // With what lies in files before it, of which the journal says so too.
        let Some(writer) = self.partitions.get(&run.place) else { return Ok(()) };
        self.files.take_unsynced_in(writer.folder()).sync(&shared.layout)
    }

    /// Whether there is more in memory than there should be.
    pub(in crate::log) fn is_tail_too_long(&self, shared: &Shared) -> bool {
        self.tail_bytes > shared.options.tail_bytes_max
    }

    /// Writes and forgets the oldest batches when there are too many in memory, and forgets those that lie in files when there are many.
    pub(in crate::log) fn bound_tail(&mut self, shared: &Shared) -> Result<()> {
        let bytes_max = shared.options.tail_bytes_max;
        if self.tail_bytes > bytes_max / IN_FILES_PART && self.is_oldest_written() {
            self.evict(bytes_max / IN_FILES_PART / 2, shared);
        }
        if !self.is_tail_too_long(shared) {
            return Ok(());
        }
        let written = self.write_out(shared);
        self.evict(bytes_max / 2, shared);
        written
    }

    /// Whether the oldest batch in memory does not wait to be written: else nothing can be forgotten, and readers need not be held up for it.
    fn is_oldest_written(&self) -> bool {
        let oldest = self.tail.front();
        oldest.and_then(|(place, base)| Some(!self.partitions.get(place)?.is_waiting(*base))).unwrap_or(true)
    }

    /// Forgets the oldest batches until so many bytes are left, or one does not lie in files.
    fn evict(&mut self, bytes: usize, shared: &Shared) {
        let mut visible = shared.visible_mut();
        while self.tail_bytes > bytes
            && let Some((place, base)) = self.tail.front().copied()
        {
            if visible.is_in_memory(place, base) {
                let Some(evicted) = visible.evict(place, base) else { break };
                self.tail_bytes -= evicted.bytes().len() + BATCH_OVERHEAD_BYTES;
                shared.spare.keep(evicted);
            } else {
                self.stale = self.stale.saturating_sub(1);
            }
            self.tail.pop_front();
        }
    }

    /// Writes everything to segments, then tells readers of what was written.
    pub(super) fn write_out(&mut self, shared: &Shared) -> Result<()> {
        self.long.clear();
        let Self { partitions, files, unsynced_bytes, .. } = self;
        let all = partitions.iter_mut().map(|(place, partition)| (*place, partition));
        write(all, files, unsynced_bytes, shared)
    }

    /// Writes those partitions to their segments of which much waits, while it is still in the processor's cache, and so that a
    /// checkpoint has little left to write at once.
    pub(super) fn write_long(&mut self, shared: &Shared) -> Result<()> {
        let long = mem::take(&mut self.long);
        let Self { partitions, files, unsynced_bytes, .. } = self;
        for place in long {
            let partition = partitions.get_mut(&place).map(|partition| (place, partition));
            write(partition, files, unsynced_bytes, shared)?;
        }
        Ok(())
    }
}

/// Closes files that go.
fn close(files: &mut WriteFiles, removal: &Removal) {
    match removal {
        Removal::Topic(_, name) => {
            let folder = files.layout.topic(name);
            files.forget_folder(&folder);
        }
        Removal::Segments(_, folder, segments) => {
            let paths = segments.iter().flat_map(|segment| segment_files(folder, segment.base));
            paths.for_each(|path| files.forget(&path));
        }
    }
}

/// So much of a partition is written to its segment before a checkpoint has to.
fn early_bytes(shared: &Shared) -> u64 {
    shared.options.checkpoint_bytes / EARLY_PARTS
}

fn write<'a>(
    partitions: impl IntoIterator<Item = (Place, &'a mut PartitionWriter)>,
    files: &mut WriteFiles,
    unsynced_bytes: &mut u64,
    shared: &Shared,
) -> Result<()> {
    let mut written = Vec::new();
    let mut result = Ok(());
    for (place, partition) in partitions {
        let (mut segments, before) = (Vec::new(), partition.unwritten_bytes());
        let (end, wrote) = partition.write_out(files, &mut segments);
        *unsynced_bytes += (before - partition.unwritten_bytes()) as u64;
        written.extend(end.map(|end| (place, segments, end)));
        result = wrote;
        if result.is_err() {
            break;
        }
    }
    if !written.is_empty() {
        let mut visible = shared.visible_mut();
        written.iter().for_each(|(place, segments, end)| visible.wrote(*place, segments, *end));
    }
    result
}

/// Where the partitions of a topic are.
fn places(topic: TopicId) -> std::ops::RangeInclusive<Place> {
    Place { topic, partition: Partition(0) }..=Place { topic, partition: Partition(u32::MAX) }
}
