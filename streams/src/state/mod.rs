//! What a task remembers: typed write-back tables over an ordered byte map.
//!
//! A store keeps decoded values in a [`table::Table`], so that the hot path touches no bytes but the key's. Values
//! become bytes once per changed key and commit, for the changelog. The engine below (RocksDB) is written later, in
//! bulk, and together with the changelog position that it then stands at: it lags the log and never leads it.

mod ahead;
mod closing;
mod join;
mod key_value;
mod range;
mod row_key;
mod session;
mod stored;
pub(crate) mod table;
mod window;

use std::{any::Any, ops::ControlFlow};

use headwater_core::{CleanupPolicy, Result, Serde, StateBatch, StoreId, TaskState, Timestamp};

pub(crate) use self::{
    closing::{Closing, Sent},
    join::{JoinStore, JoinStoreSpec, Put},
    key_value::{KeyValue, KeyValueSpec},
    session::{Joined, SessionStore, SessionStoreSpec},
    window::{WindowStore, WindowStoreSpec},
};
pub use self::{
    key_value::{KeyValueHandle, KeyValueStore, StoreHandle},
    range::Order,
};

/// Appends a key or a value to what it is given; `false` for null.
pub(crate) type Write<'a> = dyn Fn(&mut Vec<u8>) -> Result<bool> + 'a;

/// Takes one changed row for the changelog: key, value (null: deleted), timestamp. Gives how many bytes the value has.
pub(crate) type ChangeSink<'a> = dyn FnMut(&Write<'_>, &Write<'_>, Timestamp) -> Result<usize> + 'a;

/// Writes these bytes.
fn copied(bytes: Option<&[u8]>) -> impl Fn(&mut Vec<u8>) -> Result<bool> {
    move |out| {
        out.extend_from_slice(bytes.unwrap_or_default());
        Ok(bytes.is_some())
    }
}

/// Writes what a serde makes of a value, if there is one.
fn encoded<V: 'static>(serde: &dyn Serde<V>, value: Option<&V>) -> impl Fn(&mut Vec<u8>) -> Result<bool> {
    move |out| value.map_or(Ok(false), |value| serde.encode_nullable(value, out))
}

/// How far the time of an operator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreClock {
    /// Highest timestamp that reached it.
    pub(crate) time: Timestamp,
    /// Every window that ends here or before was closed, and its results were sent.
    pub(crate) closed: Timestamp,
}

impl StoreClock {
    /// Nothing has reached the operator yet.
    pub(crate) const START: Self = Self { time: Timestamp::MIN, closed: Timestamp::MIN };
}

/// A store of one task, of any kind. What all kinds share is written once, in `table` and in the runtime; a kind is a
/// key layout and a typed view.
pub(crate) trait Store: Any + Send {
    /// Looks at what the engine holds before the store is brought up to date; after the clock was set.
    fn prepare(&mut self, state: &dyn TaskState) -> Result<()> {
        let _ = state;
        Ok(())
    }

    /// Looks at what the engine holds, once, after the store was brought up to date and the clock was set.
    fn open(&mut self, state: &dyn TaskState) -> Result<()> {
        let _ = state;
        Ok(())
    }

    /// Remembers how to take back what the next record does; without it [`Store::roll_back`] has nothing to do.
    fn begin_record(&mut self);

    /// Takes back everything since [`Store::begin_record`].
    fn roll_back(&mut self);

    /// Fetches the rows of keys that the records from `place` on will probably ask for.
    fn look_ahead(&mut self, place: usize, keys: &[Option<&[u8]>]);

    /// Hands out every row that changed since the last call; the caller commits them next.
    fn take_changes(&mut self, sink: &mut ChangeSink<'_>) -> Result<()>;

    /// Takes in a row that the changelog holds and the engine may not: into memory, from where it is written like any other, if
    /// [`Store::restores_into_memory`]; else into `batch`, as what the engine must do before the store is opened.
    /// `place` is that of the record among those of which [`Store::look_ahead`] heard by their [`Store::row_key`].
    fn restore(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp_and_place: (Timestamp, usize),
        batch: &mut StateBatch,
    ) -> Result<()>;

    /// The part of a key in the changelog by which a row is found in memory.
    fn row_key<'a>(&self, changelog_key: &'a [u8]) -> &'a [u8] {
        changelog_key
    }

    /// See [`Store::restore`].
    fn restores_into_memory(&self) -> bool {
        false
    }

    /// Hears how many rows are to be restored at most, and how much memory may be taken for them before they come.
    fn expect(&mut self, rows: usize, bytes_max: usize) {
        let _ = (rows, bytes_max);
    }

    /// Begins to write what was committed and the engine does not hold; what is committed from here on is for the next time. Where
    /// the last time is not at its end, this goes with it.
    fn begin_spill(&mut self) {}

    /// Adds what is to be written, and stops when `batch` has `bytes_max` of it. Whether there is more: then it is called again, when
    /// that is written. Not while a record is processed, or before its commit.
    fn spill(&mut self, batch: &mut StateBatch, bytes_max: usize) -> Result<bool>;

    /// Forgets the rows that the engine holds. Called after a spill was written.
    fn evict(&mut self);

    /// Bytes of memory taken.
    fn bytes(&self) -> usize;

    /// Bytes that the next commit will about add to the changelog.
    fn uncommitted_bytes(&self) -> usize;

    /// Operator time, for stores that have one: commits with the positions, so that a closed window stays closed.
    fn clock(&self) -> Option<StoreClock> {
        None
    }

    /// At which operator time something closes next, or may close, of those that have one.
    fn next_closing(&self) -> Option<Timestamp> {
        None
    }

    /// Sets what [`Store::clock`] said at the last commit.
    fn set_clock(&mut self, clock: StoreClock) {
        let _ = clock;
    }

    /// How far it is in closing what is due, if it has begun or is to begin; commits with the clock.
    fn closing(&self) -> Option<Closing> {
        None
    }

    /// Sets what [`Store::closing`] said at the last commit.
    fn set_closing(&mut self, closing: Closing) {
        let _ = closing;
    }

    /// Records left out of a window that was closed, once for each such window.
    fn late(&self) -> u64 {
        0
    }
}

/// Whether a batch may take another row.
pub(crate) fn room(batch: &StateBatch, bytes_max: usize) -> ControlFlow<()> {
    if batch.size() < bytes_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// Makes the stores of tasks.
pub(crate) trait BuildStore: Send + Sync {
    fn build(&self, slot: StoreId) -> Box<dyn Store>;
    /// Of the changelog topic.
    fn cleanup(&self) -> CleanupPolicy;
}
