//! `count` in windows.

use headwater_core::{Data, DefaultSerde, SerdeRef};

use crate::{SessionTable, SessionWindows, WindowedStream, WindowedTable};

impl<K: Data + DefaultSerde, V: Data> WindowedStream<K, V> {
    /// How many records each key has in each window. `name` and what is late: as in [`WindowedStream::aggregate`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{StreamsBuilder, TimeWindows, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// let (size, advance) = (Duration::from_millis(10), Duration::from_millis(5));
    /// builder
    ///     .stream::<String, String>("clicks")
    ///     .group_by_key()
    ///     .windowed_by(TimeWindows::hopping(size, advance))
    ///     .count("clicks-so-far")
    ///     .to_stream()
    ///     .map(|windowed, count| (windowed.window.start.0, count))
    ///     .to("counts");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for at in [7, 12] {
    ///     driver.pipe("clicks", &"ann".to_owned(), &"here".to_owned(), Timestamp(at))?;
    /// }
    /// let counts: Vec<(i64, u64)> = driver.read("counts")?.into_iter().map(|r| (r.key, r.value)).collect();
    /// assert_eq!(counts, [(0, 1), (5, 1), (5, 2), (10, 1)]);
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn count(self, name: &str) -> WindowedTable<K, u64> {
        self.count_with(name, K::default_serde())
    }
}

impl<K: Data, V: Data> WindowedStream<K, V> {
    /// As [`WindowedStream::count`], with a serde of your own for the key.
    pub fn count_with(self, name: &str, key: SerdeRef<K>) -> WindowedTable<K, u64> {
        self.fold("count", name, (key, u64::default_serde()), |_, _, count| *count.get_or_insert(0) += 1)
    }
}

impl<K: Data + DefaultSerde, V: Data> WindowedStream<K, V, SessionWindows> {
    /// How many records each session has. `name` and what is late: as in `aggregate` of sessions.
    pub fn count(self, name: &str) -> SessionTable<K, u64> {
        self.count_with(name, K::default_serde())
    }
}

impl<K: Data, V: Data> WindowedStream<K, V, SessionWindows> {
    /// As `count` of sessions, with a serde of your own for the key.
    pub fn count_with(self, name: &str, key: SerdeRef<K>) -> SessionTable<K, u64> {
        let fold = |_: &K, _, count: &mut Option<u64>| *count.get_or_insert(0) += 1;
        let merge = |_: &K, other, count: &mut Option<u64>| *count.get_or_insert(0) += other;
        self.fold("count", name, (key, u64::default_serde()), (fold, merge))
    }
}
