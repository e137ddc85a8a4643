//! One sub-topology on one partition. Processing is synchronous: no I/O but its own state, no clock, no await.

mod answers;
mod passing;
mod take;
mod write_behind;

pub(crate) use self::{passing::was_begun, write_behind::STATE_BATCH_BYTES};

use std::{sync::Arc, time::Duration};

use headwater_core::{
    Error, Headers, Log, LogVersion, Offset, Positions, Producer, ProducerName, Result, StoreId, TaskId,
    Timestamp, TopicPartition,
};

use self::write_behind::Behind;
use super::{
    board::{Board, Progress},
    context::{OnError, TaskContext},
    inputs::Inputs,
    metrics::{MetricsSink, TaskMetrics},
    plan::Plan,
    ports::Ports,
    positions::{ClockPosition, Metadata},
    punctuation::Punctuators,
    restore::{Restored, restore},
    settings::ErrorPolicy,
    sinks::SinkBuffer,
};
use crate::{edge::Call, ops::source::Source, state::StoreClock, topology::Processors};

pub(crate) struct Task {
    id: TaskId,
    group: headwater_core::GroupId,
    inputs: Inputs,
    /// The tasks whose time ends before that of this one; and whether that of this one has, and everything is closed.
    before: Vec<TaskId>,
    has_ended: bool,
    sources: Vec<Box<dyn Source>>,
    context: TaskContext,
    changelogs: Vec<Changelog>,
    metrics: TaskMetrics,
    /// What earlier workers have counted.
    earlier: TaskMetrics,
    /// The wall clock as of the turn.
    now: Timestamp,
    behind: Behind,
    /// Memory for the tables of one store, in bytes.
    store_bytes_max: usize,
    /// Records taken up to the last commit.
    committed_records: u64,
    /// Records taken, and punctuations made, since the last commit.
    uncommitted: u64,
    nearing: Nearing,
    /// Whether a call was over since the last commit.
    is_answered: bool,
    /// See [`Task::held_at`].
    held_at: Option<Timestamp>,
}

/// How near the next commit is, for a task with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nearing {
    /// Records are taken.
    Far,
    /// None are taken: calls must be over first.
    Draining,
    /// Nor after the processors have been told.
    Told,
}

/// The changelog of one store.
struct Changelog {
    /// Place of the store in the topology.
    store: usize,
    store_name: String,
    slot: StoreId,
    partition: TopicPartition,
    buffer: SinkBuffer,
    /// End of what was committed.
    next: Offset,
}

impl Task {
    /// Fences earlier owners of the task, brings its state up to date and goes to where the last commit was.
    pub(crate) async fn open(id: TaskId, plan: &Plan, ports: &Ports, metrics: &MetricsSink) -> Result<Self> {
        let (log, now) = (&*ports.log, ports.clock.now());
        let resolved = &plan.subtopologies[id.subtopology as usize];
        let (sinks, on_error) = sinks(id, plan);
        let indexes = plan.topology.stores_of(id.subtopology);
        let names: Vec<String> =
            indexes.iter().map(|store| plan.topology.stores[*store].name.clone()).collect();
        // State first: who cannot have it, because another instance does, must not fence that one.
        let state = ports.state.open(id, &names)?;
        let producer = log.producer(&ProducerName(format!("{}-{id}", plan.settings.application_id))).await?;
        let Processors { sources, shared } = plan.topology.instantiate(id.subtopology);
        let mut task = Self {
            id,
            group: plan.group.clone(),
            inputs: Inputs::new(id, resolved, plan.settings.input_order),
            before: plan.tasks_before(id.subtopology),
            has_ended: false,
            sources,
            context: TaskContext {
                id,
                stream_time: Timestamp::MIN,
                passed: Timestamp::MIN,
                is_passing: false,
                is_unfinished: false,
                is_full: false,
                room: plan.settings.uncommitted_bytes_max,
                rows_with_room: 0,
                punctuated: Timestamp::MIN,
                place: 0,
                stores: (0..plan.topology.stores.len()).map(|_| None).collect(),
                state,
                shared,
                sinks,
                producer,
                pending_bytes: 0,
                computed: std::collections::HashMap::new(),
                topics: Arc::clone(&plan.topics),
                calls: Vec::new(),
                scratch: Vec::new(),
                on_error,
                in_record: false,
                time_before: Timestamp::MIN,
                punctuators: Punctuators::new(now),
                wake: false,
                wake_before: false,
                null_keys: 0,
                null_values: 0,
                skipped: 0,
                dead_letters: 0,
            },
            changelogs: Vec::new(),
            metrics: TaskMetrics::default(),
            earlier: metrics.committed(id).counters(),
            now,
            behind: Behind::new(now),
            store_bytes_max: plan.settings.table_bytes() / plan.store_count().max(1),
            committed_records: 0,
            uncommitted: 0,
            nearing: Nearing::Far,
            is_answered: false,
            held_at: None,
        };
        let clocks = task.seek(log).await?;
        for (slot, store) in (0..).zip(indexes) {
            task.open_store(store, StoreId(slot), &clocks, plan, (log, metrics)).await?;
        }
        task.init().map_err(|e| e.context(format!("task={id}, while its processors were opened")))?;
        Ok(task)
    }

    fn init(&mut self) -> Result<()> {
        let Self { sources, context, .. } = self;
        let since = Some(context.punctuated).filter(|time| *time != Timestamp::MIN);
        context.punctuators.set_since(since);
        sources.iter_mut().try_for_each(|source| source.call(Call::Init, context))?;
        context.punctuators.set_since(None);
        // What was stored is committed like all else, also when no record comes: until then the engine is not written.
        self.uncommitted += u64::from(self.uncommitted_bytes() > 0);
        Ok(())
    }

    async fn seek(&mut self, log: &dyn Log) -> Result<Vec<ClockPosition>> {
        let mut clocks: Vec<ClockPosition> = Vec::new();
        for at in 0..self.inputs.inputs.len() {
            let partition = &self.inputs.inputs[at].partition;
            let committed = log.committed(&self.group, partition).await?;
            let metadata = committed.as_ref().map(Metadata::of).transpose();
            let metadata =
                metadata.map_err(|e| e.context(format!("group={}, partition={partition}", self.group)))?;
            if self.inputs.seek(at, metadata.as_ref(), log).await? {
                // Committed at once: after a crash it begins here again, and not at what is the end of the topic then.
                self.uncommitted += 1;
            }
            if let Some(metadata) = metadata {
                self.context.stream_time = self.context.stream_time.max(metadata.stream_time());
                self.context.passed = self.context.passed.max(Timestamp(metadata.passed));
                self.context.punctuated = self.context.punctuated.max(Timestamp(metadata.punctuated));
                self.context.is_unfinished |= metadata.is_unfinished;
                clocks.extend(metadata.clocks);
            }
        }
        Ok(clocks)
    }

    async fn open_store(
        &mut self,
        index: usize,
        slot: StoreId,
        clocks: &[ClockPosition],
        plan: &Plan,
        (log, metrics): (&dyn Log, &MetricsSink),
    ) -> Result<()> {
        let node = &plan.topology.stores[index];
        let mut store = node.build.build(slot);
        // Every input partition carries all clocks of the task that committed it, and tasks may be cut differently now.
        let own = || clocks.iter().filter(|clock| clock.store == node.name);
        if let Some((time, closed)) =
            own().map(|clock| (clock.time, clock.closed)).reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)))
        {
            store.set_clock(StoreClock { time: Timestamp(time), closed: Timestamp(closed) });
        }
        if let Some(closing) = own().find_map(|clock| clock.closing.clone()) {
            store.set_closing(closing.into());
        }
        let partition = TopicPartition::new(plan.changelog(index)?, self.id.partition);
        let context = |e: Error| e.context(format!("task={}, store=`{}`", self.id, node.name));
        let state = &mut *self.context.state;
        store.prepare(state).map_err(context)?;
        let so_far = self.metrics.restored + self.earlier.restored;
        let mut told = |records, to_restore| {
            let restored = so_far + records;
            metrics.set(self.id, TaskMetrics { restored, to_restore, ..self.earlier }, false);
        };
        let to_restore = (slot, &mut *store, self.store_bytes_max);
        let restored = restore(log, &partition, to_restore, state, &mut told).await;
        let Restored { records, unwritten, next } = restored.map_err(context)?;
        store.open(state).map_err(context)?;
        self.metrics.restored += records;
        self.behind.add_restored(unwritten);
        self.context.stores[index] = Some(store);
        let tasks = plan.subtopologies[self.id.subtopology as usize].tasks;
        let count = std::num::NonZeroU32::new(tasks).expect("a task that runs is one of at least one");
        let buffer = SinkBuffer::new(&partition.topic, count, None);
        let store_name = node.name.clone();
        self.changelogs.push(Changelog { store: index, store_name, slot, partition, buffer, next });
        Ok(())
    }

    pub(crate) fn id(&self) -> TaskId {
        self.id
    }

    /// How far it is in time.
    pub(crate) fn time(&self) -> Timestamp {
        self.context.lane_time()
    }

    pub(crate) fn metrics(&mut self) -> TaskMetrics {
        let mut metrics = self.context.count(self.metrics);
        metrics.add(&self.earlier);
        metrics
    }

    /// How many offsets of each input partition are behind what was taken.
    pub(crate) fn lags(&self) -> impl Iterator<Item = (&TopicPartition, u64)> {
        self.inputs.lags()
    }

    /// The time of the newest record, if one was taken since the last commit.
    pub(crate) fn newest(&self) -> Option<Timestamp> {
        (self.metrics.records > self.committed_records).then_some(self.context.stream_time)
    }

    /// Remembers how long it took to open the task.
    pub(crate) fn opened_in(&mut self, time: Duration) {
        self.metrics.opening = time;
    }

    /// Reads what the task can take next; see [`Inputs::fill`].
    pub(crate) async fn fill(&mut self, log: &dyn Log, board: &Board) -> Result<usize> {
        self.inputs.fill(log, board).await.map_err(|e| e.context(format!("task={}", self.id)))
    }

    /// Whether something that is to be closed waits for a commit.
    pub(crate) fn waits_for_commit(&self) -> bool {
        self.context.is_unfinished && self.context.is_full
    }

    /// Whether a commit would have something to do.
    pub(crate) fn is_dirty(&self) -> bool {
        self.uncommitted > 0
    }

    /// Lets processors send what they keep until a commit.
    fn before_commit(&mut self) -> Result<()> {
        let sent =
            self.sources.iter_mut().try_for_each(|source| source.call(Call::BeforeCommit, &mut self.context));
        sent.map_err(|e| e.context(format!("task={}, before a commit", self.id)))
    }

    pub(super) fn producer(&mut self) -> &mut dyn Producer {
        &mut *self.context.producer
    }

    /// Hands all output and the changelogs to the producer, and says which positions go with them.
    pub(super) fn prepare_commit(&mut self) -> Result<Positions> {
        self.context.close_batches(true)?;
        let TaskContext { stores, producer, pending_bytes, .. } = &mut self.context;
        for changelog in &mut self.changelogs {
            let store = stores[changelog.store].as_mut().expect("a store with a changelog is open");
            let (buffer, partition) = (&mut changelog.buffer, self.id.partition);
            store.take_changes(&mut |key, value, timestamp| {
                // A row that was deleted without ever having had a time.
                let timestamp = timestamp.max(Timestamp(0));
                let about = (&Headers::new(), Timestamp::MIN);
                let value_bytes = buffer.push_encoded(partition, timestamp, about, key, value)?;
                *pending_bytes += buffer.close_batches(false, &mut **producer)?;
                Ok(value_bytes)
            })?;
            *pending_bytes += changelog.buffer.close_batches(true, &mut **producer)?;
        }
        let (clocks, context) = (self.clocks(), &self.context);
        // All were made that the stream time has reached, unless it has not closed yet what it is to close before them.
        let punctuated = if context.is_unfinished { context.punctuated } else { context.stream_time };
        let mut committed = Vec::with_capacity(self.inputs.inputs.len());
        for (at, input) in self.inputs.inputs.iter().enumerate() {
            let metadata = Metadata {
                lanes: self.inputs.positions(at),
                stream_time: self.context.stream_time.0,
                clocks: clocks.clone(),
                by_lanes: self.inputs.is_by_lanes(at),
                passed: self.context.passed.0,
                is_unfinished: self.context.is_unfinished,
                punctuated: punctuated.0,
            };
            committed.push((input.partition.clone(), metadata.commit()?));
        }
        Ok(Positions::new(self.group.clone(), committed))
    }

    fn clocks(&self) -> Vec<ClockPosition> {
        let clock = |changelog: &Changelog| {
            let store = self.context.stores[changelog.store].as_ref()?;
            let StoreClock { time, closed } = store.clock()?;
            let (store_name, closing) = (changelog.store_name.clone(), store.closing().map(Into::into));
            Some(ClockPosition { store: store_name, time: time.0, closed: closed.0, closing })
        };
        self.changelogs.iter().filter_map(clock).collect()
    }

    /// About how many bytes the next commit would hold.
    pub(super) fn uncommitted_bytes(&mut self) -> usize {
        let rows: usize = self.context.stores().map(|store| store.uncommitted_bytes()).sum();
        self.context.pending_bytes + rows
    }

    /// Called only after the log accepted the commit: state may lag the log, and never leads it.
    pub(super) fn committed(&mut self, written: &[headwater_core::Written]) -> Result<()> {
        self.metrics.commits += 1;
        self.committed_records = self.metrics.records;
        self.metrics.written += written.iter().map(|w| w.next.0 - w.base.0).sum::<u64>();
        self.uncommitted = 0;
        self.context.pending_bytes = 0;
        self.context.sinks.iter_mut().for_each(|sink| sink.sent = 0);
        self.context.rows_with_room = 0;
        (self.nearing, self.is_answered) = (Nearing::Far, false);
        for changelog in &mut self.changelogs {
            if let Some(end) = written.iter().find(|w| w.partition == changelog.partition) {
                changelog.next = end.next;
                self.behind.add(end.next.0 - end.base.0);
            }
        }
        self.write_behind()
    }

    /// How far the task is, once everything it took is committed.
    pub(crate) fn progress(&self, looked_at: LogVersion) -> Progress {
        let behind = self.is_dirty() || self.context.is_unfinished || !self.inputs.are_caught_up();
        Progress { time: self.time(), behind, ended: self.has_ended && !self.is_dirty(), looked_at }
    }
}

/// The buffers of all topics that the task writes, and what becomes of records that fail.
fn sinks(id: TaskId, plan: &Plan) -> (Vec<SinkBuffer>, OnError) {
    let resolved = &plan.subtopologies[id.subtopology as usize];
    let buffer = |s: &super::plan::SinkPlan| {
        SinkBuffer::new(&s.topic, s.partitions, s.repartition.then_some(id.partition.0))
    };
    let mut sinks: Vec<SinkBuffer> = resolved.sinks.iter().map(buffer).collect();
    let on_error = match (&plan.settings.on_error, &plan.dead_letters) {
        (ErrorPolicy::Fail, _) => OnError::Fail,
        (ErrorPolicy::DeadLetter(_), Some((topic, partitions))) => {
            // A topic that is written in any other way, too, has one buffer only, which keeps the order.
            let place = resolved.sinks.iter().position(|sink| sink.topic == *topic).unwrap_or(sinks.len());
            if place == sinks.len() {
                sinks.push(SinkBuffer::new(topic, *partitions, None));
            }
            OnError::DeadLetter(place)
        }
        (ErrorPolicy::Skip | ErrorPolicy::DeadLetter(_), _) => OnError::Skip,
    };
    (sinks, on_error)
}
