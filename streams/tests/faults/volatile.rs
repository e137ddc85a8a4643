//! State of which some of what was applied and not written is lost when its process ends.

use std::ops::ControlFlow;

use headwater_core::{
    Offset, Result, StateBackend, StateBatch, StoreId, TaskId, TaskState, Visit, memory::MemoryBackend,
};

pub(crate) struct Volatile {
    /// What the process sees, and what is left of it.
    seen: Box<dyn TaskState>,
    left: Box<dyn TaskState>,
    /// Batches applied since the last write; of these the first are left.
    applied: Vec<StateBatch>,
    left_count: usize,
    /// How many of them shall be.
    left_percent: usize,
}

impl Volatile {
    pub(crate) fn open(
        disk: &MemoryBackend,
        (task, stores): (TaskId, &[String]),
        left_percent: usize,
    ) -> Result<Self> {
        let (left, mut seen) = (disk.open(task, stores)?, MemoryBackend::default().open(task, stores)?);
        let mut all = StateBatch::default();
        for store in (0..).map(StoreId).take(stores.len()) {
            left.scan(store, &[], None, &mut |key, value| {
                all.put(store, key, value);
                Ok(ControlFlow::Continue(()))
            })?;
            left.position(store)?.into_iter().for_each(|position| all.position(store, position));
        }
        seen.write(&all)?;
        Ok(Self { seen, left, applied: Vec::new(), left_count: 0, left_percent })
    }

    /// Where a store would stand if the process ended now.
    pub(crate) fn position_left(&self, store: StoreId) -> Result<Option<Offset>> {
        self.left.position(store)
    }

    fn leave(&mut self, count: usize) -> Result<()> {
        self.applied[self.left_count..count].iter().try_for_each(|batch| self.left.write(batch))?;
        self.left_count = count;
        Ok(())
    }
}

impl TaskState for Volatile {
    fn get(&self, store: StoreId, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        self.seen.get(store, key, out)
    }

    fn scan(&self, store: StoreId, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
        self.seen.scan(store, from, to, visit)
    }

    fn scan_back(&self, store: StoreId, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
        self.seen.scan_back(store, from, to, visit)
    }

    fn last_key(&self, store: StoreId, out: &mut Vec<u8>) -> Result<bool> {
        self.seen.last_key(store, out)
    }

    fn write(&mut self, batch: &StateBatch) -> Result<()> {
        self.leave(self.applied.len())?;
        self.applied.clear();
        self.left_count = 0;
        self.left.write(batch)?;
        self.seen.write(batch)
    }

    fn apply(&mut self, batch: &StateBatch) -> Result<()> {
        self.applied.push(batch.clone());
        self.leave(self.applied.len() * self.left_percent / 100)?;
        self.seen.apply(batch)
    }

    fn position(&self, store: StoreId) -> Result<Option<Offset>> {
        self.seen.position(store)
    }
}
