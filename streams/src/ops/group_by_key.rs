//! `group_by_key` and `group_by`: the doors to everything that aggregates.

use headwater_core::{Data, DefaultSerde, SerdeRef};

use super::{Consumed, Produced};
use crate::KStream;

/// A stream whose records of one key are in one task.
pub struct KGroupedStream<K, V>(pub(crate) KStream<K, V>);

impl<K: Data, V: Data> KStream<K, V> {
    /// Groups records by the key they have. Their partitions must follow that key:
    /// [`StreamsBuilder::build`](crate::StreamsBuilder::build) fails when an operator changed it since.
    pub fn group_by_key(&self) -> KGroupedStream<K, V> {
        self.needs_keys("group_by_key()");
        KGroupedStream(self.clone())
    }
}

impl<K: Data, V: Data + DefaultSerde> KStream<K, V> {
    /// Gives every record another key, brings records of one key together through the topic
    /// `<application id>-<name>-repartition`, and groups them: [`KStream::select_key`], [`KStream::repartition`] and
    /// [`KStream::group_by_key`] in one.
    ///
    /// ```
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{StreamsBuilder, TimeWindows, testing::TopologyTestDriver};
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .stream::<String, u64>("amounts")
    ///     .group_by("by-parity", |_, amount| amount % 2)
    ///     .windowed_by(TimeWindows::tumbling(Duration::from_secs(1)))
    ///     .aggregate("sums", u64::default, |_, amount, sum| *sum += amount)
    ///     .to_stream()
    ///     .map(|windowed, sum| (windowed.key, sum))
    ///     .to("sums-so-far");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for (number, amount) in (0..).zip([1u64, 2, 3]) {
    ///     driver.pipe("amounts", &"any".to_owned(), &amount, Timestamp(number))?;
    /// }
    /// let sums: Vec<(u64, u64)> = driver.read("sums-so-far")?.into_iter().map(|r| (r.key, r.value)).collect();
    /// assert_eq!(sums, [(1, 1), (0, 2), (1, 4)]);
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn group_by<K2: Data + DefaultSerde>(
        &self,
        name: &str,
        select: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
    ) -> KGroupedStream<K2, V> {
        self.group_by_with(name, (K2::default_serde(), V::default_serde()), select)
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// As [`KStream::group_by`], with serdes of your own for the new key and the value.
    pub fn group_by_with<K2: Data>(
        &self,
        name: &str,
        (key, value): (SerdeRef<K2>, SerdeRef<V>),
        select: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
    ) -> KGroupedStream<K2, V> {
        let produced = Produced::with(SerdeRef::clone(&key), SerdeRef::clone(&value));
        self.select_key(select).repartition_with(name, produced, Consumed::with(key, value)).group_by_key()
    }
}
