//! `join_table` and `left_join_table`: each record of a stream meets the row of its key.

use std::sync::Arc;

use headwater_core::{Data, Record, Result};

use crate::{KStream, KTable, Processor, ProcessorContext, table::Rows, topology::Effect};

impl<K: Data, V: Data> KStream<K, V> {
    /// Joins every record with the row that `table` has for its key now; a record without such a row is dropped. The result
    /// has the record's timestamp and headers. A change of the table sends nothing (Kafka: `KStreamKTableJoin`).
    ///
    /// Stream and table are read in the order of their timestamps, so a record meets the table as it was then; also in a
    /// replay. Their topics must have as many partitions, and be partitioned by the key.
    ///
    /// A record without key (`None` of an `Option`) is dropped and counted; a value that is `None` is joined like any other.
    ///
    /// ```
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{StreamsBuilder, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// let sensors = builder.table::<u64, String>("sensors", "sensors");
    /// builder
    ///     .stream::<u64, f64>("readings")
    ///     .join_table(&sensors, |_, reading, room| format!("{room}: {reading}"))
    ///     .to("readings-by-room");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe("readings", &7u64, &20.5f64, Timestamp(0))?;
    /// driver.pipe("sensors", &7u64, &Some("kitchen".to_owned()), Timestamp(1))?;
    /// driver.pipe("readings", &7u64, &21.5f64, Timestamp(2))?;
    /// let readings = driver.read::<u64, String>("readings-by-room")?;
    /// assert_eq!(readings.into_iter().map(|r| r.value).collect::<Vec<_>>(), ["kitchen: 21.5"]);
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn join_table<T: Data, R: Data>(
        &self,
        table: &KTable<K, T>,
        join: impl Fn(&K, V, &T) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let join = move |key: &K, value, row: Option<&T>| row.map(|row| join(key, value, row));
        self.lookup("join_table", table, true, join)
    }

    /// As [`KStream::join_table`], but a record without a row is joined with `None`, and so is one without key (Kafka:
    /// `leftJoin`, KIP-962).
    pub fn left_join_table<T: Data, R: Data>(
        &self,
        table: &KTable<K, T>,
        join: impl Fn(&K, V, Option<&T>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let join = move |key: &K, value, row: Option<&T>| Some(join(key, value, row));
        self.lookup("left_join_table", table, false, join)
    }

    fn lookup<T: Data, R: Data>(
        &self,
        operator: &'static str,
        table: &KTable<K, T>,
        keys_needed: bool,
        join: impl Fn(&K, V, Option<&T>) -> Option<R> + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.needs_keys(&format!("{operator}(..)"));
        let stores: &[usize] =
            if self.same_builder(operator, &table.changes.graph) { &table.stores } else { &[] };
        let (rows, join) = (Arc::clone(&table.rows), Arc::new(join));
        self.then("join-table", stores, move || Lookup {
            rows: Arc::clone(&rows),
            join: Arc::clone(&join),
            keys_needed,
        })
        .marked(Effect::LooksUp)
    }
}

struct Lookup<K, T, F> {
    rows: Arc<dyn Rows<K, T>>,
    join: Arc<F>,
    /// Whether a record without key is dropped.
    keys_needed: bool,
}

impl<K, V, T, R, F> Processor<K, V, K, R> for Lookup<K, T, F>
where
    K: Data,
    V: Data,
    T: Data,
    R: Data,
    F: Fn(&K, V, Option<&T>) -> Option<R> + Send + Sync + 'static,
{
    fn process(&mut self, record: Record<K, V>, cx: &mut ProcessorContext<'_, K, R>) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let (mut value, mut joined) = (Some(value), None);
        let has_key = self.rows.read(&key, cx.task, &mut |row| {
            joined = value.take().and_then(|value| (self.join)(&key, value, row));
        })?;
        if !has_key && self.keys_needed {
            cx.task.null_keys += 1;
            return Ok(());
        }
        joined.map_or(Ok(()), |value| cx.forward(Record { key, value, timestamp, headers }))
    }
}
