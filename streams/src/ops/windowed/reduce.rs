//! `reduce` in windows.

use std::sync::Arc;

use headwater_core::{Data, DefaultSerde, SerdeRef};

use crate::{
    SessionTable, SessionWindows, WindowedStream, WindowedTable, ops::grouped::reduce::combine_into,
};

impl<K: Data + DefaultSerde, V: Data + DefaultSerde> WindowedStream<K, V> {
    /// Makes one value of all those of a key and window: the first is the first result, and each that follows is combined with
    /// it, `reduce(so_far, value)`. `name` and what is late: as in [`WindowedStream::aggregate`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{StreamsBuilder, TimeWindows, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .stream::<String, u64>("readings")
    ///     .group_by_key()
    ///     .windowed_by(TimeWindows::tumbling(Duration::from_millis(10)))
    ///     .reduce("lowest", u64::min)
    ///     .to_stream()
    ///     .map(|windowed, lowest| (windowed.window.start.0, lowest))
    ///     .to("lowest-readings");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for (reading, at) in [(3u64, 0), (7, 4), (5, 10)] {
    ///     driver.pipe("readings", &"a".to_owned(), &reading, Timestamp(at))?;
    /// }
    /// let lowest: Vec<(i64, u64)> = driver.read("lowest-readings")?.into_iter().map(|r| (r.key, r.value)).collect();
    /// assert_eq!(lowest, [(0, 3), (0, 3), (10, 5)]);
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn reduce(
        self,
        name: &str,
        reduce: impl Fn(V, V) -> V + Send + Sync + 'static,
    ) -> WindowedTable<K, V> {
        self.reduce_with(name, (K::default_serde(), V::default_serde()), reduce)
    }
}

impl<K: Data, V: Data> WindowedStream<K, V> {
    /// As [`WindowedStream::reduce`], with serdes of your own for key and value.
    pub fn reduce_with(
        self,
        name: &str,
        serdes: (SerdeRef<K>, SerdeRef<V>),
        reduce: impl Fn(V, V) -> V + Send + Sync + 'static,
    ) -> WindowedTable<K, V> {
        self.fold("reduce", name, serdes, move |_, value, so_far| combine_into(&reduce, value, so_far))
    }
}

impl<K: Data + DefaultSerde, V: Data + DefaultSerde> WindowedStream<K, V, SessionWindows> {
    /// Makes one value of all those of a session: the first is the first result, and each that follows is combined with it,
    /// `reduce(so_far, value)`. When sessions become one, so do their results, the earlier one first. `name` and what is late:
    /// as in `aggregate` of sessions.
    pub fn reduce(
        self,
        name: &str,
        reduce: impl Fn(V, V) -> V + Send + Sync + 'static,
    ) -> SessionTable<K, V> {
        self.reduce_with(name, (K::default_serde(), V::default_serde()), reduce)
    }
}

impl<K: Data, V: Data> WindowedStream<K, V, SessionWindows> {
    /// As `reduce` of sessions, with serdes of your own for key and value.
    pub fn reduce_with(
        self,
        name: &str,
        serdes: (SerdeRef<K>, SerdeRef<V>),
        reduce: impl Fn(V, V) -> V + Send + Sync + 'static,
    ) -> SessionTable<K, V> {
        let reduce = Arc::new(reduce);
        let merge = {
            let reduce = Arc::clone(&reduce);
            move |_: &K, other, so_far: &mut Option<V>| combine_into(&*reduce, other, so_far)
        };
        let fold = move |_: &K, value, so_far: &mut Option<V>| combine_into(&*reduce, value, so_far);
        self.fold("reduce", name, serdes, (fold, merge))
    }
}
