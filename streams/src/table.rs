//! [`KTable`]: the latest value of each key, and how one table is read by what follows it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use headwater_core::{Data, Result};

use crate::{
    KStream,
    runtime::context::TaskContext,
    state::{KeyValueHandle, table::RowMut},
};

/// What became of one row. Kafka: `Change`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change<V> {
    /// The value before; also missing when nobody asked for it.
    pub(crate) old: Option<V>,
    /// The value now; missing when the row was deleted.
    pub(crate) new: Option<V>,
}

/// A table: the latest value of each key. Cheap to clone.
///
/// Its rows lie in the store that it was made with ([`StreamsBuilder::table`](crate::StreamsBuilder::table),
/// [`KStream::to_table`], `count`, `reduce`, `aggregate`). [`KTable::filter`] and [`KTable::map_values`] keep no rows of
/// their own: they are computed when they are read.
pub struct KTable<K, V> {
    /// One record per change of a row, in order.
    pub(crate) changes: KStream<K, Change<V>>,
    pub(crate) rows: Arc<dyn Rows<K, V>>,
    /// The stores that `rows` reads.
    pub(crate) stores: Vec<usize>,
    /// Whether somebody downstream needs [`Change::old`]. One for a table and all that is computed from it.
    pub(crate) old_wanted: OldWanted,
}

impl<K, V> Clone for KTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            changes: self.changes.clone(),
            rows: Arc::clone(&self.rows),
            stores: self.stores.clone(),
            old_wanted: self.old_wanted.clone(),
        }
    }
}

impl<K: Data, V: Data> KTable<K, V> {
    /// The table in the store behind `handle`.
    pub(crate) fn stored(
        changes: KStream<K, Change<V>>,
        handle: &KeyValueHandle<K, V>,
        old_wanted: OldWanted,
    ) -> Self {
        Self { changes, rows: Arc::new(Stored(handle.clone())), stores: vec![handle.index], old_wanted }
    }

    /// A table that is computed from this one, row by row.
    pub(crate) fn computed<W: Data>(
        &self,
        changes: KStream<K, Change<W>>,
        rows: impl Rows<K, W> + 'static,
    ) -> KTable<K, W> {
        KTable {
            changes,
            rows: Arc::new(rows),
            stores: self.stores.clone(),
            old_wanted: self.old_wanted.clone(),
        }
    }
}

/// Said while the topology is built, read when a task is: copying every value before it changes is dear, and few need it
/// (Kafka: `enableSendingOldValues`).
#[derive(Debug, Clone, Default)]
pub(crate) struct OldWanted(Arc<AtomicBool>);

impl OldWanted {
    pub(crate) fn want(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Reads the rows of a table (Kafka: `KTableValueGetter`).
pub(crate) trait Rows<K, V>: Send + Sync {
    /// Calls `visit` once, with the row of `key`, which is lent: a join that needs no copy makes none. `false` when the key is
    /// null, which has no row.
    fn read(&self, key: &K, task: &mut TaskContext, visit: &mut dyn FnMut(Option<&V>)) -> Result<bool>;
}

struct Stored<K, V>(KeyValueHandle<K, V>);

impl<K: Data, V: Data> Rows<K, V> for Stored<K, V> {
    fn read(&self, key: &K, task: &mut TaskContext, visit: &mut dyn FnMut(Option<&V>)) -> Result<bool> {
        let mut rows = task.key_value_store(&self.0);
        let row = rows.row_unless_null(key)?;
        visit(row.as_ref().and_then(RowMut::peek));
        Ok(row.is_some())
    }
}
