//! `map_values` and `try_map_values`.

use std::sync::Arc;

use headwater_core::{Data, Record, Result};

use crate::{KStream, Processor, ProcessorContext};

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
        self.then("map-values", &[], move || MapValues { map: Arc::clone(&map) })
    }
}

struct MapValues<F> {
    map: Arc<F>,
}

impl<K, V, W, F> Processor<K, V, K, W> for MapValues<F>
where
    K: Data,
    V: Data,
    W: Data,
    F: Fn(&K, V) -> Result<W> + Send + Sync + 'static,
{
    #[inline]
    fn process(&mut self, record: Record<K, V>, cx: &mut ProcessorContext<'_, K, W>) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let value = (self.map)(&key, value)?;
        cx.forward(Record { key, value, timestamp, headers })
    }
}
