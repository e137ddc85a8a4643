//! State in memory, which outlives the task that wrote it, as a disk would.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Bound, ControlFlow},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{Error, ErrorKind, Offset, Result, StateBackend, StateBatch, StateOp, StoreId, TaskId, TaskState, Visit};

/// State in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryBackend(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    stores: BTreeMap<(TaskId, String), Store>,
    open: BTreeSet<TaskId>,
}

#[derive(Debug, Default)]
struct Store {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    position: Option<Offset>,
}

impl MemoryBackend {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half way, so a poisoned lock still holds sound maps.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateBackend for MemoryBackend {
    fn open(&self, task: TaskId, stores: &[String]) -> Result<Box<dyn TaskState>> {
        let mut inner = self.lock();
        if !inner.open.insert(task) {
            return Err(Error::new(ErrorKind::Unavailable, format!("the state of a task is open already. task={task}")));
        }
        for store in stores {
            inner.stores.entry((task, store.clone())).or_default();
        }
        Ok(Box::new(MemoryState { backend: self.clone(), task, stores: stores.to_vec() }))
    }
}

struct MemoryState {
    backend: MemoryBackend,
    task: TaskId,
    stores: Vec<String>,
}

impl MemoryState {
    fn with<R>(&self, store: StoreId, use_store: impl FnOnce(&mut Store) -> R) -> Result<R> {
        let name = self.stores.get(usize::from(store.0));
        let name = name.ok_or_else(|| Error::invalid(format!("no such store. task={}, store={}", self.task, store.0)))?;
        let mut inner = self.backend.lock();
        Ok(use_store(inner.stores.entry((self.task, name.clone())).or_default()))
    }
}

impl Drop for MemoryState {
    fn drop(&mut self) {
        self.backend.lock().open.remove(&self.task);
    }
}

impl TaskState for MemoryState {
    fn get(&self, store: StoreId, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        self.with(store, |store| store.entries.get(key).map(|value| out.extend_from_slice(value)).is_some())
    }

    fn scan(&self, store: StoreId, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
        let mut from = Bound::Included(from.to_vec());
        loop {
            // One entry at a time, so that `visit` may read the same state.
            let next = self.with(store, |store| {
                let mut range = store.entries.range::<Vec<u8>, _>((from.as_ref(), Bound::Unbounded));
                range.next().map(|(key, value)| (key.clone(), value.clone()))
            })?;
            let Some((key, value)) = next.filter(|(key, _)| to.is_none_or(|to| key.as_slice() < to)) else {
                return Ok(());
            };
            if visit(&key, &value)? == ControlFlow::Break(()) {
                return Ok(());
            }
            from = Bound::Excluded(key);
        }
    }

    fn last_key(&self, store: StoreId, out: &mut Vec<u8>) -> Result<bool> {
        self.with(store, |store| store.entries.keys().next_back().map(|key| out.extend_from_slice(key)).is_some())
    }

    fn write(&mut self, batch: &StateBatch) -> Result<()> {
        for (store, _) in batch.iter() {
            self.with(store, |_| ())?;
        }
        for (store, op) in batch.iter() {
            self.with(store, |store| match op {
                StateOp::Put(key, value) => drop(store.entries.insert(key.to_vec(), value.to_vec())),
                StateOp::Delete(key) => drop(store.entries.remove(key)),
                StateOp::DeleteRange(from, to) => store.entries.retain(|key, _| &key[..] < from || &key[..] >= to),
                StateOp::Position(offset) => store.position = Some(offset),
            })?;
        }
        Ok(())
    }

    fn position(&self, store: StoreId) -> Result<Option<Offset>> {
        self.with(store, |store| store.position)
    }
}
