//! `reduce` of a grouped stream.

use std::sync::Arc;

use headwater_core::{Data, DefaultSerde, SerdeRef};

use crate::{KGroupedStream, KTable};

impl<K: Data + DefaultSerde, V: Data + DefaultSerde> KGroupedStream<K, V> {
    /// Combines the values of each key: `combine` gets what there is so far and the next value; the first is taken as it is.
    /// `store` names the store and its changelog; see [`StreamsBuilder::table`](crate::StreamsBuilder::table). A record without
    /// key is dropped and counted; `None` of an `Option` is a value like any other, and as a result deletes the row.
    ///
    /// ```
    /// use headwater_streams::StreamsBuilder;
    /// let builder = StreamsBuilder::new();
    /// builder.stream::<String, f64>("readings").group_by_key().reduce("highest", f64::max).to_stream().to("records");
    /// # builder.build()?;
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn reduce(&self, store: &str, combine: impl Fn(V, V) -> V + Send + Sync + 'static) -> KTable<K, V> {
        self.reduce_with(store, (K::default_serde(), V::default_serde()), combine)
    }
}

impl<K: Data, V: Data> KGroupedStream<K, V> {
    /// As [`KGroupedStream::reduce`], with serdes of your own.
    pub fn reduce_with(
        &self,
        store: &str,
        serdes: (SerdeRef<K>, SerdeRef<V>),
        combine: impl Fn(V, V) -> V + Send + Sync + 'static,
    ) -> KTable<K, V> {
        let update = move |_: &K, value: V, row: &mut Option<V>| combine_into(&combine, value, row);
        super::update_rows(&self.0, store, serdes, Arc::new(update))
    }
}

/// What every `reduce` does to its row: the first value is taken as it is.
pub(crate) fn combine_into<V>(combine: &impl Fn(V, V) -> V, value: V, row: &mut Option<V>) {
    *row = Some(match row.take() {
        Some(so_far) => combine(so_far, value),
        None => value,
    });
}
