//! `table` and `to_table`: the latest value of each key becomes a row.

use headwater_core::{Data, DefaultSerde, Record, Result, SerdeRef};

use crate::{
    Consumed, KStream, KTable, Processor, ProcessorContext, StreamsBuilder,
    state::KeyValueHandle,
    table::{Change, OldWanted},
    topology::Effect,
};

impl StreamsBuilder {
    /// Reads a topic as a table, with the default serdes of its types: each record sets the row of its key, one with Kafka's
    /// null as value deletes it.
    ///
    /// `store` is the name of the store that holds the rows and, with the application's id before it and `-changelog` behind
    /// it, of its changelog topic. Records count in the order of their offsets: a later one wins, whatever its timestamp
    /// (Kafka: `KTableSource`).
    ///
    /// ```
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{StreamsBuilder, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.table::<String, u64>("stock", "stock-by-article").filter(|_, pieces| *pieces > 0).to_stream().to("available");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for (pieces, at) in [(Some(2u64), 0), (Some(0), 1), (None, 2)] {
    ///     driver.pipe("stock", &"nail".to_owned(), &pieces, Timestamp(at))?;
    /// }
    /// let available: Vec<Option<u64>> =
    ///     driver.read::<String, Option<u64>>("available")?.into_iter().map(|r| r.value).collect();
    /// assert_eq!(available, [Some(2), None]);
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn table<K: Data + DefaultSerde, V: Data + DefaultSerde>(
        &self,
        topic: &str,
        store: &str,
    ) -> KTable<K, V> {
        self.table_with(topic, store, Consumed::with(K::default_serde(), V::default_serde()))
    }

    /// As [`StreamsBuilder::table`], with serdes of your own. That of the value does not see the nulls of the topic; a value that
    /// it would write as Kafka's null deletes its row, too.
    pub fn table_with<K: Data, V: Data>(
        &self,
        topic: &str,
        store: &str,
        consumed: Consumed<K, V>,
    ) -> KTable<K, V> {
        let (key, value) = consumed.serdes();
        self.stream_with(topic, consumed.nullable()).to_table_nullable_with(store, (key, value))
    }
}

impl<K: Data + DefaultSerde, V: Data + DefaultSerde> KStream<K, V> {
    /// Makes a table of the latest value of each key. A record without key is dropped and counted.
    ///
    /// `store` is its durable name; see [`StreamsBuilder::table`]. A value that its serde makes Kafka's null deletes the row of
    /// its key, as it does in the changelog; [`KStream::to_table_nullable`] is for values in an `Option`.
    ///
    /// ```
    /// use headwater_streams::StreamsBuilder;
    /// let builder = StreamsBuilder::new();
    /// let readings = builder.stream::<String, f64>("readings");
    /// let latest = readings.to_table("latest-readings");
    /// readings.join_table(&latest, |_, reading, latest| reading - latest).to("differences");
    /// # builder.build()?;
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn to_table(&self, store: &str) -> KTable<K, V> {
        self.to_table_with(store, (K::default_serde(), V::default_serde()))
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// As [`KStream::to_table`], with serdes of your own.
    pub fn to_table_with(&self, store: &str, serdes: (SerdeRef<K>, SerdeRef<V>)) -> KTable<K, V> {
        self.map_values(|_, value| Some(value)).to_table_nullable_with(store, serdes)
    }
}

impl<K: Data + DefaultSerde, V: Data + DefaultSerde> KStream<K, Option<V>> {
    /// As [`KStream::to_table`]; `None` deletes the row of its key (Kafka: `toTable`).
    pub fn to_table_nullable(&self, store: &str) -> KTable<K, V> {
        self.to_table_nullable_with(store, (K::default_serde(), V::default_serde()))
    }
}

impl<K: Data, V: Data> KStream<K, Option<V>> {
    /// As [`KStream::to_table_nullable`], with serdes of your own.
    pub fn to_table_nullable_with(
        &self,
        store: &str,
        (key, value): (SerdeRef<K>, SerdeRef<V>),
    ) -> KTable<K, V> {
        self.needs_keys("to_table(..)");
        let rows =
            StreamsBuilder::over(&self.graph).key_value_store_with(store, key, SerdeRef::clone(&value));
        let supplier = {
            let rows = rows.clone();
            move || SetRow { rows: rows.clone(), serde: SerdeRef::clone(&value) }
        };
        let changes = self.then("table", &[rows.index], supplier).marked(Effect::SetsRows);
        KTable::stored(changes, &rows, OldWanted::default())
    }
}

struct SetRow<K, V> {
    rows: KeyValueHandle<K, V>,
    serde: SerdeRef<V>,
}

impl<K: Data, V: Data> Processor<K, Option<V>, K, Change<V>> for SetRow<K, V> {
    fn process(
        &mut self,
        record: Record<K, Option<V>>,
        cx: &mut ProcessorContext<'_, K, Change<V>>,
    ) -> Result<()> {
        let mut rows = cx.task.key_value_store(&self.rows);
        let Some(mut row) = rows.row_unless_null(&record.key)? else {
            cx.task.null_keys += 1;
            return Ok(());
        };
        // Kafka's null is no row, whatever the table would hold in its place.
        let record = record.map_value(|value| value.filter(|value| !self.serde.is_null(value)));
        let old = row.replace(record.value.clone(), record.timestamp);
        cx.forward(record.map_value(|new| Change { old, new }))
    }
}
