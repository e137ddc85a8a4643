//! The key-value store: one value per key.

use std::marker::PhantomData;

use headwater_core::{
    CleanupPolicy, Data, Error, Result, SerdeRef, StateBatch, StoreId, TaskState, Timestamp,
};

use super::{
    BuildStore, ChangeSink, Store, copied, encoded, room,
    stored::{decode_stored, encode_stored, restored},
    table::{RowMut, Table},
};

/// A key-value store of a topology; processors reach it through [`ProcessorContext::store`](crate::ProcessorContext::store).
pub struct KeyValueHandle<K, V> {
    pub(crate) index: usize,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> KeyValueHandle<K, V> {
    pub(crate) fn new(index: usize) -> Self {
        Self { index, types: PhantomData }
    }
}

impl<K, V> Clone for KeyValueHandle<K, V> {
    fn clone(&self) -> Self {
        Self::new(self.index)
    }
}

/// A store of any kind, as [`KStream::process`](crate::KStream::process) takes it.
pub trait StoreHandle {
    /// Its number in the topology.
    fn index(&self) -> usize;
}

impl<K, V> StoreHandle for KeyValueHandle<K, V> {
    fn index(&self) -> usize {
        self.index
    }
}

/// A key-value store, for as long as a processor holds its record.
pub struct KeyValueStore<'a, K, V> {
    pub(crate) store: &'a mut KeyValue<K, V>,
    pub(crate) state: &'a dyn TaskState,
    /// Of the record among those looked at ahead.
    pub(crate) place: usize,
}

impl<K: Data, V: Data> KeyValueStore<'_, K, V> {
    fn row(&mut self, key: &K) -> Result<RowMut<'_, V>> {
        let row = self.row_unless_null(key)?;
        row.ok_or_else(|| Error::processing("a key of a store is null"))
    }

    /// The row of `key`, whether or not it has a value; `None` when the key is null.
    #[inline]
    pub(crate) fn row_unless_null(&mut self, key: &K) -> Result<Option<RowMut<'_, V>>> {
        let KeyValue { table, key: key_serde, value: value_serde, slot, key_bytes, value_bytes } =
            &mut *self.store;
        key_bytes.clear();
        if !key_serde.encode_nullable(key, key_bytes)? {
            return Ok(None);
        }
        let row = table.row(key_bytes, self.place, || {
            value_bytes.clear();
            let found = self.state.get(*slot, key_bytes, value_bytes)?;
            if found { decode_stored(&**value_serde, value_bytes).map(Some) } else { Ok(None) }
        });
        row.map(Some)
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// From the serdes and the engine; `Processing` when the key is Kafka's null.
    pub fn get(&mut self, key: &K) -> Result<Option<&V>> {
        Ok(self.row(key)?.value())
    }

    /// Sets the value of `key`; `timestamp` is that of the change in the changelog. A value whose serde makes it Kafka's
    /// null (`None` of an `Option`) deletes the key.
    ///
    /// # Errors
    /// As [`KeyValueStore::get`].
    pub fn put(&mut self, key: &K, value: V, timestamp: Timestamp) -> Result<()> {
        let value = Some(value).filter(|value| !self.store.value.is_null(value));
        self.row(key)?.set(value, timestamp);
        Ok(())
    }

    /// Removes `key`; `timestamp` is that of the change in the changelog.
    ///
    /// # Errors
    /// As [`KeyValueStore::get`].
    pub fn delete(&mut self, key: &K, timestamp: Timestamp) -> Result<()> {
        self.row(key)?.set(None, timestamp);
        Ok(())
    }

    /// Changes the value of `key` where it lies: `change` gets it, or `None`, and leaves there what shall be stored; `None`, or a
    /// value whose serde makes it Kafka's null, deletes the key. The row keeps the higher of its timestamp and `timestamp`.
    ///
    /// # Errors
    /// As [`KeyValueStore::get`].
    pub fn update<R>(
        &mut self,
        key: &K,
        timestamp: Timestamp,
        change: impl FnOnce(&mut Option<V>) -> R,
    ) -> Result<R> {
        let mut row = self.row(key)?;
        let result = change(row.slot());
        row.raise_timestamp(timestamp);
        let at = row.at();
        let KeyValue { table, value: serde, .. } = &mut *self.store;
        if let Some(mut row) = table.row_at(at) {
            row.slot_again().take_if(|value| serde.is_null(value));
        }
        Ok(result)
    }
}

pub(crate) struct KeyValueSpec<K, V> {
    key: SerdeRef<K>,
    value: SerdeRef<V>,
}

impl<K, V> KeyValueSpec<K, V> {
    pub(crate) fn new(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key, value }
    }
}

impl<K: Data, V: Data> BuildStore for KeyValueSpec<K, V> {
    fn build(&self, slot: StoreId) -> Box<dyn Store> {
        Box::new(KeyValue {
            table: Table::new(true),
            key: SerdeRef::clone(&self.key),
            value: SerdeRef::clone(&self.value),
            slot,
            key_bytes: Vec::new(),
            value_bytes: Vec::new(),
        })
    }

    fn cleanup(&self) -> CleanupPolicy {
        CleanupPolicy::Compact
    }
}

/// The store itself. In the engine and in the changelog the key is that of the serde; in the changelog the value is, too.
pub(crate) struct KeyValue<K, V> {
    pub(super) table: Table<V>,
    pub(super) key: SerdeRef<K>,
    pub(super) value: SerdeRef<V>,
    pub(super) slot: StoreId,
    key_bytes: Vec<u8>,
    value_bytes: Vec<u8>,
}

impl<K: Data, V: Data> Store for KeyValue<K, V> {
    fn prepare(&mut self, state: &dyn TaskState) -> Result<()> {
        let empty = !state.last_key(self.slot, &mut Vec::new())?;
        self.table = Table::new(empty);
        Ok(())
    }

    fn begin_record(&mut self) {
        self.table.begin_record();
    }

    fn roll_back(&mut self) {
        self.table.roll_back();
    }

    fn look_ahead(&mut self, place: usize, keys: &[Option<&[u8]>]) {
        self.table.look_ahead(place, keys);
    }

    fn take_changes(&mut self, sink: &mut ChangeSink<'_>) -> Result<()> {
        let Self { table, value: serde, .. } = self;
        table.take_changes(|key, value, timestamp| {
            sink(&copied(Some(key)), &encoded(&**serde, value), timestamp)
        })
    }

    fn restore(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        (timestamp, place): (Timestamp, usize),
        _: &mut StateBatch,
    ) -> Result<()> {
        self.table.restore(key, restored(&*self.value, value)?, timestamp, place)
    }

    fn begin_spill(&mut self) {
        self.table.begin_spill();
    }

    fn restores_into_memory(&self) -> bool {
        true
    }

    fn expect(&mut self, rows: usize, bytes_max: usize) {
        self.table.expect(rows, bytes_max);
    }

    fn spill(&mut self, batch: &mut StateBatch, bytes_max: usize) -> Result<bool> {
        let Self { table, value: serde, value_bytes, slot, .. } = self;
        table.spill(|key, value, timestamp| {
            if encode_stored(&**serde, value, timestamp, value_bytes)? {
                batch.put(*slot, key, value_bytes);
            } else {
                batch.delete(*slot, key);
            }
            Ok(room(batch, bytes_max))
        })
    }

    fn evict(&mut self) {
        self.table.evict();
    }

    fn uncommitted_bytes(&self) -> usize {
        self.table.uncommitted_bytes()
    }

    fn bytes(&self) -> usize {
        self.table.bytes()
    }
}
