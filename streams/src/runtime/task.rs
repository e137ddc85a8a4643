//! One sub-topology on one partition. Processing is synchronous: no I/O but its own state, no clock, no await.

use bytes::Bytes;
use headwater_core::{
    Error, ErrorKind, Headers, Log, Offset, Partition, Positions, Producer, ProducerName, RecordRef, Result,
    StateBackend, StateBatch, StoreId, TaskId, Timestamp, TopicPartition,
};

use super::{
    board::{Board, Progress},
    context::{SinkBuffer, TaskContext},
    inputs::Inputs,
    lanes::{Choice, choose},
    metrics::TaskMetrics,
    plan::Plan,
    positions::Metadata,
    restore::restore,
    settings::ErrorPolicy,
};
use crate::ops::source::Source;

/// What a failed record becomes, with the topic's buffer where one is needed.
enum OnError {
    Fail,
    Skip,
    DeadLetter(Box<SinkBuffer>),
}

pub(crate) struct Task {
    id: TaskId,
    group: headwater_core::GroupId,
    inputs: Inputs,
    sources: Vec<Box<dyn Source>>,
    context: TaskContext,
    changelogs: Vec<Changelog>,
    pub(super) producer: Box<dyn Producer>,
    on_error: OnError,
    metrics: TaskMetrics,
    /// Memory for the tables of one store, in bytes.
    store_bytes_max: usize,
    /// Records taken since the last commit.
    uncommitted: u64,
    /// Bytes held by the producer since the last commit.
    pub(super) pending_bytes: usize,
}

/// The changelog of one store.
struct Changelog {
    /// Place of the store in the topology.
    store: usize,
    slot: StoreId,
    partition: TopicPartition,
    buffer: SinkBuffer,
    /// End of what was committed.
    next: Offset,
}

impl Task {
    /// Fences earlier owners of the task, brings its state up to date and goes to where the last commit was.
    pub(crate) async fn open(
        id: TaskId,
        plan: &Plan,
        log: &dyn Log,
        backend: &dyn StateBackend,
    ) -> Result<Self> {
        let producer = log.producer(&ProducerName(format!("{}-{id}", plan.settings.application_id))).await?;
        let resolved = &plan.subtopologies[id.subtopology as usize];
        let indexes = plan.topology.stores_of(id.subtopology);
        let names: Vec<String> =
            indexes.iter().map(|store| plan.topology.stores[*store].name.clone()).collect();
        let mut task = Self {
            id,
            group: plan.group.clone(),
            inputs: Inputs::new(id, resolved, plan.settings.input_order),
            sources: plan.topology.instantiate(id.subtopology),
            context: TaskContext {
                id,
                stream_time: Timestamp::MIN,
                stores: (0..plan.topology.stores.len()).map(|_| None).collect(),
                state: backend.open(id, &names)?,
                sinks: (resolved.sinks.iter())
                    .map(|s| SinkBuffer::new(&s.topic, s.partitions, s.repartition.then_some(id.partition.0)))
                    .collect(),
                scratch: Vec::new(),
            },
            changelogs: Vec::new(),
            producer,
            on_error: on_error(plan),
            metrics: TaskMetrics::default(),
            store_bytes_max: plan.settings.memory_bytes / plan.store_count().max(1),
            uncommitted: 0,
            pending_bytes: 0,
        };
        let clocks = task.seek(log).await?;
        for (slot, store) in (0..).zip(indexes) {
            task.open_store(store, StoreId(slot), &clocks, plan, log).await?;
        }
        Ok(task)
    }

    async fn seek(&mut self, log: &dyn Log) -> Result<Vec<(String, i64)>> {
        let mut clocks = Vec::new();
        for at in 0..self.inputs.inputs.len() {
            let partition = &self.inputs.inputs[at].partition;
            let committed = log.committed(&self.group, partition).await?;
            let metadata = committed.as_ref().map(Metadata::of).transpose();
            let metadata =
                metadata.map_err(|e| e.context(format!("group={}, partition={partition}", self.group)))?;
            self.inputs.seek(at, metadata.as_ref(), log).await?;
            if let Some(metadata) = metadata {
                self.context.stream_time = self.context.stream_time.max(metadata.stream_time());
                clocks = metadata.clocks;
            }
        }
        Ok(clocks)
    }

    async fn open_store(
        &mut self,
        index: usize,
        slot: StoreId,
        clocks: &[(String, i64)],
        plan: &Plan,
        log: &dyn Log,
    ) -> Result<()> {
        let node = &plan.topology.stores[index];
        let mut store = node.build.build(slot);
        if let Some((_, clock)) = clocks.iter().find(|(name, _)| *name == node.name) {
            store.set_clock(Timestamp(*clock));
        }
        let partition = TopicPartition::new(plan.changelog(index)?, self.id.partition);
        let context = |e: Error| e.context(format!("task={}, store=`{}`", self.id, node.name));
        let state = &mut *self.context.state;
        let (restored, next) = restore(log, &partition, (slot, &*store), state).await.map_err(context)?;
        store.open(state).map_err(context)?;
        self.metrics.restored += restored;
        self.context.stores[index] = Some(store);
        let tasks = plan.subtopologies[self.id.subtopology as usize].tasks;
        let count = std::num::NonZeroU32::new(tasks).expect("a task that runs is one of at least one");
        let buffer = SinkBuffer::new(&partition.topic, count, None);
        self.changelogs.push(Changelog { store: index, slot, partition, buffer, next });
        Ok(())
    }

    pub(crate) fn id(&self) -> TaskId {
        self.id
    }

    pub(crate) fn stream_time(&self) -> Timestamp {
        self.context.stream_time
    }

    pub(crate) fn metrics(&mut self) -> TaskMetrics {
        let late = self.context.stores().map(|store| store.late()).sum();
        TaskMetrics { late, ..self.metrics }
    }

    /// Reads what the task can take next.
    pub(crate) async fn fill(&mut self, log: &dyn Log, board: &Board) -> Result<()> {
        self.inputs.fill(log, board).await.map_err(|e| e.context(format!("task={}", self.id)))
    }

    /// Takes up to `records_max` records from its lanes; fewer when they have no more, or one must be looked at again.
    pub(crate) fn process(&mut self, records_max: usize) -> Result<usize> {
        let mut taken = 0;
        while taken < records_max {
            match choose(&self.inputs.lanes) {
                Choice::Look => break,
                Choice::Take { lane, below } => taken += self.take(lane, below, records_max - taken)?,
            }
        }
        if taken > 0 {
            self.sources.iter_mut().try_for_each(|source| source.flush(&mut self.context))?;
            self.close_batches(false)?;
            self.uncommitted += taken as u64;
            self.metrics.records += taken as u64;
        }
        Ok(taken)
    }

    /// Takes records from one lane while they come before everything in the others.
    fn take(&mut self, at: usize, below: (Timestamp, usize), records_max: usize) -> Result<usize> {
        let input = &self.inputs.inputs[self.inputs.lanes[at].input];
        let lane = &mut self.inputs.lanes[at];
        let source = &mut self.sources[input.source];
        let context = &mut self.context;
        let mut taken = 0;
        while let Some(record) = lane.head() {
            context.stream_time = context.stream_time.max(record.timestamp);
            let outcome = match &mut self.on_error {
                OnError::Fail => source.process(record, context),
                policy => {
                    context.begin_record();
                    source.process(record, context).or_else(|error| {
                        context.roll_back();
                        policy.apply(error, record, &input.partition, &mut self.metrics)
                    })
                }
            };
            if let Err(error) = outcome {
                let offset = record.offset;
                let place = format!("task={}, topic={}, offset={offset}", self.id, input.partition);
                return Err(error.context(place));
            }
            taken += 1;
            for sink in &mut context.sinks {
                self.pending_bytes += sink.close_batches(false, &mut *self.producer)?;
            }
            let more = lane.take()?;
            if !more || taken == records_max || lane.head_time().is_none_or(|time| (time, at) >= below) {
                break;
            }
        }
        Ok(taken)
    }

    fn close_batches(&mut self, all: bool) -> Result<()> {
        for sink in &mut self.context.sinks {
            self.pending_bytes += sink.close_batches(all, &mut *self.producer)?;
        }
        if let OnError::DeadLetter(letters) = &mut self.on_error {
            self.pending_bytes += letters.close_batches(all, &mut *self.producer)?;
        }
        Ok(())
    }

    /// Whether a commit would have something to do.
    pub(crate) fn is_dirty(&self) -> bool {
        self.uncommitted > 0
    }

    /// Hands all output and the changelogs to the producer, and says which positions go with them.
    pub(super) fn prepare_commit(&mut self) -> Result<Positions> {
        self.close_batches(true)?;
        for changelog in &mut self.changelogs {
            let store =
                self.context.stores[changelog.store].as_mut().expect("a store with a changelog is open");
            let (buffer, partition) = (&mut changelog.buffer, self.id.partition);
            let (producer, pending) = (&mut *self.producer, &mut self.pending_bytes);
            store.take_changes(&mut |key, value, timestamp| {
                buffer.push(partition, timestamp, Some(key), value, (&Headers::new(), Timestamp::MIN));
                *pending += buffer.close_batches(false, producer)?;
                Ok(())
            })?;
            self.pending_bytes += changelog.buffer.close_batches(true, &mut *self.producer)?;
        }
        let clocks: Vec<(String, i64)> = self.clocks();
        let mut committed = Vec::with_capacity(self.inputs.inputs.len());
        for (at, input) in self.inputs.inputs.iter().enumerate() {
            let stream_time = self.context.stream_time.0;
            let metadata = Metadata { lanes: self.inputs.positions(at), stream_time, clocks: clocks.clone() };
            committed.push((input.partition.clone(), metadata.commit()?));
        }
        Ok(Positions { group: self.group.clone(), committed })
    }

    /// Operator times by the name of their store, which is the changelog's without what the runtime put around it.
    fn clocks(&self) -> Vec<(String, i64)> {
        let clock = |changelog: &Changelog| {
            let clock = self.context.stores[changelog.store].as_ref()?.clock()?;
            Some((changelog.store_name(&self.group), clock.0))
        };
        self.changelogs.iter().filter_map(clock).collect()
    }

    /// Called only after the log accepted the commit: state may lag the log, and never leads it.
    pub(super) fn committed(&mut self, written: &[headwater_core::Written]) -> Result<()> {
        self.metrics.commits += 1;
        self.metrics.written += written.iter().map(|w| w.next.0 - w.base.0).sum::<u64>();
        self.uncommitted = 0;
        self.pending_bytes = 0;
        for changelog in &mut self.changelogs {
            if let Some(end) = written.iter().find(|w| w.partition == changelog.partition) {
                changelog.next = end.next;
            }
        }
        let max = self.store_bytes_max;
        if self.context.stores().any(|store| store.bytes() > max) {
            self.spill(true)?;
        }
        Ok(())
    }

    /// Writes all committed changes to the state engine, in bulk, with the changelog positions they lead to.
    pub(crate) fn spill(&mut self, evict: bool) -> Result<()> {
        let mut batch = StateBatch::default();
        for changelog in &self.changelogs {
            let store =
                self.context.stores[changelog.store].as_mut().expect("a store with a changelog is open");
            store.spill(&mut batch)?;
            batch.position(changelog.slot, changelog.next);
        }
        if !batch.is_empty() {
            self.context.state.write(&batch)?;
        }
        if evict {
            self.context.stores().for_each(|store| store.evict());
        }
        Ok(())
    }

    /// How far the task is, once everything it took is committed.
    pub(crate) fn progress(&self) -> Progress {
        Progress { time: self.context.stream_time, behind: self.is_dirty() || !self.inputs.are_caught_up() }
    }
}

impl Changelog {
    fn store_name(&self, group: &headwater_core::GroupId) -> String {
        let name = self.partition.topic.as_str();
        let name = name.strip_prefix(&format!("{group}-")).unwrap_or(name);
        name.strip_suffix("-changelog").unwrap_or(name).to_owned()
    }
}

fn on_error(plan: &Plan) -> OnError {
    match (&plan.settings.on_error, &plan.dead_letters) {
        (ErrorPolicy::Fail, _) => OnError::Fail,
        (ErrorPolicy::DeadLetter(_), Some((topic, partitions))) => {
            OnError::DeadLetter(Box::new(SinkBuffer::new(topic, *partitions, None)))
        }
        (ErrorPolicy::Skip | ErrorPolicy::DeadLetter(_), _) => OnError::Skip,
    }
}

impl OnError {
    /// Decides about a record whose effects were taken back. Only errors of user code and serdes are the record's own.
    #[cold]
    fn apply(
        &mut self,
        error: Error,
        record: RecordRef<'_>,
        partition: &TopicPartition,
        metrics: &mut TaskMetrics,
    ) -> Result<()> {
        if error.kind() != ErrorKind::Processing {
            return Err(error);
        }
        let offset = record.offset;
        match self {
            OnError::Fail => return Err(error),
            OnError::Skip => {
                metrics.skipped += 1;
                tracing::warn!(%partition, %offset, error = error.report(), "record skipped");
            }
            OnError::DeadLetter(letters) => {
                metrics.dead_letters += 1;
                tracing::warn!(%partition, %offset, error = error.report(), "record sent to the dead-letter topic");
                let text = |text: String| Bytes::from(text.into_bytes());
                let why = Headers::new()
                    .with("__streams.errors.exception", text(format!("{:?}", error.kind())))
                    .with("__streams.errors.message", text(error.report()))
                    .with("__streams.errors.topic", text(partition.topic.to_string()))
                    .with("__streams.errors.partition", text(partition.partition.to_string()))
                    .with("__streams.errors.offset", text(offset.to_string()));
                let to = Partition(partition.partition.0 % letters.partitions());
                letters.push_raw(to, record, &why);
            }
        }
        Ok(())
    }
}
