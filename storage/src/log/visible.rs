//! What readers see. Changes as a whole: nobody sees half a commit.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use headwater_core::{
    Committed, GroupId, Offset, PartitionOffsets, RecordBatch, Result, TopicConfig, TopicName,
    TopicPartition, TopicSpec,
    ledger::{self, Entry, Place, TopicId},
};

use super::{
    layout::Layout,
    partition::{self, FileSpan, Segment},
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
    end: Offset,
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

impl Visible {
    /// Shows an entry, which is durable, to readers.
    pub(super) fn apply(&mut self, entry: Entry, layout: &Layout) {
        match entry {
            Entry::TopicCreated { id, spec } => {
                let partitions = spec.topic_partitions().map(|partition| VisiblePartition {
                    end: Offset(0),
                    tail: VecDeque::new(),
                    files: partition::empty_span(layout.partition(&partition)),
                });
                let partitions = partitions.collect();
                self.names.insert(spec.name.clone(), id);
                self.topics.insert(id, VisibleTopic { spec, partitions });
            }
            Entry::Batch { place, batch } => {
                self.batch_bytes_largest = self.batch_bytes_largest.max(batch.bytes().len());
                let partition = self.partition_mut(place);
                assert_eq!(partition.end, batch.base_offset(), "the ledger gave the batch its place");
                partition.end = batch.next_offset();
                partition.tail.push_back(batch);
            }
            Entry::Positions(positions) => {
                self.positions.entry(positions.group).or_default().extend(positions.committed);
            }
            // Nobody asks this log for those yet.
            _ => {}
        }
    }

    fn partition_mut(&mut self, place: Place) -> &mut VisiblePartition {
        let topic = self.topics.get_mut(&place.topic).expect("the ledger knows the topic");
        &mut topic.partitions[place.partition.0 as usize]
    }

    /// Sets what was in files when the log was opened.
    pub(super) fn restore_files(&mut self, place: Place, files: FileSpan) {
        let partition = self.partition_mut(place);
        partition.end = files.end;
        partition.files = Arc::new(files);
    }

    /// Takes note of segments that were written or begun.
    pub(super) fn wrote(&mut self, place: Place, segments: &[Segment], end: Offset) {
        Arc::make_mut(&mut self.partition_mut(place).files).extend(segments, end);
    }

    /// Forgets the oldest batch in memory of a partition; it is in files.
    pub(super) fn evict(&mut self, place: Place) -> Option<RecordBatch> {
        let partition = self.partition_mut(place);
        let oldest = partition.tail.pop_front();
        let written = oldest.as_ref().is_none_or(|batch| batch.next_offset() <= partition.files.end);
        assert!(written, "only what is in files is forgotten");
        oldest
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
        let (_, visible) = self.find(partition)?;
        Ok(PartitionOffsets { earliest: Offset(0), end: visible.end })
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
        let end = visible.end;
        ledger::check_range(partition, from, PartitionOffsets { earliest: Offset(0), end })?;
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
