//! State that lives as long as its backend.

use std::{
    collections::BTreeMap,
    mem,
    ops::{Bound, ControlFlow},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    Error, ErrorKind, Offset, Result, StateBackend, StateBatch, StateOp, StoreId, TaskId, TaskState, Visit,
};

/// Keeps the state of tasks in memory. A clone is the same state; what a task wrote is there when it is opened again,
/// as on a disk.
///
/// ```
/// use headwater_core::{Partition, StateBackend, StateBatch, StoreId, TaskId, memory::MemoryBackend};
/// let backend = MemoryBackend::default();
/// let task = TaskId { subtopology: 0, partition: Partition(1) };
/// let mut state = backend.open(task, &["totals".to_string()]).unwrap();
/// let mut batch = StateBatch::default();
/// batch.put(StoreId(0), b"sensor-1", b"42");
/// state.write(&batch).unwrap();
/// drop(state);
///
/// let mut value = Vec::new();
/// let state = backend.open(task, &["totals".to_string()]).unwrap();
/// assert!(state.get(StoreId(0), b"sensor-1", &mut value).unwrap());
/// assert_eq!(value, b"42");
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryBackend(Arc<Mutex<BTreeMap<TaskId, Slot>>>);

#[derive(Debug)]
enum Slot {
    /// Somebody has the task open, and its contents with it.
    Open,
    /// By name of the store.
    Closed(BTreeMap<String, Store>),
}

#[derive(Debug, Default)]
struct Store {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    position: Option<Offset>,
}

impl MemoryBackend {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<TaskId, Slot>> {
        // Slots are replaced whole, so a poisoned lock still holds a sound value.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateBackend for MemoryBackend {
    fn open(&self, task: TaskId, stores: &[String]) -> Result<Box<dyn TaskState>> {
        if let Some(twice) = stores.iter().enumerate().find(|(at, name)| stores[..*at].contains(name)) {
            return Err(Error::invalid(format!(
                "a task has two stores of one name. task={task}, store=`{}`",
                twice.1
            )));
        }
        let mut others = match self.slots().insert(task, Slot::Open) {
            Some(Slot::Open) => {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("the state of the task is open already: close it first. task={task}"),
                ));
            }
            Some(Slot::Closed(contents)) => contents,
            None => BTreeMap::new(),
        };
        let stores =
            stores.iter().map(|name| (name.clone(), others.remove(name).unwrap_or_default())).collect();
        Ok(Box::new(MemoryTask { backend: self.clone(), task, stores, others }))
    }
}

struct MemoryTask {
    backend: MemoryBackend,
    task: TaskId,
    stores: Vec<(String, Store)>,
    /// Stores that earlier openers had; they keep what they hold.
    others: BTreeMap<String, Store>,
}

impl MemoryTask {
    fn store(&self, id: StoreId) -> Result<&Store> {
        let (_, store) = self.stores.get(usize::from(id.0)).ok_or_else(|| no_such_store(self.task, id))?;
        Ok(store)
    }
}

impl TaskState for MemoryTask {
    fn get(&self, store: StoreId, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        let value = self.store(store)?.entries.get(key);
        out.extend_from_slice(value.map_or(&[], Vec::as_slice));
        Ok(value.is_some())
    }

    fn scan(&self, store: StoreId, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
        let Some(range) = range(from, to) else { return Ok(()) };
        for (key, value) in self.store(store)?.entries.range::<[u8], _>(range) {
            if let ControlFlow::Break(()) = visit(key, value)? {
                break;
            }
        }
        Ok(())
    }

    fn scan_back(&self, store: StoreId, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
        let Some(range) = range(from, to) else { return Ok(()) };
        for (key, value) in self.store(store)?.entries.range::<[u8], _>(range).rev() {
            if let ControlFlow::Break(()) = visit(key, value)? {
                break;
            }
        }
        Ok(())
    }

    fn last_key(&self, store: StoreId, out: &mut Vec<u8>) -> Result<bool> {
        let last = self.store(store)?.entries.last_key_value();
        out.extend_from_slice(last.map_or(&[], |(key, _)| key.as_slice()));
        Ok(last.is_some())
    }

    fn write(&mut self, batch: &StateBatch) -> Result<()> {
        self.apply(batch)
    }

    fn apply(&mut self, batch: &StateBatch) -> Result<()> {
        // All that can go wrong is checked before anything changes.
        if let Some((unknown, _)) = batch.iter().find(|(id, _)| usize::from(id.0) >= self.stores.len()) {
            return Err(no_such_store(self.task, unknown));
        }
        for (id, op) in batch.iter() {
            self.stores[usize::from(id.0)].1.apply(op);
        }
        Ok(())
    }

    fn position(&self, store: StoreId) -> Result<Option<Offset>> {
        Ok(self.store(store)?.position)
    }
}

impl Store {
    fn apply(&mut self, op: StateOp<'_>) {
        match op {
            StateOp::Put(key, value) => {
                self.entries.insert(key.to_vec(), value.to_vec());
            }
            StateOp::Delete(key) => {
                self.entries.remove(key);
            }
            StateOp::DeleteRange(from, to) if from < to => {
                // Two cuts and a join cost less than a removal per key, and a window's range holds many.
                let mut tail = self.entries.split_off(from);
                self.entries.append(&mut tail.split_off(to));
            }
            StateOp::DeleteRange(..) => {}
            StateOp::Position(offset) => self.position = Some(offset),
        }
    }
}

impl Drop for MemoryTask {
    fn drop(&mut self) {
        let mut contents = mem::take(&mut self.others);
        contents.extend(mem::take(&mut self.stores));
        self.backend.slots().insert(self.task, Slot::Closed(contents));
    }
}

type Range<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// `None` when it is empty: `BTreeMap::range` panics on a range that ends before it begins.
fn range<'a>(from: &'a [u8], to: Option<&'a [u8]>) -> Option<Range<'a>> {
    match to {
        Some(to) if from >= to => None,
        Some(to) => Some((Bound::Included(from), Bound::Excluded(to))),
        None => Some((Bound::Included(from), Bound::Unbounded)),
    }
}

#[cold]
fn no_such_store(task: TaskId, store: StoreId) -> Error {
    Error::invalid(format!("the task was opened without such a store. task={task}, store={}", store.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    #[test]
    fn memory_keeps_the_contract_of_state() {
        contract::state::all(|| Box::new(MemoryBackend::default()));
    }
}
