//! A log and a state engine that do not answer one call as they should: the process that made it is taken for dead.

// Also from where another test takes this file.
#[path = "volatile.rs"]
mod volatile;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use headwater_core::{
    BatchBuilder, Committed, Error, ErrorKind, Fetched, GroupId, Log, LogVersion, Member, Offset,
    PartitionOffsets, Positions, Producer, ProducerName, Result, StateBackend, StateBatch, StoreId,
    Subscription, TaskId, TaskState, TimedOffset, Timestamp, TopicPartition, TopicSpec, Visit, Written,
    memory::{MemoryBackend, MemoryLog},
};

use self::volatile::Volatile;

/// Which calls fail. A clone is the same.
#[derive(Clone, Default)]
pub(crate) struct Fault(Arc<Mutex<Steps>>);

#[derive(Default)]
struct Steps {
    armed: bool,
    /// The call, counted from 1, that fails; each next one of its name, too, until there were `times`.
    at: u64,
    /// Count only calls of this name.
    only: Option<&'static str>,
    times: u32,
    count: u64,
    fired: Vec<&'static str>,
    /// Where the state of each store stands.
    positions: BTreeMap<(TaskId, String), Offset>,
}

impl Fault {
    pub(crate) fn new(at: u64, times: u32) -> Self {
        Self(Arc::new(Mutex::new(Steps { at, times, ..Steps::default() })))
    }

    /// Counts and fails calls only while it is armed.
    pub(crate) fn arm(&self, armed: bool) {
        self.0.lock().unwrap().armed = armed;
    }

    /// From now on, fails the call that is the `at`th of its name.
    pub(crate) fn arm_at(&self, name: &'static str, at: u64) {
        let mut steps = self.0.lock().unwrap();
        (steps.armed, steps.only, steps.at, steps.times) = (true, Some(name), at, 1);
        (steps.count, steps.fired) = (0, Vec::new());
    }

    /// Names of the calls that failed.
    pub(crate) fn fired(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().fired.clone()
    }

    /// Where the state of each store that was ever opened stands.
    pub(crate) fn positions(&self) -> BTreeMap<(TaskId, String), Offset> {
        self.0.lock().unwrap().positions.clone()
    }

    fn step(&self, name: &'static str) -> Result<()> {
        let mut steps = self.0.lock().unwrap();
        if !steps.armed || steps.only.is_some_and(|only| only != name) {
            return Ok(());
        }
        steps.count += 1;
        let begun = steps.fired.first().is_some_and(|first| *first == name);
        let due = if steps.fired.is_empty() { steps.count == steps.at } else { begun };
        if due && steps.fired.len() < steps.times as usize {
            steps.fired.push(name);
            return Err(Error::new(ErrorKind::Unavailable, format!("a test ended the process at {name}")));
        }
        Ok(())
    }
}

pub(crate) struct FaultyLog {
    pub(crate) inner: MemoryLog,
    pub(crate) fault: Fault,
    /// Reads give one batch, so that a restore is made of many.
    pub(crate) small_reads: bool,
    /// Calls fail, too, that are made while an application is started, outside of its workers.
    pub(crate) fails_at_start: bool,
}

impl FaultyLog {
    fn step_at_start(&self, name: &'static str) -> Result<()> {
        if self.fails_at_start { self.fault.step(name) } else { Ok(()) }
    }
}

#[async_trait]
impl Log for FaultyLog {
    async fn create_topic(&self, spec: &TopicSpec) -> Result<()> {
        self.step_at_start("before a topic is made")?;
        self.inner.create_topic(spec).await?;
        self.step_at_start("after a topic was made")
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>> {
        self.step_at_start("look at the topics")?;
        self.inner.topics().await
    }

    async fn offsets(&self, partition: &TopicPartition) -> Result<PartitionOffsets> {
        self.fault.step("offsets")?;
        self.inner.offsets(partition).await
    }

    async fn read(&self, partition: &TopicPartition, from: Offset, bytes_max: usize) -> Result<Fetched> {
        self.fault.step(if partition.topic.as_str().ends_with("-changelog") {
            "read of a changelog"
        } else {
            "read of an input"
        })?;
        self.inner.read(partition, from, if self.small_reads { 0 } else { bytes_max }).await
    }

    async fn offset_at(&self, partition: &TopicPartition, time: Timestamp) -> Result<Option<TimedOffset>> {
        self.inner.offset_at(partition, time).await
    }

    async fn producer(&self, name: &ProducerName) -> Result<Box<dyn Producer>> {
        self.fault.step("opening of a producer")?;
        let inner = self.inner.producer(name).await?;
        Ok(Box::new(FaultyProducer { inner, fault: self.fault.clone() }))
    }

    async fn committed(&self, group: &GroupId, partition: &TopicPartition) -> Result<Option<Committed>> {
        self.fault.step("look at a committed position")?;
        self.inner.committed(group, partition).await
    }

    async fn commit_positions(&self, positions: &Positions) -> Result<()> {
        self.step_at_start("before a commit of positions")?;
        self.inner.commit_positions(positions).await?;
        self.step_at_start("after a commit of positions")
    }

    async fn join(&self, group: &GroupId, subscription: &Subscription) -> Result<Box<dyn Member>> {
        self.inner.join(group, subscription).await
    }

    async fn appended(&self, seen: LogVersion) -> Result<LogVersion> {
        self.inner.appended(seen).await
    }
}

struct FaultyProducer {
    inner: Box<dyn Producer>,
    fault: Fault,
}

#[async_trait]
impl Producer for FaultyProducer {
    fn append(&mut self, partition: &TopicPartition, batch: &mut BatchBuilder) -> Result<()> {
        self.fault.step("append")?;
        self.inner.append(partition, batch)
    }

    async fn commit(&mut self, positions: Option<&Positions>) -> Result<Vec<Written>> {
        self.fault.step("before the log's commit")?;
        let written = self.inner.commit(positions).await?;
        self.fault.step("after the log's commit")?;
        Ok(written)
    }

    fn abort(&mut self) {
        self.inner.abort();
    }
}

pub(crate) struct FaultyBackend {
    disk: MemoryBackend,
    fault: Fault,
    left_percent: usize,
}

impl FaultyBackend {
    /// So much is left of what was applied, and not written yet, when the process ends.
    pub(crate) fn new(fault: &Fault, left_percent: usize) -> Self {
        Self { disk: MemoryBackend::default(), fault: fault.clone(), left_percent }
    }
}

impl StateBackend for FaultyBackend {
    fn open(&self, task: TaskId, stores: &[String]) -> Result<Box<dyn TaskState>> {
        self.fault.step("opening of state")?;
        let inner = Volatile::open(&self.disk, (task, stores), self.left_percent)?;
        let mut steps = self.fault.0.lock().unwrap();
        for store in stores {
            steps.positions.entry((task, store.clone())).or_default();
        }
        drop(steps);
        let fault = self.fault.clone();
        Ok(Box::new(FaultyState { inner, fault, task, stores: stores.to_vec() }))
    }
}

struct FaultyState {
    inner: Volatile,
    fault: Fault,
    task: TaskId,
    stores: Vec<String>,
}

impl FaultyState {
    fn change(
        &mut self,
        batch: &StateBatch,
        change: impl FnOnce(&mut Volatile, &StateBatch) -> Result<()>,
    ) -> Result<()> {
        self.fault.step("before a write of state")?;
        change(&mut self.inner, batch)?;
        for (store, name) in (0..).map(StoreId).zip(&self.stores) {
            if let Some(position) = self.inner.position_left(store)? {
                self.fault.0.lock().unwrap().positions.insert((self.task, name.clone()), position);
            }
        }
        self.fault.step("after a write of state")
    }
}

impl TaskState for FaultyState {
    fn get(&self, store: StoreId, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        self.fault.step("get")?;
        self.inner.get(store, key, out)
    }

    fn scan(&self, store: StoreId, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
        self.fault.step("scan")?;
        self.inner.scan(store, from, to, visit)
    }

    fn scan_back(&self, store: StoreId, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
        self.fault.step("scan")?;
        self.inner.scan_back(store, from, to, visit)
    }

    fn last_key(&self, store: StoreId, out: &mut Vec<u8>) -> Result<bool> {
        self.inner.last_key(store, out)
    }

    fn write(&mut self, batch: &StateBatch) -> Result<()> {
        self.change(batch, TaskState::write)
    }

    fn apply(&mut self, batch: &StateBatch) -> Result<()> {
        self.change(batch, TaskState::apply)
    }

    fn position(&self, store: StoreId) -> Result<Option<Offset>> {
        self.fault.step("look at the position of state")?;
        self.inner.position(store)
    }
}

/// All places where a test must have ended the process.
pub(crate) fn places() -> BTreeSet<&'static str> {
    BTreeSet::from([
        "after a write of state",
        "after the log's commit",
        "append",
        "before a write of state",
        "before the log's commit",
        "get",
        "look at a committed position",
        "look at the position of state",
        "offsets",
        "opening of a producer",
        "opening of state",
        "read of a changelog",
        "read of an input",
        "scan",
    ])
}
