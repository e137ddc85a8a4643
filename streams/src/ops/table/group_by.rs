//! `group_by` of tables: rows grouped by another key, each leaving its old group when it changes.

use std::sync::Arc;

use headwater_core::{Data, DefaultSerde, Record, Result, SerdeRef};

use super::change_serde::ChangeSerde;
use crate::{
    Consumed, KStream, KTable, Processor, ProcessorContext, Produced, table::Change, topology::Effect,
};

/// The rows of a table, grouped by another key.
pub struct KGroupedTable<K, V> {
    pub(super) changes: KStream<K, Change<V>>,
    pub(super) serdes: (SerdeRef<K>, SerdeRef<V>),
}

impl<K: Data, V: Data> KTable<K, V> {
    /// Groups the rows by the key that `select` gives them; what is aggregated is the value that it gives. Rows travel
    /// through the topic `<application id>-<name>-repartition`.
    ///
    /// When a row changes, the group that it was in takes its old value out, and the group that it is in now takes its new
    /// one in; those may be two tasks, so for a moment it may be in neither (Kafka: `KTableRepartitionMap`). A row to which
    /// `select` gives a key or a value that is Kafka's null by its serde is in no group.
    ///
    /// ```
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{StreamsBuilder, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .table::<String, String>("city-by-person", "cities")
    ///     .group_by("by-city", |person, city| (city.clone(), person.clone()))
    ///     .count("people-by-city")
    ///     .to_stream()
    ///     .to("people");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for (city, at) in [("Rome", 0), ("Oslo", 1)] {
    ///     driver.pipe("city-by-person", &"Ada".to_owned(), &Some(city.to_owned()), Timestamp(at))?;
    /// }
    /// let people: Vec<_> =
    ///     driver.read::<String, Option<u64>>("people")?.into_iter().map(|r| (r.key, r.value)).collect();
    /// assert_eq!(people, [("Rome".to_owned(), Some(1)), ("Rome".to_owned(), Some(0)), ("Oslo".to_owned(), Some(1))]);
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn group_by<K2, V2>(
        &self,
        name: &str,
        select: impl Fn(&K, &V) -> (K2, V2) + Send + Sync + 'static,
    ) -> KGroupedTable<K2, V2>
    where
        K2: Data + DefaultSerde + PartialEq,
        V2: Data + DefaultSerde,
    {
        self.group_by_with(name, (K2::default_serde(), V2::default_serde()), select)
    }

    /// As [`KTable::group_by`], with serdes of your own for the new key and value.
    pub fn group_by_with<K2: Data + PartialEq, V2: Data>(
        &self,
        name: &str,
        (key, value): (SerdeRef<K2>, SerdeRef<V2>),
        select: impl Fn(&K, &V) -> (K2, V2) + Send + Sync + 'static,
    ) -> KGroupedTable<K2, V2> {
        self.old_wanted.want();
        let select = Arc::new(select);
        let serdes = (SerdeRef::clone(&key), SerdeRef::clone(&value));
        let moves = self.changes.then("table-group-by", &[], move || MoveRows {
            select: Arc::clone(&select),
            key: SerdeRef::clone(&serdes.0),
            value: SerdeRef::clone(&serdes.1),
        });
        let moves = moves.marked(Effect::Rekeys);
        let change: SerdeRef<Change<V2>> = Arc::new(ChangeSerde(SerdeRef::clone(&value)));
        let changes = moves.repartition_with(
            name,
            Produced::with(SerdeRef::clone(&key), SerdeRef::clone(&change)),
            Consumed::with(SerdeRef::clone(&key), change),
        );
        KGroupedTable { changes, serdes: (key, value) }
    }
}

struct MoveRows<K2, V2, F> {
    select: Arc<F>,
    key: SerdeRef<K2>,
    value: SerdeRef<V2>,
}

impl<K, V, K2, V2, F> Processor<K, Change<V>, K2, Change<V2>> for MoveRows<K2, V2, F>
where
    K: Data,
    V: Data,
    K2: Data + PartialEq,
    V2: Data,
    F: Fn(&K, &V) -> (K2, V2) + Send + Sync + 'static,
{
    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        cx: &mut ProcessorContext<'_, K2, Change<V2>>,
    ) -> Result<()> {
        let Record { key, value: Change { old, new }, timestamp, headers } = record;
        // A change has no bytes for null. Kafka skips such a side, too.
        let grouped = |row: Option<V>| {
            row.map(|value| (self.select)(&key, &value))
                .filter(|(key, value)| !self.key.is_null(key) && !self.value.is_null(value))
        };
        let (old, new) = (grouped(old), grouped(new));
        let mut send = |key, old, new| {
            cx.forward(Record { key, value: Change { old, new }, timestamp, headers: headers.clone() })
        };
        match (old, new) {
            (Some((from, old)), Some((to, new))) if from == to => send(to, Some(old), Some(new)),
            (old, new) => {
                // Out of the old group first, as `reduce` and `aggregate` do within one.
                if let Some((from, old)) = old {
                    send(from, Some(old), None)?;
                }
                new.map_or(Ok(()), |(to, new)| send(to, None, Some(new)))
            }
        }
    }
}
