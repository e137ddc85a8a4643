//! `aggregate` of a grouped stream, without windows.

use std::sync::Arc;

use headwater_core::{Data, DefaultSerde, SerdeRef};

use crate::{KGroupedStream, KTable};

impl<K: Data + DefaultSerde, V: Data> KGroupedStream<K, V> {
    /// Folds the records of each key into a value that begins as `init()` and is changed by `add`. Nothing is ever late; the
    /// result's timestamp is the highest one of the key's records so far (Kafka: `KStreamAggregate`).
    ///
    /// `store` names the store and its changelog; see [`StreamsBuilder::table`](crate::StreamsBuilder::table). A `None` of an
    /// `Option` is a value like any other here; filter it out where it shall not count (Kafka drops nulls silently). A record
    /// without key is dropped and counted.
    ///
    /// ```
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{StreamsBuilder, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .stream::<String, u64>("amounts")
    ///     .group_by_key()
    ///     .aggregate("sums", u64::default, |_, amount, sum| *sum += amount)
    ///     .to_stream()
    ///     .to("sums-so-far");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for amount in [1u64, 2, 4] {
    ///     driver.pipe("amounts", &"a".to_owned(), &amount, Timestamp(0))?;
    /// }
    /// let sums: Vec<_> = driver.read::<String, Option<u64>>("sums-so-far")?.into_iter().filter_map(|r| r.value).collect();
    /// assert_eq!(sums, [1, 3, 7]);
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn aggregate<A: Data + DefaultSerde>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
    ) -> KTable<K, A> {
        self.aggregate_with(store, (K::default_serde(), A::default_serde()), init, add)
    }

    /// As [`KGroupedStream::aggregate`], with a function that may give the row up: `None` deletes it, and the next record of
    /// its key begins with `init()` again.
    ///
    /// ```
    /// use headwater_streams::StreamsBuilder;
    /// let builder = StreamsBuilder::new();
    /// let open_orders = builder
    ///     .stream::<u64, String>("order-events")
    ///     .group_by_key()
    ///     .aggregate_or_delete("open-orders", String::new, |_, event, events| {
    ///         (event != "shipped").then(|| events + &event + ";")
    ///     });
    /// # let _: headwater_streams::KTable<u64, String> = open_orders;
    /// # builder.build()?;
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn aggregate_or_delete<A: Data + DefaultSerde>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
    ) -> KTable<K, A> {
        self.aggregate_or_delete_with(store, (K::default_serde(), A::default_serde()), init, add)
    }
}

impl<K: Data, V: Data> KGroupedStream<K, V> {
    /// As [`KGroupedStream::aggregate`], with serdes of your own for key and value.
    pub fn aggregate_with<A: Data>(
        &self,
        store: &str,
        serdes: (SerdeRef<K>, SerdeRef<A>),
        init: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
    ) -> KTable<K, A> {
        let update = move |key: &K, value: V, row: &mut Option<A>| {
            add(key, value, row.get_or_insert_with(&init));
        };
        super::update_rows(&self.0, store, serdes, Arc::new(update))
    }

    /// As [`KGroupedStream::aggregate_or_delete`], with serdes of your own for key and value.
    ///
    /// ```
    /// use headwater_core::{DefaultSerde, serdes::json};
    /// use headwater_streams::{KTable, StreamsBuilder};
    ///
    /// let builder = StreamsBuilder::new();
    /// let open_orders: KTable<u64, Vec<String>> = builder
    ///     .stream::<u64, String>("order-events")
    ///     .group_by_key()
    ///     .aggregate_or_delete_with("open-orders", (u64::default_serde(), json()), Vec::new, |_, event, mut events| {
    ///         let open = event != "shipped";
    ///         events.push(event);
    ///         open.then_some(events)
    ///     });
    /// # builder.build()?;
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn aggregate_or_delete_with<A: Data>(
        &self,
        store: &str,
        serdes: (SerdeRef<K>, SerdeRef<A>),
        init: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
    ) -> KTable<K, A> {
        let update = move |key: &K, value: V, row: &mut Option<A>| {
            let so_far = row.take().unwrap_or_else(&init);
            *row = add(key, value, so_far);
        };
        super::update_rows(&self.0, store, serdes, Arc::new(update))
    }
}
