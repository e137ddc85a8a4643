//! `count`, `reduce` and `aggregate` of a grouped table: rows are taken out as well as in.

use std::sync::Arc;

use headwater_core::{Data, DefaultSerde, SerdeRef};

use super::KGroupedTable;
use crate::{
    KTable,
    ops::grouped::{self, reduce::combine_into},
    table::Change,
};

impl<K: Data, V: Data> KGroupedTable<K, V> {
    /// How many rows each group has. A group that had rows once stays, with 0. `store` names the store and its changelog; see
    /// [`StreamsBuilder::table`](crate::StreamsBuilder::table).
    pub fn count(&self, store: &str) -> KTable<K, u64> {
        self.aggregate_with(
            store,
            u64::default_serde(),
            u64::default,
            |_, _, n| *n += 1,
            |_, _, n| {
                *n = n.saturating_sub(1);
            },
        )
    }

    /// Combines the values of each group: `add` takes one in, `subtract` takes one out, which was put in before. The first
    /// is taken as it is.
    ///
    /// `store` names the store and its changelog; see [`StreamsBuilder::table`](crate::StreamsBuilder::table). When a row
    /// changes within its group, its old value is subtracted before the new one is added (Kafka: `KTableReduce`).
    pub fn reduce(
        &self,
        store: &str,
        add: impl Fn(V, V) -> V + Send + Sync + 'static,
        subtract: impl Fn(V, V) -> V + Send + Sync + 'static,
    ) -> KTable<K, V> {
        self.update(store, SerdeRef::clone(&self.serdes.1), move |_, change: Change<V>, row| {
            if let (Some(old), Some(_)) = (change.old, &*row) {
                *row = row.take().map(|so_far| subtract(so_far, old));
            }
            if let Some(new) = change.new {
                combine_into(&add, new, row);
            }
        })
    }

    /// Folds the values of each group into one that begins as `init()`; `add` takes one in, `subtract` takes one out, which
    /// was put in before.
    ///
    /// `store` names the store and its changelog; see [`StreamsBuilder::table`](crate::StreamsBuilder::table). The result's
    /// timestamp is the highest one of the changes so far (Kafka: `KTableAggregate`).
    ///
    /// ```
    /// use headwater_streams::StreamsBuilder;
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .table::<String, (String, u64)>("stock", "stock")
    ///     .group_by("by-warehouse", |_, (warehouse, pieces)| (warehouse.clone(), *pieces))
    ///     .aggregate("pieces", u64::default, |_, n, sum| *sum += n, |_, n, sum| *sum -= n)
    ///     .to_stream()
    ///     .to("pieces-by-warehouse");
    /// # builder.build()?;
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn aggregate<A: Data + DefaultSerde>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
        subtract: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
    ) -> KTable<K, A> {
        self.aggregate_with(store, A::default_serde(), init, add, subtract)
    }

    /// As [`KGroupedTable::aggregate`], with a serde of your own.
    pub fn aggregate_with<A: Data>(
        &self,
        store: &str,
        serde: SerdeRef<A>,
        init: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
        subtract: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
    ) -> KTable<K, A> {
        self.update(store, serde, move |key, change: Change<V>, row| {
            if let (Some(old), Some(so_far)) = (change.old, row.as_mut()) {
                subtract(key, old, so_far);
            }
            if let Some(new) = change.new {
                add(key, new, row.get_or_insert_with(&init));
            }
        })
    }

    fn update<A: Data>(
        &self,
        store: &str,
        serde: SerdeRef<A>,
        update: impl Fn(&K, Change<V>, &mut Option<A>) + Send + Sync + 'static,
    ) -> KTable<K, A> {
        let serdes = (SerdeRef::clone(&self.serdes.0), serde);
        grouped::update_rows(&self.changes, store, serdes, Arc::new(update))
    }
}
