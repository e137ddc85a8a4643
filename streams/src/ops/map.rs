//! `map` and `try_map`.

use std::sync::Arc;

use headwater_core::{Data, Record, Result};

use crate::{KStream, Processor, ProcessorContext};

impl<K: Data, V: Data> KStream<K, V> {
    /// Gives every record another key and value. Prefer [`KStream::map_values`] where the key stays: behind this, records of
    /// one key must be brought together by [`KStream::repartition`] before anything that works by key.
    ///
    /// ```
    /// use headwater_streams::testing::example;
    /// let words = example(|words| words.map(|key, word| (word.len() as u64, key + ":" + &word)), ["ab"]);
    /// assert_eq!(words, ["key:ab"]);
    /// ```
    pub fn map<K2: Data, V2: Data>(
        &self,
        map: impl Fn(K, V) -> (K2, V2) + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        self.try_map(move |key, value| Ok(map(key, value)))
    }

    /// As [`KStream::map`], with a function that may fail; the error policy decides about the record then.
    pub fn try_map<K2: Data, V2: Data>(
        &self,
        map: impl Fn(K, V) -> Result<(K2, V2)> + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        let map = Arc::new(map);
        self.then("map", &[], move || Map { map: Arc::clone(&map) }).rekeyed("map")
    }
}

struct Map<F> {
    map: Arc<F>,
}

impl<K, V, K2, V2, F> Processor<K, V, K2, V2> for Map<F>
where
    K: Data,
    V: Data,
    K2: Data,
    V2: Data,
    F: Fn(K, V) -> Result<(K2, V2)> + Send + Sync + 'static,
{
    #[inline]
    fn process(&mut self, record: Record<K, V>, cx: &mut ProcessorContext<'_, K2, V2>) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let (key, value) = (self.map)(key, value)?;
        cx.forward(Record { key, value, timestamp, headers })
    }
}
