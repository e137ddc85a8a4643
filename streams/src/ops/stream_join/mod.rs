//! `join`, `left_join` and `outer_join` of two streams, within windows of time.

mod joiner;
mod processor;

use std::{rc::Rc, sync::Arc};

use headwater_core::{Data, DefaultSerde, Error, SerdeRef};

use self::{
    joiner::{Flipped, Inner, Joiner, Left, Outer},
    processor::{JoinInput, Sides},
};
use super::branch::Pass;
use crate::{JoinWindows, KStream, state::JoinStoreSpec, topology::Effect};

/// How the two sides of a stream-stream join are stored (Kafka: `StreamJoined`).
pub struct StreamJoined<K, V, W> {
    key: SerdeRef<K>,
    left: SerdeRef<V>,
    right: SerdeRef<W>,
}

impl<K, V, W> StreamJoined<K, V, W> {
    /// With these serdes: of the key, and of the values of both sides.
    pub fn with(key: SerdeRef<K>, left: SerdeRef<V>, right: SerdeRef<W>) -> Self {
        Self { key, left, right }
    }
}

impl<K, V, W> Clone for StreamJoined<K, V, W> {
    fn clone(&self) -> Self {
        Self {
            key: SerdeRef::clone(&self.key),
            left: SerdeRef::clone(&self.left),
            right: SerdeRef::clone(&self.right),
        }
    }
}

impl<K: DefaultSerde, V: DefaultSerde, W: DefaultSerde> Default for StreamJoined<K, V, W> {
    /// With the default serdes of its types.
    fn default() -> Self {
        Self::with(K::default_serde(), V::default_serde(), W::default_serde())
    }
}

impl<K: Data + DefaultSerde, V: Data + DefaultSerde> KStream<K, V> {
    /// Makes a record of every two records, one of each stream, that have the same key and lie within `windows` of each
    /// other, whichever comes first (Kafka: `KStream.join`).
    ///
    /// A result has the later of both timestamps, and the headers of the record that came last. A record's results come
    /// in the order of the other records' timestamps, those of one timestamp in the order of their arrival. Records
    /// without key or value are dropped and counted.
    ///
    /// Both sides keep their records for the length of the windows and the grace, in the stores `<name>-left` and
    /// `<name>-right`. Time is the highest timestamp of either side; a record that is too old to be kept is still joined
    /// with what is there, and counted as late when that is nothing.
    ///
    /// Both streams must be divided by key alike: their topics have the same number of partitions, and an operator that
    /// changes keys is followed by a [`KStream::repartition`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{JoinWindows, StreamsBuilder, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// let orders = builder.stream::<String, u64>("orders");
    /// let payments = builder.stream::<String, String>("payments");
    /// orders
    ///     .join(&payments, "paid", JoinWindows::within(Duration::from_secs(60)), |_, amount, by| {
    ///         format!("{amount} by {by}")
    ///     })
    ///     .to("paid-orders");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe("orders", &"order-1".to_owned(), &100u64, Timestamp(0))?;
    /// driver.pipe("payments", &"order-1".to_owned(), &"card".to_owned(), Timestamp(60_000))?;
    /// driver.pipe("payments", &"order-1".to_owned(), &"cash".to_owned(), Timestamp(60_001))?;
    /// let paid = driver.read::<String, String>("paid-orders")?;
    /// assert_eq!((paid.len(), paid[0].value.as_str(), paid[0].timestamp), (1, "100 by card", Timestamp(60_000)));
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn join<W: Data + DefaultSerde, R: Data>(
        &self,
        other: &KStream<K, W>,
        name: &str,
        windows: JoinWindows,
        joiner: impl Fn(&K, &V, &W) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.join_with(other, name, windows, StreamJoined::default(), joiner)
    }

    /// As [`KStream::join`], and a left record that meets nobody makes a record, too, with `None` for the right one
    /// (Kafka: `KStream.leftJoin`).
    ///
    /// That waits until time has passed the end of the record's window and the grace, so that nobody can come any more;
    /// the record that moved time sends it, with its own headers, in the order of timestamp, side (the right one first), bytes
    /// of the key, and arrival. The result has the record's own timestamp. (Kafka Streams also waits for a wall clock, and may send it
    /// although somebody still comes.) A record without key has nobody to wait for, and is sent on at once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{JoinWindows, StreamsBuilder, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// let orders = builder.stream::<String, u64>("orders");
    /// let payments = builder.stream::<String, String>("payments");
    /// let minute = JoinWindows::within(Duration::from_secs(60)).grace(Duration::from_secs(5));
    /// orders
    ///     .left_join(&payments, "paid", minute, |_, amount, by| match by {
    ///         Some(by) => format!("{amount} by {by}"),
    ///         None => format!("{amount} is open"),
    ///     })
    ///     .to("orders-after-a-minute");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe("orders", &"order-1".to_owned(), &100u64, Timestamp(0))?;
    /// driver.pipe("orders", &"order-2".to_owned(), &200u64, Timestamp(65_000))?;
    /// assert!(driver.read::<String, String>("orders-after-a-minute")?.is_empty());
    /// driver.pipe("orders", &"order-3".to_owned(), &300u64, Timestamp(65_001))?;
    /// let open = driver.read::<String, String>("orders-after-a-minute")?;
    /// assert_eq!((open[0].value.as_str(), open[0].timestamp), ("100 is open", Timestamp(0)));
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn left_join<W: Data + DefaultSerde, R: Data>(
        &self,
        other: &KStream<K, W>,
        name: &str,
        windows: JoinWindows,
        joiner: impl Fn(&K, &V, Option<&W>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.left_join_with(other, name, windows, StreamJoined::default(), joiner)
    }

    /// As [`KStream::left_join`], for both sides: a record of either stream that meets nobody makes a record (Kafka:
    /// `KStream.outerJoin`).
    ///
    /// ```
    /// use std::time::Duration;
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{JoinWindows, StreamsBuilder, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// let (sent, received) = (builder.stream::<String, u64>("sent"), builder.stream::<String, u64>("received"));
    /// sent.outer_join(&received, "transit", JoinWindows::within(Duration::from_millis(10)), |_, sent, received| {
    ///     format!("{} {}", sent.is_some(), received.is_some())
    /// })
    /// .to("transits");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe("sent", &"a".to_owned(), &1u64, Timestamp(0))?;
    /// driver.pipe("received", &"b".to_owned(), &1u64, Timestamp(1))?;
    /// driver.pipe("received", &"a".to_owned(), &1u64, Timestamp(2))?;
    /// driver.pipe("sent", &"c".to_owned(), &1u64, Timestamp(50))?;
    /// let transits = driver.read::<String, String>("transits")?;
    /// let transits: Vec<_> = transits.iter().map(|r| (r.key.as_str(), r.value.as_str())).collect();
    /// assert_eq!(transits, [("a", "true true"), ("b", "false true")]);
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn outer_join<W: Data + DefaultSerde, R: Data>(
        &self,
        other: &KStream<K, W>,
        name: &str,
        windows: JoinWindows,
        joiner: impl Fn(&K, Option<&V>, Option<&W>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.outer_join_with(other, name, windows, StreamJoined::default(), joiner)
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// As [`KStream::join`], with serdes of your own.
    pub fn join_with<W: Data, R: Data>(
        &self,
        other: &KStream<K, W>,
        name: &str,
        windows: JoinWindows,
        joined: StreamJoined<K, V, W>,
        joiner: impl Fn(&K, &V, &W) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.join_streams(other, name, windows, joined, Inner(joiner))
    }

    /// As [`KStream::left_join`], with serdes of your own.
    pub fn left_join_with<W: Data, R: Data>(
        &self,
        other: &KStream<K, W>,
        name: &str,
        windows: JoinWindows,
        joined: StreamJoined<K, V, W>,
        joiner: impl Fn(&K, &V, Option<&W>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.join_streams(other, name, windows, joined, Left(joiner))
    }

    /// As [`KStream::outer_join`], with serdes of your own.
    pub fn outer_join_with<W: Data, R: Data>(
        &self,
        other: &KStream<K, W>,
        name: &str,
        windows: JoinWindows,
        joined: StreamJoined<K, V, W>,
        joiner: impl Fn(&K, Option<&V>, Option<&W>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.join_streams(other, name, windows, joined, Outer(joiner))
    }

    /// Two processors, one for each side, that share both stores and send to one node.
    fn join_streams<W: Data, R: Data, J: Joiner<K, V, W, R>>(
        &self,
        other: &KStream<K, W>,
        name: &str,
        windows: JoinWindows,
        joined: StreamJoined<K, V, W>,
        joiner: J,
    ) -> KStream<K, R> {
        self.check_join(other, name, windows, J::METHOD);
        let (left, right) = self.join_stores(name, windows, &joined, (J::LEFT_ALONE, J::RIGHT_ALONE));
        let effect = Effect::joins(windows, J::LEFT_ALONE || J::RIGHT_ALONE);
        let joiner = Arc::new(joiner);
        let (for_left, for_right) = (joined.clone(), joined);
        let flipped = Arc::new(Flipped(Arc::clone(&joiner)));
        let left_node: KStream<K, R> = self.then("join-left", &[left, right], move || {
            let StreamJoined { key, left: value, .. } = for_left.clone();
            let sides = Sides { this: left, other: right, this_first: false };
            JoinInput::new(sides, windows.left(), Arc::clone(&joiner), (key, value))
        });
        let left_node = left_node.marked(effect);
        if !Rc::ptr_eq(&self.graph, &other.graph) {
            return left_node;
        }
        let right_node: KStream<K, R> = other.then("join-right", &[left, right], move || {
            let StreamJoined { key, right: value, .. } = for_right.clone();
            let sides = Sides { this: right, other: left, this_first: true };
            JoinInput::new(sides, windows.right(), Arc::clone(&flipped), (key, value))
        });
        let right_node = right_node.marked(effect);
        let results = left_node.then_step("join", || Pass);
        self.graph.borrow_mut().link(right_node.node, results.node);
        results
    }

    /// Notes what is wrong with a join.
    fn check_join<W>(&self, other: &KStream<K, W>, name: &str, windows: JoinWindows, method: &str) {
        let mut graph = self.graph.borrow_mut();
        if !Rc::ptr_eq(&self.graph, &other.graph) {
            graph.mistake(Error::invalid(format!(
                "`{method}` takes a stream of another StreamsBuilder: build both with one. join=`{name}`"
            )));
        }
        for by in self.rekeyed_by.iter().chain(&other.rekeyed_by) {
            graph.mistake(Error::invalid(format!(
                "`{by}` may change keys, so records of one key are not in one task: call `.repartition(\"a-name\")` before \
                 `.{method}(..)`. join=`{name}`"
            )));
        }
        if let Err(mistake) = windows.check() {
            graph.mistake(mistake.context(format!("join=`{name}`")));
        }
    }

    /// Adds the stores of both sides; `gives_out` says of which the records that meet nobody are given out.
    fn join_stores<W: Data>(
        &self,
        name: &str,
        windows: JoinWindows,
        joined: &StreamJoined<K, V, W>,
        gives_out: (bool, bool),
    ) -> (usize, usize) {
        let mut graph = self.graph.borrow_mut();
        let (span, value) = (windows.left(), SerdeRef::clone(&joined.left));
        let spec = JoinStoreSpec { span, value, gives_out: gives_out.0 };
        let left = graph.add_store(&format!("{name}-left"), Arc::new(spec));
        let (span, value) = (windows.right(), SerdeRef::clone(&joined.right));
        let spec = JoinStoreSpec { span, value, gives_out: gives_out.1 };
        (left, graph.add_store(&format!("{name}-right"), Arc::new(spec)))
    }
}
