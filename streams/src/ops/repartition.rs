//! `repartition`: brings records of one key together, through a topic of the application.

use headwater_core::{Data, DefaultSerde};

use super::{Consumed, Produced};
use crate::{KStream, StreamsBuilder};

impl<K: Data + DefaultSerde, V: Data + DefaultSerde> KStream<K, V> {
    /// Writes to the topic `<application id>-<name>-repartition` and reads it back, so that all records of a key meet
    /// in one task. It has as many partitions as the topics that it meets in a join or a store, and else as the widest topic
    /// that is read upstream.
    ///
    /// Behind it, records are taken in the order of their upstream tasks' stream times, not of their arrival: after a
    /// restart or in a replay, no task's records are late because another ran ahead.
    pub fn repartition(&self, name: &str) -> KStream<K, V> {
        self.repartition_with(
            name,
            Produced::with(K::default_serde(), V::default_serde()),
            Consumed::with(K::default_serde(), V::default_serde()),
        )
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// As [`KStream::repartition`], with serdes of your own.
    pub fn repartition_with(
        &self,
        name: &str,
        produced: Produced<K, V>,
        consumed: Consumed<K, V>,
    ) -> KStream<K, V> {
        let topic = self.graph.borrow_mut().add_repartition(name);
        self.sink(topic.clone(), produced);
        StreamsBuilder::over(&self.graph).source(topic, consumed)
    }
}
