//! Aggregates of a grouped stream without windows, one file each, and the processor under all of them.

mod aggregate;
mod count;
pub(crate) mod reduce;

use std::sync::Arc;

use headwater_core::{Data, Record, Result, SerdeRef};

use crate::{
    KStream, KTable, Processor, ProcessorContext, StreamsBuilder,
    state::KeyValueHandle,
    table::{Change, OldWanted},
    topology::Effect,
};

/// A table whose rows `update` changes with every record of `stream`; it leaves `None` to delete one.
pub(crate) fn update_rows<K, V, A, F>(
    stream: &KStream<K, V>,
    store: &str,
    (key, value): (SerdeRef<K>, SerdeRef<A>),
    update: Arc<F>,
) -> KTable<K, A>
where
    K: Data,
    V: Data,
    A: Data,
    F: Fn(&K, V, &mut Option<A>) + Send + Sync + 'static,
{
    let rows = StreamsBuilder::over(&stream.graph).key_value_store_with(store, key, SerdeRef::clone(&value));
    let old_wanted = OldWanted::default();
    let supplier = {
        let (rows, old_wanted) = (rows.clone(), old_wanted.clone());
        move || UpdateRow {
            rows: rows.clone(),
            serde: SerdeRef::clone(&value),
            update: Arc::clone(&update),
            old_wanted: old_wanted.is_wanted(),
        }
    };
    let changes = stream.then("aggregate", &[rows.index], supplier).marked(Effect::Aggregates);
    KTable::stored(changes, &rows, old_wanted)
}

/// Changes the row of each record's key (Kafka: `KStreamAggregate`, `KStreamReduce`, `KTableAggregate`, `KTableReduce`).
struct UpdateRow<K, A, F> {
    rows: KeyValueHandle<K, A>,
    serde: SerdeRef<A>,
    update: Arc<F>,
    old_wanted: bool,
}

impl<K, V, A, F> Processor<K, V, K, Change<A>> for UpdateRow<K, A, F>
where
    K: Data,
    V: Data,
    A: Data,
    F: Fn(&K, V, &mut Option<A>) + Send + Sync + 'static,
{
    #[inline]
    fn process(&mut self, record: Record<K, V>, cx: &mut ProcessorContext<'_, K, Change<A>>) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let mut rows = cx.task.key_value_store(&self.rows);
        let Some(mut row) = rows.row_unless_null(&key)? else {
            cx.task.null_keys += 1;
            return Ok(());
        };
        let old = if self.old_wanted { row.peek().cloned() } else { None };
        // A row that was deleted has no time, either.
        let time = if row.peek().is_some() { row.timestamp().max(timestamp) } else { timestamp };
        let slot = row.slot();
        (self.update)(&key, value, slot);
        // Kafka's null is no row, whatever the table holds in its place.
        slot.take_if(|value| self.serde.is_null(value));
        let new = slot.clone();
        row.set_timestamp(time);
        cx.forward(Record { key, value: Change { old, new }, timestamp: time, headers })
    }
}
