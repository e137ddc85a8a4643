//! The log as a phase of a replay sees it: sources cut to what is replayed, everything else in the replay's own log.

mod counted;
mod producer;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use headwater_core::{
    Committed, Error, Fetched, GroupId, Log, LogVersion, Member, Offset, Partition, PartitionOffsets,
    Positions, Producer, ProducerName, RecordBatch, RecordRef, Result, Subscription, TimedOffset, Timestamp,
    TopicConfig, TopicName, TopicPartition, TopicSpec,
};

use self::{counted::Counted, producer::ViewProducer};
use super::{
    cut::{Cut, Part},
    plan::Plan,
    positions::PositionsTopic,
    progress::Gauge,
};
use crate::Topology;

/// What a phase works on. A clone is the same view.
#[derive(Clone)]
pub(super) struct View(Arc<Inner>);

struct Inner {
    source: Arc<dyn Log>,
    own: Arc<dyn Log>,
    phase: usize,
    sources: Vec<SourceView>,
    places: BTreeMap<TopicPartition, usize>,
    positions: PositionsTopic,
    /// In a phase that writes no output: the topics that it does write.
    kept: Option<BTreeSet<TopicName>>,
    /// Records that were not written.
    dropped: Mutex<BTreeMap<TopicName, u64>>,
    gauges: Arc<[Gauge]>,
}

struct SourceView {
    partition: TopicPartition,
    cut: Cut,
    counted: Mutex<Counted>,
}

impl SourceView {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    /// Of phase number `phase`; it writes only the topics in `kept`, if there are any given.
    pub(super) fn new(
        plan: &Plan,
        phase: usize,
        (source, own): (Arc<dyn Log>, Arc<dyn Log>),
        kept: Option<BTreeSet<TopicName>>,
    ) -> Result<Self> {
        let mut sources = Vec::with_capacity(plan.sources.len());
        for planned in &plan.sources {
            let cut = planned.cuts.get(phase).copied().unwrap_or(Cut::nothing(Offset(0)));
            let counted = Mutex::new(Counted::new(cut.begin, 0));
            sources.push(SourceView { partition: planned.partition()?, cut, counted });
        }
        let places = sources.iter().enumerate().map(|(at, source)| (source.partition.clone(), at)).collect();
        let gauges = sources.iter().map(|source| Gauge::new(source.cut.begin.0, source.cut.end.0)).collect();
        Ok(Self(Arc::new(Inner {
            source,
            own,
            phase,
            sources,
            places,
            positions: PositionsTopic::of(plan)?,
            kept,
            dropped: Mutex::default(),
            gauges,
        })))
    }

    pub(super) fn gauges(&self) -> Arc<[Gauge]> {
        Arc::clone(&self.0.gauges)
    }

    /// Records that were not written, by topic.
    pub(super) fn dropped(&self) -> BTreeMap<TopicName, u64> {
        self.0.dropped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lowest time at which a source goes on: where event time begins when nothing more was taken.
    pub(super) async fn first_time(&self, topology: &Topology) -> Result<Option<Timestamp>> {
        let mut first: Option<Timestamp> = None;
        for (at, source) in self.0.sources.iter().enumerate() {
            let place = (self.0.phase, at);
            let resumed = self.0.positions.resumed(&*self.0.own, place, source.cut.begin).await?;
            let so_far = Timestamp(resumed.time());
            let extract = topology.extract_of(&source.partition.topic);
            let position = resumed.task.lanes.first().map_or(source.cut.begin, |lane| Offset(lane.offset));
            let found = self.first_of((at, source), position, |record| {
                let time = extract.as_ref().map_or(record.timestamp, |extract| extract(record, so_far));
                time.max(so_far)
            });
            if let Some(time) = found.await? {
                first = Some(first.map_or(time, |first| first.min(time)));
            }
        }
        Ok(first)
    }

    /// What `of` makes of the first record from a position on.
    async fn first_of<T>(
        &self,
        source: (usize, &SourceView),
        position: Offset,
        of: impl Fn(RecordRef<'_>) -> T,
    ) -> Result<Option<T>> {
        let mut next = position;
        while next < source.1.cut.end {
            let read = self.0.read_source(source, next, 0).await?;
            for batch in &read.batches {
                next = batch.next_offset();
                let mut cursor = batch.cursor();
                while let Some(record) = cursor.next().transpose()? {
                    if record.offset >= position {
                        return Ok(Some(of(record)));
                    }
                }
            }
        }
        Ok(None)
    }
}

impl Inner {
    fn source_of(&self, partition: &TopicPartition) -> Option<(usize, &SourceView)> {
        let at = *self.places.get(partition)?;
        Some((at, self.sources.get(at)?))
    }

    async fn read_source(
        &self,
        (at, source): (usize, &SourceView),
        from: Offset,
        bytes_max: usize,
    ) -> Result<Fetched> {
        let cut = source.cut;
        if from < cut.begin {
            return Err(Error::invalid(format!(
                "a read before the part of the partition that is replayed. partition={}, offset={from}, begin={}",
                source.partition, cut.begin
            )));
        }
        self.gauges[at].looked_at(from.0);
        source.counted().read(from);
        let mut fetched = Fetched { batches: Vec::new(), end: cut.end };
        if from >= cut.end {
            return Ok(fetched);
        }
        let read = self.source.read(&source.partition, from, bytes_max).await;
        let read = read.map_err(|e| {
            e.context("what is replayed cannot be read: was it deleted since the plan was made?")
        })?;
        if read.batches.is_empty() {
            return Err(Error::invalid(format!(
                "what is replayed ends before the end that the plan found: was the topic made anew? partition={}, \
                 offset={from}, expected end={}",
                source.partition, cut.end
            )));
        }
        let mut counted = source.counted();
        fetched.batches.reserve_exact(read.batches.len());
        let mut skipped: Option<(Offset, Offset)> = None;
        for batch in read.batches {
            let (base, next) = (batch.base_offset(), batch.next_offset());
            if base >= cut.end {
                break;
            }
            let part = cut.part(batch);
            let part = part.map_err(|e| e.context(format!("partition={}", source.partition)))?;
            let (Part::Whole(batch) | Part::Some(batch)) = part else {
                skipped = Some((skipped.map_or(base, |(first, _)| first), next));
                continue;
            };
            if let Some((first, next)) = skipped.take() {
                push_empty(&mut fetched.batches, first, next)?;
            }
            counted.give(&batch)?;
            fetched.batches.push(batch);
        }
        if let Some((first, next)) = skipped {
            push_empty(&mut fetched.batches, first, next)?;
        }
        Ok(fetched)
    }
}

/// Offsets of which nothing is replayed are covered all the same: readers go on behind them.
fn push_empty(batches: &mut Vec<RecordBatch>, mut from: Offset, until: Offset) -> Result<()> {
    while from < until {
        let empty = RecordBatch::empty(from, until)?;
        from = empty.next_offset();
        batches.push(empty);
    }
    Ok(())
}

#[async_trait]
impl Log for View {
    async fn create_topic(&self, spec: &TopicSpec) -> Result<()> {
        self.0.own.create_topic(spec).await
    }

    /// The sources, as wide as they are replayed, and what the replay has made.
    async fn topics(&self) -> Result<Vec<TopicSpec>> {
        let mut topics: BTreeMap<TopicName, TopicSpec> = BTreeMap::new();
        for source in &self.0.sources {
            let TopicPartition { topic, partition: Partition(number) } = &source.partition;
            let spec = topics.entry(topic.clone()).or_insert_with(|| TopicSpec {
                name: topic.clone(),
                partitions: std::num::NonZeroU32::MIN,
                config: TopicConfig::default(),
            });
            spec.partitions = spec.partitions.max(std::num::NonZeroU32::MIN.saturating_add(*number));
        }
        for spec in self.0.own.topics().await? {
            if spec.name != *self.0.positions.name() {
                topics.entry(spec.name.clone()).or_insert(spec);
            }
        }
        Ok(topics.into_values().collect())
    }

    async fn offsets(&self, partition: &TopicPartition) -> Result<PartitionOffsets> {
        match self.0.source_of(partition) {
            Some((_, source)) => Ok(PartitionOffsets { earliest: source.cut.begin, end: source.cut.end }),
            None => self.0.own.offsets(partition).await,
        }
    }

    async fn read(&self, partition: &TopicPartition, from: Offset, bytes_max: usize) -> Result<Fetched> {
        match self.0.source_of(partition) {
            Some(source) => self.0.read_source(source, from, bytes_max).await,
            None => self.0.own.read(partition, from, bytes_max).await,
        }
    }

    async fn offset_at(&self, partition: &TopicPartition, time: Timestamp) -> Result<Option<TimedOffset>> {
        let Some((_, source)) = self.0.source_of(partition) else {
            return self.0.own.offset_at(partition, time).await;
        };
        let Some(first) = self.0.source.offset_at(partition, time).await? else { return Ok(None) };
        let mut next = first.offset.max(source.cut.begin);
        while next < source.cut.end {
            let read = self.0.source.read(partition, next, 0).await?;
            let Some(last) = read.batches.last() else { break };
            next = last.next_offset();
            for batch in &read.batches {
                let mut cursor = batch.cursor();
                while let Some(record) = cursor.next().transpose()? {
                    if record.timestamp >= time && source.cut.holds(record.offset, record.timestamp) {
                        let (offset, timestamp) = (record.offset, record.timestamp);
                        return Ok(Some(TimedOffset { offset, timestamp }));
                    }
                }
            }
        }
        Ok(None)
    }

    async fn producer(&self, name: &ProducerName) -> Result<Box<dyn Producer>> {
        let inner = self.0.own.producer(name).await?;
        Ok(Box::new(ViewProducer::new(inner, Arc::clone(&self.0))))
    }

    /// Of a source there always is one, so that none begins where it would by itself.
    async fn committed(&self, group: &GroupId, partition: &TopicPartition) -> Result<Option<Committed>> {
        let Some((at, source)) = self.0.source_of(partition) else {
            return self.0.own.committed(group, partition).await;
        };
        let place = (self.0.phase, at);
        let read = self.0.positions.resumed(&*self.0.own, place, source.cut.begin).await?;
        let committed = read.task.commit()?;
        source.counted().committed(committed.offset, read.records);
        self.0.gauges[at].committed(committed.offset.0, read.records, read.time());
        Ok(Some(committed))
    }

    async fn commit_positions(&self, positions: &Positions) -> Result<()> {
        let (placed, _) = self.0.place(positions)?;
        self.0.own.commit_positions(&placed).await
    }

    async fn join(&self, _: &GroupId, _: &Subscription) -> Result<Box<dyn Member>> {
        Err(Error::invalid("nobody can be a member of a replay: its tasks are divided within one process"))
    }

    /// The sources do not grow for a replay.
    async fn appended(&self, seen: LogVersion) -> Result<LogVersion> {
        self.0.own.appended(seen).await
    }
}
