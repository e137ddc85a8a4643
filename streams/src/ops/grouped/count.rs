//! `count` of a grouped stream.

use std::sync::Arc;

use headwater_core::{Data, DefaultSerde, SerdeRef};

use crate::{KGroupedStream, KTable};

impl<K: Data + DefaultSerde, V: Data> KGroupedStream<K, V> {
    /// Counts the records of each key, those whose value is `None` of an `Option`, too. `store` names the store and its changelog;
    /// see [`StreamsBuilder::table`](crate::StreamsBuilder::table). A record without key is dropped and counted.
    ///
    /// ```
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{StreamsBuilder, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .stream::<String, String>("texts")
    ///     .flat_map_values(|_, text| text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    ///     .group_by("by-word", |_, word| word.clone())
    ///     .count("counts")
    ///     .to_stream()
    ///     .to("word-counts");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe("texts", &"k".to_owned(), &"to be or not to be".to_owned(), Timestamp(0))?;
    /// let counts = driver.read::<String, Option<u64>>("word-counts")?;
    /// assert_eq!(counts.last().map(|r| (r.key.as_str(), r.value)), Some(("be", Some(2))));
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn count(&self, store: &str) -> KTable<K, u64> {
        self.count_with(store, K::default_serde())
    }
}

impl<K: Data, V: Data> KGroupedStream<K, V> {
    /// As [`KGroupedStream::count`], with a serde of your own for the key.
    pub fn count_with(&self, store: &str, key: SerdeRef<K>) -> KTable<K, u64> {
        let count = |_: &K, _: V, count: &mut Option<u64>| *count.get_or_insert(0) += 1;
        super::update_rows(&self.0, store, (key, u64::default_serde()), Arc::new(count))
    }
}
