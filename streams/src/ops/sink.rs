//! `to`: where records leave, and are encoded.

use headwater_core::{Data, DefaultSerde, Record, Result, SerdeRef};

use crate::{
    KStream,
    process::{Process, RecordType},
    runtime::context::{TaskContext, keyless_partition},
    topology::{BuildNode, ErasedNext, NodeKind, Slots, TopicRef},
};

/// How a topic is written.
pub struct Produced<K, V> {
    key: SerdeRef<K>,
    value: SerdeRef<V>,
}

impl<K, V> Produced<K, V> {
    /// With these serdes.
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key, value }
    }
}

impl<K, V> Clone for Produced<K, V> {
    fn clone(&self) -> Self {
        Self { key: SerdeRef::clone(&self.key), value: SerdeRef::clone(&self.value) }
    }
}

impl<K: Data + DefaultSerde, V: Data + DefaultSerde> KStream<K, V> {
    /// Writes the stream to a topic with the default serdes of its types. A record goes to the partition of its key
    /// (as Kafka's default partitioner says), one without key to the partition with its task's number.
    pub fn to(&self, topic: &str) {
        self.to_with(topic, Produced::with(K::default_serde(), V::default_serde()));
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// As [`KStream::to`], with serdes of your own.
    pub fn to_with(&self, topic: &str, produced: Produced<K, V>) {
        let topic = self.graph.borrow_mut().topic(topic);
        self.sink(TopicRef::External(topic), produced);
    }

    pub(crate) fn sink(&self, topic: TopicRef, produced: Produced<K, V>) {
        let build = Box::new(SinkNode { produced });
        self.graph.borrow_mut().add("sink", Some(self.node), NodeKind::Sink { topic, build });
    }
}

struct SinkNode<K, V> {
    produced: Produced<K, V>,
}

impl<K: Data, V: Data> BuildNode for SinkNode<K, V> {
    fn input(&self) -> RecordType {
        RecordType::of::<K, V>()
    }

    fn output(&self) -> Option<RecordType> {
        None
    }

    fn build(&self, slots: &Slots, _: Vec<ErasedNext>) -> ErasedNext {
        ErasedNext::of::<K, V>(Box::new(Encode { produced: self.produced.clone(), sink: slots.sink }))
    }
}

struct Encode<K, V> {
    produced: Produced<K, V>,
    sink: usize,
}

impl<K: Data, V: Data> Process<K, V> for Encode<K, V> {
    #[inline]
    fn process(&mut self, record: Record<K, V>, task: &mut TaskContext) -> Result<()> {
        let scratch = &mut task.scratch;
        scratch.clear();
        let has_key = self.produced.key.encode_nullable(&record.key, scratch)?;
        let middle = scratch.len();
        let has_value = self.produced.value.encode_nullable(&record.value, scratch)?;
        let (key, value) = scratch.split_at(middle);
        let sink = &mut task.sinks[self.sink];
        let partition = if has_key {
            headwater_core::partition_for_key(self.produced.key.partition_bytes(key), sink.partitions())
        } else {
            keyless_partition(task.id, sink.partitions())
        };
        let (key, value) = (has_key.then_some(key), has_value.then_some(value));
        sink.push(partition, record.timestamp, (key, value), (&record.headers, task.stream_time))
    }

    fn advance(&mut self, _: &mut TaskContext) -> Result<()> {
        Ok(())
    }

    fn flush(&mut self, _: &mut TaskContext) -> Result<()> {
        Ok(())
    }
}
