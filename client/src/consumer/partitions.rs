//! The partitions that a consumer reads, and how far it is in each.

use std::collections::{BTreeMap, VecDeque};

use headwater_core::{Error, Offset, RecordRef, Result, TopicPartition};

use super::record::{Batch, BatchRecords};

#[derive(Debug, Default)]
pub(super) struct Partitions {
    states: BTreeMap<TopicPartition, PartitionState>,
    /// What was fetched and not given out.
    fetched: VecDeque<Batch>,
    /// The batch whose records are being given out one by one.
    pub(super) current: Option<Current>,
    /// Whose turn it is to be fetched first.
    turn: usize,
}

#[derive(Debug, Default, Clone)]
pub(super) struct PartitionState {
    /// The next offset to give out; `None` until it is looked up.
    position: Option<Offset>,
    /// What is committed, as far as we know.
    committed: Option<Offset>,
    paused: bool,
}

#[derive(Debug)]
pub(super) struct Current {
    pub(super) batch: Batch,
    records: BatchRecords,
    /// Whether `records` stands on one that was not given out.
    ready: bool,
    /// The offset after the last one that was given out.
    next: Offset,
}

impl Current {
    /// Moves to the next record to give out, unless it stands on one; `false` at the end.
    #[inline]
    pub(super) fn advance(&mut self) -> Result<bool> {
        self.ready = self.ready || self.records.advance()?;
        Ok(self.ready)
    }

    /// The record that it stands on and that was not given out.
    #[inline]
    pub(super) fn record(&self) -> Option<RecordRef<'_>> {
        if self.ready { self.records.current() } else { None }
    }

    /// The record at `offset` was given out.
    #[inline]
    pub(super) fn pass(&mut self, offset: Offset) {
        self.ready = false;
        self.next = offset.next();
    }
}

impl Partitions {
    pub(super) fn names(&self) -> impl Iterator<Item = &TopicPartition> {
        self.states.keys()
    }

    pub(super) fn add(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.states.entry(partition.clone()).or_default();
        }
    }

    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.forget_fetched(partition);
            self.states.remove(partition);
        }
    }

    pub(super) fn clear(&mut self) -> Vec<TopicPartition> {
        self.fetched.clear();
        self.current = None;
        std::mem::take(&mut self.states).into_keys().collect()
    }

    fn state(&self, partition: &TopicPartition) -> Result<&PartitionState> {
        self.states.get(partition).ok_or_else(|| not_assigned(partition))
    }

    fn state_mut(&mut self, partition: &TopicPartition) -> Result<&mut PartitionState> {
        self.states.get_mut(partition).ok_or_else(|| not_assigned(partition))
    }

    /// Takes down how far the records were given out one by one.
    fn settle(&mut self) {
        if let Some(current) = &self.current
            && let Some(state) = self.states.get_mut(current.batch.partition())
        {
            state.position = Some(current.next);
        }
    }

    fn forget_fetched(&mut self, partition: &TopicPartition) {
        self.settle();
        self.fetched.retain(|batch| batch.partition() != partition);
        self.current.take_if(|current| current.batch.partition() == partition);
    }

    /// The next offset to give out.
    pub(super) fn position(&mut self, partition: &TopicPartition) -> Result<Option<Offset>> {
        self.settle();
        Ok(self.state(partition)?.position)
    }

    /// Goes somewhere else, or where nobody knows yet.
    pub(super) fn seek(&mut self, partition: &TopicPartition, to: Option<Offset>) -> Result<()> {
        self.forget_fetched(partition);
        self.state_mut(partition)?.position = to;
        Ok(())
    }

    /// Begins where the group has left off.
    pub(super) fn resume_at(&mut self, partition: &TopicPartition, committed: Offset) -> Result<()> {
        self.seek(partition, Some(committed))?;
        self.state_mut(partition)?.committed = Some(committed);
        Ok(())
    }

    pub(super) fn pause(&mut self, partition: &TopicPartition, paused: bool) -> Result<()> {
        self.forget_fetched(partition);
        self.state_mut(partition)?.paused = paused;
        Ok(())
    }

    pub(super) fn paused(&self) -> impl Iterator<Item = &TopicPartition> {
        self.states.iter().filter(|(_, state)| state.paused).map(|(partition, _)| partition)
    }

    /// Those for which it is not known where to begin.
    pub(super) fn lost(&self) -> Vec<TopicPartition> {
        let lost = self.states.iter().filter(|(_, state)| state.position.is_none());
        lost.map(|(partition, _)| partition.clone()).collect()
    }

    /// Those to fetch from, and from where; another one is first each time.
    pub(super) fn fetch_plan(&mut self) -> Vec<(TopicPartition, Offset)> {
        let mut all: Vec<_> = self
            .states
            .iter()
            .filter(|(_, state)| !state.paused)
            .filter_map(|(partition, state)| Some((partition.clone(), state.position?)))
            .collect();
        if !all.is_empty() {
            let first = self.turn % all.len();
            all.rotate_left(first);
            self.turn = self.turn.wrapping_add(1);
        }
        all
    }

    /// What was committed is not what was given out.
    pub(super) fn uncommitted(&mut self) -> Vec<(TopicPartition, Offset)> {
        self.settle();
        let moved = self.states.iter().filter(|(_, state)| state.position != state.committed);
        moved.filter_map(|(partition, state)| Some((partition.clone(), state.position?))).collect()
    }

    pub(super) fn positions(&mut self) -> Vec<(TopicPartition, Offset)> {
        self.settle();
        self.states
            .iter()
            .filter_map(|(partition, state)| Some((partition.clone(), state.position?)))
            .collect()
    }

    pub(super) fn committed(&mut self, positions: &[(TopicPartition, Offset)]) {
        for (partition, offset) in positions {
            if let Some(state) = self.states.get_mut(partition) {
                state.committed = Some(*offset);
            }
        }
    }

    /// Whether nothing is there to be given out.
    pub(super) fn is_drained(&self) -> bool {
        self.fetched.is_empty() && self.current.is_none()
    }

    pub(super) fn push(&mut self, batch: Batch) {
        self.fetched.push_back(batch);
    }

    /// Ends the batch whose records were given out, and begins the next; `false` when there is none.
    pub(super) fn next_batch(&mut self) -> bool {
        if let Some(done) = &mut self.current {
            done.next = done.batch.next_offset();
            self.settle();
        }
        self.current = self.fetched.pop_front().map(|batch| Current {
            records: batch.records(),
            ready: false,
            next: batch.from(),
            batch,
        });
        self.current.is_some()
    }

    /// All that was fetched, given out.
    pub(super) fn drain(&mut self) -> Vec<Batch> {
        self.settle();
        let mut batches = Vec::with_capacity(self.fetched.len() + 1);
        if let Some(Current { batch, next, .. }) = self.current.take() {
            batches.push(batch.starting_at(next));
        }
        batches.extend(self.fetched.drain(..));
        for batch in &batches {
            if let Some(state) = self.states.get_mut(batch.partition()) {
                state.position = Some(batch.next_offset());
            }
        }
        batches.retain(|batch| batch.from() < batch.next_offset());
        batches
    }
}

#[cold]
fn not_assigned(partition: &TopicPartition) -> Error {
    Error::invalid(format!("the partition is not one that this consumer reads now. partition={partition}"))
}
