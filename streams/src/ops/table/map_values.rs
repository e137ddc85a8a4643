//! `map_values` of tables.

use std::sync::Arc;

use headwater_core::{Data, Record, Result};

use crate::{
    KTable, Processor, ProcessorContext,
    runtime::context::TaskContext,
    table::{Change, Rows},
};

impl<K: Data, V: Data> KTable<K, V> {
    /// The same rows with other values. `map` is called again whenever a row is read, so it should be cheap and must always
    /// give the same; it is not called about a deleted row (Kafka: `KTableMapValues`, not materialized).
    ///
    /// ```
    /// use headwater_streams::StreamsBuilder;
    /// let builder = StreamsBuilder::new();
    /// let names = builder.table::<u64, String>("users", "users").map_values(|_, name| name.to_uppercase());
    /// builder.stream::<u64, String>("clicks").join_table(&names, |_, url, name| format!("{name} {url}")).to("named");
    /// # builder.build()?;
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn map_values<W: Data>(&self, map: impl Fn(&K, &V) -> W + Send + Sync + 'static) -> KTable<K, W> {
        let map = Arc::new(map);
        let rows = Mapped { rows: Arc::clone(&self.rows), map: Arc::clone(&map) };
        let changes =
            self.changes.then("table-map-values", &[], move || MapChanges { map: Arc::clone(&map) });
        self.computed(changes, rows)
    }
}

struct MapChanges<F> {
    map: Arc<F>,
}

impl<K, V, W, F> Processor<K, Change<V>, K, Change<W>> for MapChanges<F>
where
    K: Data,
    V: Data,
    W: Data,
    F: Fn(&K, &V) -> W + Send + Sync + 'static,
{
    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        cx: &mut ProcessorContext<'_, K, Change<W>>,
    ) -> Result<()> {
        let Record { key, value: Change { old, new }, timestamp, headers } = record;
        let map = |value: Option<V>| value.map(|value| (self.map)(&key, &value));
        let value = Change { old: map(old), new: map(new) };
        cx.forward(Record { key, value, timestamp, headers })
    }
}

struct Mapped<K, V, F> {
    rows: Arc<dyn Rows<K, V>>,
    map: Arc<F>,
}

impl<K: Data, V: Data, W: Data, F: Fn(&K, &V) -> W + Send + Sync> Rows<K, W> for Mapped<K, V, F> {
    fn read(&self, key: &K, task: &mut TaskContext, visit: &mut dyn FnMut(Option<&W>)) -> Result<bool> {
        self.rows.read(key, task, &mut |row| visit(row.map(|value| (self.map)(key, value)).as_ref()))
    }
}
