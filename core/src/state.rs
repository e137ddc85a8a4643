//! The port to local state: an ordered byte map per store, and one atomic write for all stores of a task.

use std::{fmt, ops::ControlFlow, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Offset, Partition, Result};

/// One sub-topology on one partition; printed as `0_1`, as Kafka does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// Which sub-topology.
    pub subtopology: u32,
    /// Which partition of its topics.
    pub partition: Partition,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.subtopology, self.partition)
    }
}

impl FromStr for TaskId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once('_').and_then(|(s, p)| Some((s.parse().ok()?, p.parse().ok()?)));
        let (subtopology, partition) = parsed.ok_or_else(|| {
            Error::invalid(format!("not a task id like `0_1`. text=`{}`", text.escape_debug()))
        })?;
        Ok(Self { subtopology, partition: Partition(partition) })
    }
}

/// Place of a store in the list that the task was opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u16);

/// Opens the state of tasks. Implementations pass `contract::state`.
pub trait StateBackend: Send + Sync + 'static {
    /// Opens the stores of a task, creating those that are new. One opener at a time.
    ///
    /// # Errors
    /// `Unavailable` when somebody else has the task open or the disk fails, `Corrupt` when the state cannot be read.
    fn open(&self, task: TaskId, stores: &[String]) -> Result<Box<dyn TaskState>>;
}

/// Called by [`TaskState::scan`] with key and value; `Break` ends the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>> + 'a;

/// The state of one task: for each store an ordered map from bytes to bytes, and the changelog position it stands at.
pub trait TaskState: Send {
    /// Appends the value of `key` to `out`; `false` when there is none.
    ///
    /// # Errors
    /// `Unavailable` or `Corrupt`, from the engine.
    fn get(&self, store: StoreId, key: &[u8], out: &mut Vec<u8>) -> Result<bool>;

    /// Visits the entries with keys in `from..to` (to the end when `to` is `None`) in byte order.
    ///
    /// # Errors
    /// Those of `visit`, and of the engine.
    fn scan(&self, store: StoreId, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()>;

    /// As [`TaskState::scan`], from the last of them to the first.
    ///
    /// # Errors
    /// Those of `visit`, and of the engine.
    fn scan_back(&self, store: StoreId, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()>;

    /// Appends the highest key of `store` to `out`; `false` when the store is empty.
    ///
    /// # Errors
    /// From the engine.
    fn last_key(&self, store: StoreId, out: &mut Vec<u8>) -> Result<bool>;

    /// Applies all of `batch`, positions included, or nothing, and makes it durable against a crash of the process, with all
    /// that was applied before.
    ///
    /// # Errors
    /// From the engine; what of it is there is known when the task is opened again.
    fn write(&mut self, batch: &StateBatch) -> Result<()>;

    /// As [`TaskState::write`], for what is written in parts: it can be read at once, but is sure to be durable only with the
    /// next [`TaskState::write`]. A crash before that leaves what was applied up to some call, all of it, and nothing of later
    /// calls.
    ///
    /// # Errors
    /// From the engine; what of it is there is known when the task is opened again.
    fn apply(&mut self, batch: &StateBatch) -> Result<()>;

    /// The changelog offset up to which (exclusive) `store` holds everything; `None` when it never held anything.
    ///
    /// # Errors
    /// From the engine.
    fn position(&self, store: StoreId) -> Result<Option<Offset>>;
}

/// One change in a [`StateBatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateOp<'a> {
    /// Sets the value of a key.
    Put(&'a [u8], &'a [u8]),
    /// Removes a key.
    Delete(&'a [u8]),
    /// Removes all keys in `from..to`.
    DeleteRange(&'a [u8], &'a [u8]),
    /// The store now stands at this changelog offset.
    Position(Offset),
}

/// Changes that are applied together, in order. One buffer, reused.
#[derive(Debug, Clone, Default)]
pub struct StateBatch {
    bytes: Vec<u8>,
    ops: Vec<Op>,
}

#[derive(Debug, Clone, Copy)]
struct Op {
    store: StoreId,
    kind: Kind,
    first_len: usize,
    second_len: usize,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Put,
    Delete,
    DeleteRange,
    Position,
}

impl StateBatch {
    /// With room for so many bytes of keys and values, so that it does not grow, and leave holes in memory, on the way there.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ops: Vec::new() }
    }

    /// Sets the value of `key`.
    pub fn put(&mut self, store: StoreId, key: &[u8], value: &[u8]) {
        self.push(store, Kind::Put, key, value);
    }

    /// Removes `key`.
    pub fn delete(&mut self, store: StoreId, key: &[u8]) {
        self.push(store, Kind::Delete, key, &[]);
    }

    /// Removes all keys in `from..to`.
    pub fn delete_range(&mut self, store: StoreId, from: &[u8], to: &[u8]) {
        self.push(store, Kind::DeleteRange, from, to);
    }

    /// Sets the changelog position of `store`.
    pub fn position(&mut self, store: StoreId, offset: Offset) {
        self.push(store, Kind::Position, &offset.0.to_le_bytes(), &[]);
    }

    fn push(&mut self, store: StoreId, kind: Kind, first: &[u8], second: &[u8]) {
        self.bytes.extend_from_slice(first);
        self.bytes.extend_from_slice(second);
        self.ops.push(Op { store, kind, first_len: first.len(), second_len: second.len() });
    }

    /// The changes in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (StoreId, StateOp<'_>)> {
        let mut rest = self.bytes.as_slice();
        self.ops.iter().map(move |op| {
            let (first, behind) = rest.split_at(op.first_len);
            let (second, behind) = behind.split_at(op.second_len);
            rest = behind;
            let change = match op.kind {
                Kind::Put => StateOp::Put(first, second),
                Kind::Delete => StateOp::Delete(first),
                Kind::DeleteRange => StateOp::DeleteRange(first, second),
                Kind::Position => {
                    StateOp::Position(Offset(u64::from_le_bytes(first.try_into().unwrap_or_default())))
                }
            };
            (op.store, change)
        })
    }

    /// Bytes of keys, values and positions held.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Forgets all changes, keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ops.clear();
    }
}
