//! `map` and `try_map`.

use std::sync::Arc;

use headwater_core::{Data, Record, Result};

use crate::{
    KStream,
    edge::{Lent, Process, Rest, Step},
    runtime::context::TaskContext,
};

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
        self.then_step("map", move || Map { map: Arc::clone(&map) }).rekeyed("map")
    }
}

struct Map<F> {
    map: Arc<F>,
}

impl<K, V, K2, V2, F> Step<K, V, K2, V2> for Map<F>
where
    K: Data,
    V: Data,
    K2: Data,
    V2: Data,
    F: Fn(K, V) -> Result<(K2, V2)> + Send + Sync + 'static,
{
    #[inline]
    fn take(
        &mut self,
        record: Lent<'_, K, V>,
        next: &mut dyn Process<K2, V2>,
        task: &mut TaskContext,
    ) -> Result<()> {
        let Record { key, value, timestamp, headers } = record.take();
        let (key, value) = (self.map)(key, value)?;
        let mut rest = Rest::new(value, timestamp, headers);
        next.process(Lent::new(&mut Some(key), &mut rest), task)
    }
}
