//! What readers see. Changes as a whole: nobody sees half a commit.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use headwater_core::{
    BatchHeader, Committed, GroupId, Offset, PartitionOffsets, RecordBatch, Result, Timestamp, TopicConfig,
    TopicName, TopicPartition, TopicSpec,
    ledger::{self, Entry, Place, TopicId},
};

use super::{
    layout::Layout,
    span::{FileSpan, Segment},
};

/// Topics, tails and positions, as of the last commit.
#[derive(Debug, Default)]
pub(super) struct Visible {
    names: BTreeMap<TopicName, TopicId>,
    topics: HashMap<TopicId, VisibleTopic>,
    positions: HashMap<GroupId, HashMap<Place, Committed>>,
    pub(super) batch_bytes_largest: usize,
}

#[derive(Debug)]
struct VisibleTopic {
    spec: TopicSpec,
    partitions: Vec<VisiblePartition>,
}

#[derive(Debug)]
struct VisiblePartition {
    offsets: PartitionOffsets,
    /// The newest batches. They may be in files too.
    tail: VecDeque<RecordBatch>,
    files: Arc<FileSpan>,
}

/// Where a read finds its batches.
#[derive(Debug)]
pub(super) enum Source {
    Memory(Vec<RecordBatch>),
    Files(Arc<FileSpan>),
}

/// What an entry took from sight.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    /// Batches that were in memory.
    pub(super) batches: usize,
    /// Their bytes.
    pub(super) bytes: usize,
    /// Segments in which nothing is left.
    pub(super) segments: Vec<Segment>,
}

impl Hidden {
    fn add(&mut self, batch: &RecordBatch) {
        self.batches += 1;
        self.bytes += batch.bytes().len();
    }
}

impl Visible {
    /// Shows an entry, which is durable, to readers.
    pub(super) fn apply(&mut self, entry: Entry, layout: &Layout) -> Hidden {
        match entry {
            Entry::TopicCreated { id, spec } => {
                let partitions = new_partitions(id, &spec, 0, layout);
                self.names.insert(spec.name.clone(), id);
                self.topics.insert(id, VisibleTopic { spec, partitions });
            }
            Entry::TopicAltered { id, config } => self.topic_mut(id).spec.config = config,
            Entry::PartitionsAdded { id, partitions } => {
                let topic = self.topic_mut(id);
                topic.spec.partitions = partitions;
                let new = new_partitions(id, &topic.spec, topic.partitions.len(), layout);
                topic.partitions.extend(new);
            }
            Entry::TopicDeleted { id } => return self.delete_topic(id),
            Entry::RecordsDeleted { place, before } => return self.delete_records(place, before),
            Entry::Batch { place, batch } => {
                self.batch_bytes_largest = self.batch_bytes_largest.max(batch.bytes().len());
                let partition = self.partition_mut(place);
                assert_eq!(partition.offsets.end, batch.base_offset(), "the ledger gave the batch its place");
                partition.offsets.end = batch.next_offset();
                partition.tail.push_back(batch);
            }
            Entry::Positions(positions) => {
                self.positions.entry(positions.group).or_default().extend(positions.committed);
            }
            Entry::GroupDeleted(group) => drop(self.positions.remove(&group)),
            Entry::ProducerOpened { .. } | Entry::ProducersReviewed { .. } => {}
        }
        Hidden::default()
    }

    /// Shows a batch that lies in files, and is not in memory.
    pub(super) fn pass(&mut self, place: Place, header: &BatchHeader) {
        self.batch_bytes_largest = self.batch_bytes_largest.max(header.size());
        let partition = self.partition_mut(place);
        assert!(partition.tail.is_empty(), "what is in memory comes behind what lies in files");
        partition.offsets.end = header.next_offset();
    }

    fn delete_topic(&mut self, id: TopicId) -> Hidden {
        let topic = self.topics.remove(&id).expect("the ledger knows the topic");
        self.names.remove(&topic.spec.name);
        for positions in self.positions.values_mut() {
            positions.retain(|place, _| place.topic != id);
        }
        self.positions.retain(|_, positions| !positions.is_empty());
        let mut hidden = Hidden::default();
        topic.partitions.iter().flat_map(|partition| &partition.tail).for_each(|batch| hidden.add(batch));
        hidden
    }

    fn delete_records(&mut self, place: Place, before: Offset) -> Hidden {
        let partition = self.partition_mut(place);
        partition.offsets.earliest = partition.offsets.earliest.max(before);
        let mut hidden = Hidden::default();
        let in_memory = partition.tail.partition_point(|batch| batch.next_offset() <= before);
        partition.tail.drain(..in_memory).for_each(|batch| hidden.add(&batch));
        hidden.segments = Arc::make_mut(&mut partition.files).cut_front(before);
        hidden
    }

    /// Shows `by` in the place of the segments from its base to before `next`, and its records to those who read what was
    /// in memory.
    pub(super) fn swap(&mut self, place: Place, by: Segment, next: Offset) -> Hidden {
        let partition = self.partition_mut(place);
        Arc::make_mut(&mut partition.files).swap(by, next);
        let mut hidden = Hidden::default();
        let in_memory = partition.tail.partition_point(|batch| batch.next_offset() <= next);
        partition.tail.drain(..in_memory).for_each(|batch| hidden.add(&batch));
        hidden
    }

    fn topic_mut(&mut self, id: TopicId) -> &mut VisibleTopic {
        self.topics.get_mut(&id).expect("the ledger knows the topic")
    }

    fn partition_mut(&mut self, place: Place) -> &mut VisiblePartition {
        &mut self.topic_mut(place.topic).partitions[place.partition.0 as usize]
    }

    /// Sets what was in files when the log was opened.
    pub(super) fn restore_files(&mut self, place: Place, offsets: PartitionOffsets, files: FileSpan) {
        let partition = self.partition_mut(place);
        partition.offsets = offsets;
        partition.files = Arc::new(files);
    }

    /// Takes note of segments that were written or begun.
    pub(super) fn wrote(&mut self, place: Place, segments: &[Segment], end: Offset) {
        Arc::make_mut(&mut self.partition_mut(place).files).extend(segments, end);
    }

    /// Takes note of the age of a segment, when it is still there.
    pub(super) fn learn(&mut self, place: Place, base: Offset, newest: Timestamp) {
        let files = Arc::make_mut(&mut self.partition_mut(place).files);
        let segment = files.segments.iter_mut().find(|segment| segment.base == base);
        segment.into_iter().for_each(|segment| segment.newest = Some(newest));
    }

    /// Whether the batch at `base` is in memory.
    pub(super) fn is_in_memory(&self, place: Place, base: Offset) -> bool {
        let partition = self.topics.get(&place.topic);
        let partition = partition.and_then(|topic| topic.partitions.get(place.partition.0 as usize));
        let oldest = partition.and_then(|partition| partition.tail.front());
        oldest.is_some_and(|oldest| oldest.base_offset() <= base)
    }

    /// Forgets the batch at `base`, which is the oldest in memory of its partition; `None` when it is not in files yet.
    pub(super) fn evict(&mut self, place: Place, base: Offset) -> Option<RecordBatch> {
        let partition = self.partition_mut(place);
        let oldest = partition.tail.front()?;
        assert_eq!(oldest.base_offset(), base, "both lists are in the order of the journal");
        let in_files = oldest.next_offset() <= partition.files.end;
        in_files.then(|| partition.tail.pop_front())?
    }

    pub(super) fn topic(&self, name: &TopicName) -> Option<&TopicSpec> {
        Some(&self.topics.get(self.names.get(name)?)?.spec)
    }

    pub(super) fn topics(&self) -> Vec<TopicSpec> {
        self.names.keys().filter_map(|name| self.topic(name).cloned()).collect()
    }

    /// Where a partition is kept, and the settings of its topic.
    pub(super) fn place_and_config(&self, partition: &TopicPartition) -> Result<(Place, &TopicConfig)> {
        let (place, _) = self.find(partition)?;
        let topic = self.topics.get(&place.topic).ok_or_else(|| ledger::unknown_partition(partition))?;
        Ok((place, &topic.spec.config))
    }

    /// Where a partition is kept.
    pub(super) fn place(&self, partition: &TopicPartition) -> Result<Place> {
        self.find(partition).map(|(place, _)| place)
    }

    fn find(&self, partition: &TopicPartition) -> Result<(Place, &VisiblePartition)> {
        let found = self.names.get(&partition.topic).and_then(|id| {
            let visible = self.topics.get(id)?.partitions.get(partition.partition.0 as usize)?;
            Some((Place { topic: *id, partition: partition.partition }, visible))
        });
        found.ok_or_else(|| ledger::unknown_partition(partition))
    }

    pub(super) fn offsets(&self, partition: &TopicPartition) -> Result<PartitionOffsets> {
        self.find(partition).map(|(_, visible)| visible.offsets)
    }

    /// What the batches of a partition take, in files or not.
    pub(super) fn size(&self, partition: &TopicPartition) -> Result<u64> {
        let (_, visible) = self.find(partition)?;
        let in_files = visible.tail.partition_point(|batch| batch.next_offset() <= visible.files.end);
        let unwritten = visible.tail.range(in_files..).map(|batch| batch.bytes().len() as u64);
        Ok(visible.files.bytes() + unwritten.sum::<u64>())
    }

    /// What of a partition is in files, and the batches in memory that have a record which is not older than `time`.
    pub(super) fn newer(
        &self,
        partition: &TopicPartition,
        time: Timestamp,
    ) -> Result<(Arc<FileSpan>, Vec<RecordBatch>)> {
        let (_, visible) = self.find(partition)?;
        let newer = visible.tail.iter().filter(|batch| batch.max_timestamp() >= time);
        Ok((Arc::clone(&visible.files), newer.cloned().collect()))
    }

    /// Whether what was read from `from` of `files` is what is there now.
    pub(super) fn agrees(&self, partition: &TopicPartition, files: &FileSpan, from: Offset) -> bool {
        let still = |visible: &VisiblePartition| visible.offsets.earliest <= from;
        let found = self.find(partition).ok().filter(|(_, visible)| still(visible));
        found.is_some_and(|(_, visible)| files.agrees(&visible.files, from))
    }

    /// What of a partition is in files; `None` when it is gone.
    pub(super) fn files(&self, place: Place) -> Option<Arc<FileSpan>> {
        let partition = self.topics.get(&place.topic)?.partitions.get(place.partition.0 as usize)?;
        Some(Arc::clone(&partition.files))
    }

    /// Name and settings of a topic by number.
    pub(super) fn spec(&self, id: TopicId) -> Option<&TopicSpec> {
        Some(&self.topics.get(&id)?.spec)
    }

    /// The groups that have committed something, by name.
    pub(super) fn groups(&self) -> Vec<GroupId> {
        let mut groups: Vec<_> = self.positions.keys().cloned().collect();
        groups.sort_unstable();
        groups
    }

    /// All that a group has committed, by partition.
    pub(super) fn positions(&self, group: &GroupId) -> Vec<(TopicPartition, Committed)> {
        let positions = self.positions.get(group).into_iter().flatten();
        let named = positions.filter_map(|(place, committed)| {
            let topic = self.spec(place.topic)?.name.clone();
            Some((TopicPartition::new(topic, place.partition), committed.clone()))
        });
        let mut named: Vec<_> = named.collect();
        named.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        named
    }

    pub(super) fn committed(&self, group: &GroupId, partition: &TopicPartition) -> Option<Committed> {
        self.positions.get(group)?.get(&self.place(partition).ok()?).cloned()
    }

    /// Where a read from `from` finds its batches, and the end as of now.
    pub(super) fn source(
        &self,
        partition: &TopicPartition,
        from: Offset,
        bytes_max: usize,
    ) -> Result<(Source, Offset)> {
        let (_, visible) = self.find(partition)?;
        let end = visible.offsets.end;
        ledger::check_range(partition, from, visible.offsets)?;
        let in_memory = visible.tail.front().map_or(end, RecordBatch::base_offset);
        if from < in_memory {
            return Ok((Source::Files(Arc::clone(&visible.files)), end));
        }
        let first = visible.tail.partition_point(|batch| batch.next_offset() <= from);
        let mut bytes = 0;
        let fits = |batch: &&RecordBatch| {
            let fits = bytes == 0 || bytes + batch.bytes().len() <= bytes_max;
            bytes += batch.bytes().len();
            fits
        };
        Ok((Source::Memory(visible.tail.range(first..).take_while(fits).cloned().collect()), end))
    }
}

/// The partitions of a topic from number `first` on, in which nothing was written yet.
fn new_partitions(id: TopicId, spec: &TopicSpec, first: usize, layout: &Layout) -> Vec<VisiblePartition> {
    let new = spec.topic_partitions().skip(first);
    new.map(|partition| VisiblePartition {
        offsets: PartitionOffsets { earliest: Offset(0), end: Offset(0) },
        tail: VecDeque::new(),
        files: FileSpan::empty(id, layout.partition(&partition), Offset(0)),
    })
    .collect()
}
