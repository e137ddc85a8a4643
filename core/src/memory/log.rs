//! A log that forgets everything when it is dropped.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use async_trait::async_trait;

use super::cleaning;
use crate::{
    Admin, BatchBuilder, Cleaned, Clock, Committed, Error, ErrorKind, Fetched, GroupId, Log, LogVersion,
    Member, Offset, PartitionOffsets, Positions, Producer, ProducerName, RecordBatch, Result, Signal,
    Subscription, SystemClock, TimedOffset, Timestamp, TopicChanges, TopicName, TopicPartition, TopicSpec,
    Written,
    group::Coordinator,
    ledger::{
        self, COMMIT_BYTES_MAX, CleanPoint, Commit, Entry, GroupPositions, Held, Incarnation, Ledger, Place,
    },
};

/// Keeps all that was committed in memory. A clone is the same log.
///
/// ```
/// use headwater_core::{Log, TopicSpec, memory::MemoryLog};
/// let log = MemoryLog::default();
/// futures::executor::block_on(async {
///     log.create_topic(&TopicSpec::new("readings", 4).unwrap()).await.unwrap();
///     assert_eq!(log.topics().await.unwrap().len(), 1);
/// });
/// ```
#[derive(Clone)]
pub struct MemoryLog(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    appended: Signal,
    groups: Arc<Coordinator>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) ledger: Ledger,
    pub(super) batches: BTreeMap<Place, Vec<RecordBatch>>,
    /// How far partitions were compacted.
    pub(super) clean: BTreeMap<Place, CleanPoint>,
    /// Producers that were opened, by the number of their name: those that can be upgraded are held.
    pub(super) producers: BTreeMap<i64, Weak<Incarnation>>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }
}

impl MemoryLog {
    /// An empty log that tells the age of records by `clock`.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let (state, appended, groups) = Default::default();
        Self(Arc::new(Shared { state, appended, groups, clock }))
    }

    /// Applies what `decide` comes to, and wakes those who wait when it changed something.
    fn change<T>(&self, decide: impl FnOnce(&Ledger) -> Result<(Vec<Entry>, T)>) -> Result<T> {
        let (changed, topics, answer) = {
            let mut state = self.state();
            let (entries, answer) = decide(&state.ledger)?;
            let changed = !entries.is_empty();
            let topics = entries.iter().any(Entry::changes_partitions);
            state.apply(entries)?;
            if topics {
                self.0.groups.set_topics(state.ledger.topics().map(|(_, spec)| spec));
            }
            (changed, topics, answer)
        };
        if topics {
            self.0.groups.wake();
        }
        if changed {
            self.0.appended.raise();
        }
        Ok(answer)
    }

    /// Whether positions may be committed. Whoever has the state knows that it stays so until they are.
    fn check(&self, positions: &Positions) -> Result<()> {
        let Some(member) = positions.member else { return Ok(()) };
        let partitions = positions.committed.iter().map(|(partition, _)| partition);
        self.0.groups.check(&positions.group, member, partitions)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Decisions come before changes, so that a panic leaves a sound state.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn apply(&mut self, entries: Vec<Entry>) -> Result<()> {
        for entry in entries {
            self.ledger.apply(&entry)?;
            match entry {
                Entry::Batch { place, batch } => self.batches.entry(place).or_default().push(batch),
                Entry::TopicDeleted { id } => {
                    self.batches.retain(|place, _| place.topic != id);
                    self.clean.retain(|place, _| place.topic != id);
                }
                Entry::RecordsDeleted { place, before } => {
                    let kept = self.batches.entry(place).or_default();
                    kept.drain(..kept.partition_point(|batch| batch.next_offset() <= before));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn offsets(&self, partition: &TopicPartition) -> Result<(Place, PartitionOffsets)> {
        let place = self.ledger.place(partition)?;
        let offsets = self.ledger.offsets(place);
        Ok((place, offsets.ok_or_else(|| ledger::unknown_partition(partition))?))
    }

    fn batches(&self, place: Place) -> &[RecordBatch] {
        self.batches.get(&place).map_or(&[], Vec::as_slice)
    }

    fn place(&self, positions: &Positions) -> Result<GroupPositions> {
        let committed = positions.committed.iter();
        let committed = committed.map(|(partition, at)| Ok((self.ledger.place(partition)?, at.clone())));
        Ok(GroupPositions { group: positions.group.clone(), committed: committed.collect::<Result<_>>()? })
    }
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let records: u64 =
            state.ledger.all_offsets().map(|(_, offsets)| offsets.end.0 - offsets.earliest.0).sum();
        write!(f, "MemoryLog({} topics, {records} records)", state.ledger.topics().count())
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn create_topic(&self, spec: &TopicSpec) -> Result<()> {
        self.change(|ledger| Ok((ledger.create_topic(spec)?.into_iter().collect(), ())))
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>> {
        Ok(self.state().ledger.topics().map(|(_, spec)| spec.clone()).collect())
    }

    async fn offsets(&self, partition: &TopicPartition) -> Result<PartitionOffsets> {
        Ok(self.state().offsets(partition)?.1)
    }

    async fn read(&self, partition: &TopicPartition, from: Offset, bytes_max: usize) -> Result<Fetched> {
        let state = self.state();
        let (place, offsets) = state.offsets(partition)?;
        ledger::check_range(partition, from, offsets)?;
        let all = state.batches(place);
        let first = all.partition_point(|batch| batch.next_offset() <= from);
        let mut bytes = 0;
        let fits = |batch: &&RecordBatch| {
            let fits = bytes == 0 || bytes + batch.bytes().len() <= bytes_max;
            bytes += batch.bytes().len();
            fits
        };
        Ok(Fetched { batches: all[first..].iter().take_while(fits).cloned().collect(), end: offsets.end })
    }

    async fn offset_at(&self, partition: &TopicPartition, time: Timestamp) -> Result<Option<TimedOffset>> {
        let state = self.state();
        let (place, offsets) = state.offsets(partition)?;
        for batch in state.batches(place).iter().filter(|batch| batch.max_timestamp() >= time) {
            if let Some(found) = ledger::first_at(batch, time, offsets.earliest)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn producer(&self, name: &ProducerName) -> Result<Box<dyn Producer>> {
        let mut state = self.state();
        let (producer, entry) = state.ledger.open_producer(name);
        state.apply(vec![entry])?;
        let (held, producer) = (Held::new(producer, COMMIT_BYTES_MAX), Arc::new(producer));
        state.producers.insert(producer.id, Arc::downgrade(&producer));
        Ok(Box::new(MemoryProducer { log: self.clone(), producer, held }))
    }

    async fn committed(&self, group: &GroupId, partition: &TopicPartition) -> Result<Option<Committed>> {
        let state = self.state();
        let place = state.ledger.place(partition).ok();
        Ok(place.and_then(|place| state.ledger.committed(group, place).cloned()))
    }

    async fn commit_positions(&self, positions: &Positions) -> Result<()> {
        let placed = self.state().place(positions)?;
        self.change(|ledger| {
            self.check(positions)?;
            Ok((ledger.commit_positions(placed)?.into_iter().collect(), ()))
        })
    }

    async fn join(&self, group: &GroupId, subscription: &Subscription) -> Result<Box<dyn Member>> {
        self.0.groups.join(group, subscription, self.clone())
    }

    async fn appended(&self, seen: LogVersion) -> Result<LogVersion> {
        let count = self.0.appended.after(seen.0).await;
        count.map(LogVersion).ok_or_else(|| Error::new(ErrorKind::Closed, "the log was closed"))
    }
}

#[async_trait]
impl Admin for MemoryLog {
    async fn alter_topic(&self, topic: &TopicName, changes: &TopicChanges) -> Result<TopicSpec> {
        self.change(|ledger| Ok((ledger.alter_topic(topic, changes)?, ())))?;
        self.state().ledger.spec(topic).cloned().ok_or_else(|| ledger::no_such_topic(topic))
    }

    async fn delete_topic(&self, topic: &TopicName) -> Result<()> {
        self.change(|ledger| Ok((vec![ledger.delete_topic(topic)?], ())))
    }

    async fn delete_records(&self, partition: &TopicPartition, before: Offset) -> Result<Offset> {
        self.change(|ledger| Ok((ledger.delete_records(partition, before)?.into_iter().collect(), ())))?;
        Ok(self.offsets(partition).await?.earliest)
    }

    async fn size(&self, partition: &TopicPartition) -> Result<u64> {
        let state = self.state();
        let place = state.ledger.place(partition)?;
        Ok(cleaning::bytes(state.batches(place)))
    }

    async fn groups(&self) -> Result<Vec<GroupId>> {
        Ok(self.state().ledger.groups().cloned().collect())
    }

    async fn positions(&self, group: &GroupId) -> Result<Vec<(TopicPartition, Committed)>> {
        let state = self.state();
        let positions = state.ledger.positions(group);
        positions.map(|(place, at)| Ok((state.ledger.partition(place)?, at.clone()))).collect()
    }

    async fn delete_group(&self, group: &GroupId) -> Result<()> {
        self.change(|ledger| Ok((vec![ledger.delete_group(group)?], ())))
    }

    async fn clean(&self) -> Result<Cleaned> {
        let cleaned = cleaning::clean(&mut self.state(), self.0.clock.now())?;
        self.0.appended.raise();
        Ok(cleaned)
    }
}

struct MemoryProducer {
    log: MemoryLog,
    /// As long as this is there, the producer is not forgotten.
    producer: Arc<Incarnation>,
    held: Held,
}

#[async_trait]
impl Producer for MemoryProducer {
    fn append(&mut self, partition: &TopicPartition, batch: &mut BatchBuilder) -> Result<()> {
        let state = self.log.state();
        let place = state.ledger.place(partition).inspect_err(|_| batch.clear())?;
        let topic = state.ledger.topic(place.topic).ok_or_else(|| ledger::unknown_partition(partition))?;
        self.held.append((place, partition), &topic.config, batch)
    }

    async fn commit(&mut self, positions: Option<&Positions>) -> Result<Vec<Written>> {
        let mut state = self.log.state();
        let checked = positions.map_or(Ok(()), |positions| self.log.check(positions));
        checked.inspect_err(|_| self.held.forget())?;
        let positions = positions.map(|positions| state.place(positions)).transpose()?;
        let commit = Commit { producer: *self.producer, batches: self.held.take(), positions };
        let decision = state
            .ledger
            .commit(commit, self.log.0.clock.now())
            .inspect_err(|_| self.held.settle_refused())?;
        let changed = !decision.entries.is_empty();
        state.apply(decision.entries)?;
        self.held.settle_written();
        drop(state);
        if changed {
            self.log.0.appended.raise();
        }
        Ok(decision.written)
    }

    fn abort(&mut self) {
        self.held.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    #[test]
    fn keeps_the_contract() {
        contract::log::all(|| Arc::new(MemoryLog::default()));
        contract::log::admin(|clock| Arc::new(MemoryLog::with_clock(clock)));
    }
}
