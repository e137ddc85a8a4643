//! `filter` and `filter_not` of tables.

use std::sync::Arc;

use headwater_core::{Data, Record, Result};

use crate::{
    KTable, Processor, ProcessorContext,
    runtime::context::TaskContext,
    table::{Change, Rows},
    topology::Effect,
};

impl<K: Data, V: Data> KTable<K, V> {
    /// The rows for which `predicate` holds. A row that ceases to be one of them is deleted; about a row that neither is nor
    /// was one, nothing is sent (Kafka: `KTableFilter` behind a materialized table).
    ///
    /// ```
    /// use headwater_streams::StreamsBuilder;
    /// let builder = StreamsBuilder::new();
    /// let prices = builder.table::<String, f64>("prices", "prices");
    /// prices.filter(|_, price| *price < 10.0).to_stream().to("cheap");
    /// prices.filter_not(|_, price| *price < 10.0).to_stream().to("dear");
    /// # builder.build()?;
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn filter(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KTable<K, V> {
        self.old_wanted.want();
        let predicate = Arc::new(predicate);
        let rows = Filtered { rows: Arc::clone(&self.rows), predicate: Arc::clone(&predicate) };
        let changes = self
            .changes
            .then("table-filter", &[], move || FilterChanges { predicate: Arc::clone(&predicate) })
            .marked(Effect::FiltersRows);
        self.computed(changes, rows)
    }

    /// The rows for which `predicate` does not hold; see [`KTable::filter`].
    pub fn filter_not(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KTable<K, V> {
        self.filter(move |key, value| !predicate(key, value))
    }
}

struct FilterChanges<F> {
    predicate: Arc<F>,
}

impl<K, V, F> Processor<K, Change<V>, K, Change<V>> for FilterChanges<F>
where
    K: Data,
    V: Data,
    F: Fn(&K, &V) -> bool + Send + Sync + 'static,
{
    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        cx: &mut ProcessorContext<'_, K, Change<V>>,
    ) -> Result<()> {
        let Record { key, value: Change { old, new }, timestamp, headers } = record;
        let old = old.filter(|value| (self.predicate)(&key, value));
        let new = new.filter(|value| (self.predicate)(&key, value));
        if old.is_none() && new.is_none() {
            return Ok(());
        }
        cx.forward(Record { key, value: Change { old, new }, timestamp, headers })
    }
}

struct Filtered<K, V, F> {
    rows: Arc<dyn Rows<K, V>>,
    predicate: Arc<F>,
}

impl<K: Data, V: Data, F: Fn(&K, &V) -> bool + Send + Sync> Rows<K, V> for Filtered<K, V, F> {
    fn read(&self, key: &K, task: &mut TaskContext, visit: &mut dyn FnMut(Option<&V>)) -> Result<bool> {
        self.rows.read(key, task, &mut |row| visit(row.filter(|value| (self.predicate)(key, value))))
    }
}
