//! `map_values` and `try_map_values`.

use std::sync::Arc;

use headwater_core::{Data, Result};

use crate::{
    KStream,
    edge::{Lent, Process, Step},
    runtime::context::TaskContext,
};

impl<K: Data, V: Data> KStream<K, V> {
    /// Gives every record another value. The key stays, so nothing has to be repartitioned.
    ///
    /// ```
    /// use headwater_streams::testing::example;
    /// let loud = example(|words| words.map_values(|_, word| word.to_uppercase()), ["a", "b"]);
    /// assert_eq!(loud, ["A", "B"]);
    /// ```
    pub fn map_values<W: Data>(&self, map: impl Fn(&K, V) -> W + Send + Sync + 'static) -> KStream<K, W> {
        self.try_map_values(move |key, value| Ok(map(key, value)))
    }

    /// As [`KStream::map_values`], with a function that may fail; the error policy decides about the record then.
    pub fn try_map_values<W: Data>(
        &self,
        map: impl Fn(&K, V) -> Result<W> + Send + Sync + 'static,
    ) -> KStream<K, W> {
        let map = Arc::new(map);
        self.then_step("map-values", move || MapValues { map: Arc::clone(&map) })
    }
}

struct MapValues<F> {
    map: Arc<F>,
}

impl<K, V, W, F> Step<K, V, K, W> for MapValues<F>
where
    K: Data,
    V: Data,
    W: Data,
    F: Fn(&K, V) -> Result<W> + Send + Sync + 'static,
{
    #[inline]
    fn take(
        &mut self,
        record: Lent<'_, K, V>,
        next: &mut dyn Process<K, W>,
        task: &mut TaskContext,
    ) -> Result<()> {
        record.with_value(&*self.map, next, task)
    }
}
