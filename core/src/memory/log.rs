//! A log that forgets everything when it is dropped.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{
    BatchBuilder, Committed, Error, ErrorKind, Fetched, GroupId, Log, LogVersion, Offset, PartitionOffsets,
    Positions, Producer, ProducerName, RecordBatch, Result, Signal, TopicPartition, TopicSpec, Written,
    ledger::{self, Commit, Entry, GroupPositions, Held, HeldLimits, Ledger, Place},
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
#[derive(Clone, Default)]
pub struct MemoryLog(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    appended: Signal,
}

#[derive(Default)]
struct State {
    ledger: Ledger,
    batches: BTreeMap<Place, Vec<RecordBatch>>,
}

impl MemoryLog {
    fn state(&self) -> MutexGuard<'_, State> {
        // Decisions come before changes, so that a panic leaves a sound state.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self, entries: Vec<Entry>) -> Result<()> {
        for entry in entries {
            self.ledger.apply(&entry)?;
            if let Entry::Batch { place, batch } = entry {
                self.batches.entry(place).or_default().push(batch);
            }
        }
        Ok(())
    }

    fn offsets(&self, partition: &TopicPartition) -> Result<(Place, PartitionOffsets)> {
        let place = self.ledger.place(partition)?;
        let end = self.ledger.end(place).unwrap_or_default();
        Ok((place, PartitionOffsets { earliest: Offset(0), end }))
    }
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let records: u64 = state.ledger.ends().map(|(_, end)| end.0).sum();
        write!(f, "MemoryLog({} topics, {records} records)", state.ledger.topics().count())
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn create_topic(&self, spec: &TopicSpec) -> Result<()> {
        let entry = {
            let mut state = self.state();
            let entry = state.ledger.create_topic(spec)?;
            entry.map(|entry| state.apply(vec![entry])).transpose()?
        };
        if entry.is_some() {
            self.0.appended.raise();
        }
        Ok(())
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
        let all = state.batches.get(&place).map_or(&[][..], Vec::as_slice);
        let first = all.partition_point(|batch| batch.next_offset() <= from);
        let mut bytes = 0;
        let fits = |batch: &&RecordBatch| {
            let fits = bytes == 0 || bytes + batch.bytes().len() <= bytes_max;
            bytes += batch.bytes().len();
            fits
        };
        Ok(Fetched { batches: all[first..].iter().take_while(fits).cloned().collect(), end: offsets.end })
    }

    async fn producer(&self, name: &ProducerName) -> Result<Box<dyn Producer>> {
        let mut state = self.state();
        let (producer, entry) = state.ledger.open_producer(name);
        state.apply(vec![entry])?;
        Ok(Box::new(MemoryProducer { log: self.clone(), held: Held::new(producer, HeldLimits::default()) }))
    }

    async fn committed(&self, group: &GroupId, partition: &TopicPartition) -> Result<Option<Committed>> {
        let state = self.state();
        let place = state.ledger.place(partition).ok();
        Ok(place.and_then(|place| state.ledger.committed(group, place).cloned()))
    }

    async fn appended(&self, seen: LogVersion) -> Result<LogVersion> {
        let count = self.0.appended.after(seen.0).await;
        count.map(LogVersion).ok_or_else(|| Error::new(ErrorKind::Closed, "the log was closed"))
    }
}

struct MemoryProducer {
    log: MemoryLog,
    held: Held,
}

#[async_trait]
impl Producer for MemoryProducer {
    fn append(&mut self, partition: &TopicPartition, batch: &mut BatchBuilder) -> Result<()> {
        let place = self.log.state().ledger.place(partition).inspect_err(|_| batch.clear())?;
        self.held.append(place, partition, batch)
    }

    async fn commit(&mut self, positions: Option<&Positions>) -> Result<Vec<Written>> {
        let mut state = self.log.state();
        let place = |(partition, committed): &(TopicPartition, Committed)| {
            Ok((state.ledger.place(partition)?, committed.clone()))
        };
        let positions = match positions {
            Some(Positions { group, committed }) => {
                let committed = committed.iter().map(place).collect::<Result<_>>()?;
                Some(GroupPositions { group: group.clone(), committed })
            }
            None => None,
        };
        let commit = Commit { producer: self.held.producer(), batches: self.held.take(), positions };
        let decision = state.ledger.commit(commit).inspect_err(|_| self.held.settle_refused())?;
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
    }
}
