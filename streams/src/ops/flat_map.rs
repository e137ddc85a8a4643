//! `flat_map` and `flat_map_values`.

use std::sync::Arc;

use headwater_core::{Data, Headers, Record, Result, Timestamp};

use crate::{KStream, Processor, ProcessorContext, topology::Effect};

impl<K: Data, V: Data> KStream<K, V> {
    /// Makes any number of records of each one, with its timestamp and headers. Keys may change: before anything that works
    /// by key, [`KStream::repartition`] must bring records of one key together.
    ///
    /// ```
    /// use headwater_streams::testing::example;
    /// let letters = example(
    ///     |words| words.flat_map(|_, word| word.chars().map(|c| (c.to_string(), c.to_string())).collect::<Vec<_>>()),
    ///     ["ab", "", "c"],
    /// );
    /// assert_eq!(letters, ["a", "b", "c"]);
    /// ```
    pub fn flat_map<K2, V2, I>(&self, map: impl Fn(K, V) -> I + Send + Sync + 'static) -> KStream<K2, V2>
    where
        K2: Data,
        V2: Data,
        I: IntoIterator<Item = (K2, V2)> + 'static,
    {
        self.try_flat_map(move |key, value| Ok(map(key, value)))
    }

    /// As [`KStream::flat_map`], with a function that may fail; the error policy decides about the record then.
    pub fn try_flat_map<K2, V2, I>(
        &self,
        map: impl Fn(K, V) -> Result<I> + Send + Sync + 'static,
    ) -> KStream<K2, V2>
    where
        K2: Data,
        V2: Data,
        I: IntoIterator<Item = (K2, V2)> + 'static,
    {
        let map = Arc::new(map);
        self.then("flat-map", &[], move || FlatMap { map: Arc::clone(&map) }).rekeyed("flat_map")
    }

    /// Makes any number of records of each one, with its key, timestamp and headers.
    ///
    /// ```
    /// use headwater_streams::testing::example;
    /// let words = example(
    ///     |texts| texts.flat_map_values(|_, text| text.split(' ').map(str::to_owned).collect::<Vec<_>>()),
    ///     ["to be", "or"],
    /// );
    /// assert_eq!(words, ["to", "be", "or"]);
    /// ```
    pub fn flat_map_values<W, I>(&self, map: impl Fn(&K, V) -> I + Send + Sync + 'static) -> KStream<K, W>
    where
        W: Data,
        I: IntoIterator<Item = W> + 'static,
    {
        self.try_flat_map_values(move |key, value| Ok(map(key, value)))
    }

    /// As [`KStream::flat_map_values`], with a function that may fail; the error policy decides about the record then.
    pub fn try_flat_map_values<W, I>(
        &self,
        map: impl Fn(&K, V) -> Result<I> + Send + Sync + 'static,
    ) -> KStream<K, W>
    where
        W: Data,
        I: IntoIterator<Item = W> + 'static,
    {
        let map = Arc::new(map);
        self.then("flat-map-values", &[], move || FlatMapValues { map: Arc::clone(&map) })
            .marked(Effect::Multiplies)
    }
}

struct FlatMap<F> {
    map: Arc<F>,
}

impl<K, V, K2, V2, I, F> Processor<K, V, K2, V2> for FlatMap<F>
where
    K: Data,
    V: Data,
    K2: Data,
    V2: Data,
    I: IntoIterator<Item = (K2, V2)> + 'static,
    F: Fn(K, V) -> Result<I> + Send + Sync + 'static,
{
    fn process(&mut self, record: Record<K, V>, cx: &mut ProcessorContext<'_, K2, V2>) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        forward_all((self.map)(key, value)?, timestamp, &headers, cx)
    }
}

struct FlatMapValues<F> {
    map: Arc<F>,
}

impl<K, V, W, I, F> Processor<K, V, K, W> for FlatMapValues<F>
where
    K: Data,
    V: Data,
    W: Data,
    I: IntoIterator<Item = W> + 'static,
    F: Fn(&K, V) -> Result<I> + Send + Sync + 'static,
{
    fn process(&mut self, record: Record<K, V>, cx: &mut ProcessorContext<'_, K, W>) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let values = (self.map)(&key, value)?;
        forward_all(values.into_iter().map(|value| (key.clone(), value)), timestamp, &headers, cx)
    }
}

fn forward_all<K: Data, V: Data>(
    records: impl IntoIterator<Item = (K, V)>,
    timestamp: Timestamp,
    headers: &Headers,
    cx: &mut ProcessorContext<'_, K, V>,
) -> Result<()> {
    for (key, value) in records {
        cx.forward(Record { key, value, timestamp, headers: headers.clone() })?;
    }
    Ok(())
}
