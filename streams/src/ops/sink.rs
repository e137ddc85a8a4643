//! `to`: where records leave, and are encoded.

use std::{num::NonZeroU32, sync::Arc};

use headwater_core::{Data, DefaultSerde, Error, Partition, Result, SerdeRef};

use crate::{
    KStream,
    edge::{Call, Lent, Process, RecordType},
    runtime::context::{TaskContext, partition_of},
    topology::{BuildNode, ErasedNext, NodeKind, ShownRef, SinkTopic, Slots, TopicRef, shown},
};

/// Chooses the partition of a record, given how many there are.
type Partitioner<K, V> = Arc<dyn Fn(&K, &V, NonZeroU32) -> u32 + Send + Sync>;
/// Chooses the topic of a record.
type TopicOf<K, V> = Arc<dyn Fn(&K, &V) -> String + Send + Sync>;

/// How a topic is written.
pub struct Produced<K, V> {
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    partitioner: Option<Partitioner<K, V>>,
}

impl<K, V> Produced<K, V> {
    /// With these serdes, to the partition that Kafka's default partitioner gives a key.
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key, value, partitioner: None }
    }

    pub(crate) fn serdes(&self) -> (SerdeRef<K>, SerdeRef<V>) {
        (SerdeRef::clone(&self.key), SerdeRef::clone(&self.value))
    }

    /// To the partition that `choose` says, which gets key, value and the number of partitions and gives a number below that.
    /// It must depend on nothing else, or a restart would write a record elsewhere (Kafka: `StreamPartitioner`).
    ///
    /// What reads the topic and works by key needs all records of a key in one partition.
    ///
    /// ```
    /// use headwater_core::DefaultSerde;
    /// use headwater_streams::{Produced, StreamsBuilder};
    /// let builder = StreamsBuilder::new();
    /// let by_size = Produced::with(String::default_serde(), u64::default_serde())
    ///     .partitioner(|_, size, partitions| if *size > 1000 { partitions.get() - 1 } else { 0 });
    /// builder.stream::<String, u64>("sizes").to_with("sizes-by-class", by_size);
    /// # builder.build()?;
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    #[must_use]
    pub fn partitioner(mut self, choose: impl Fn(&K, &V, NonZeroU32) -> u32 + Send + Sync + 'static) -> Self {
        self.partitioner = Some(Arc::new(choose));
        self
    }
}

impl<K, V> Clone for Produced<K, V> {
    fn clone(&self) -> Self {
        Self {
            key: SerdeRef::clone(&self.key),
            value: SerdeRef::clone(&self.value),
            partitioner: self.partitioner.clone(),
        }
    }
}

impl<K: Data + DefaultSerde, V: Data + DefaultSerde> KStream<K, V> {
    /// Writes the stream to a topic with the default serdes of its types. A record goes to the partition of its key
    /// (as Kafka's default partitioner says), one without key to the partition with its task's number. A topic that is missing
    /// is made.
    pub fn to(&self, topic: &str) {
        self.to_with(topic, Produced::with(K::default_serde(), V::default_serde()));
    }

    /// Writes every record to the topic that `choose` says. That topic must exist when the application starts: a record for
    /// another one fails, and the error policy decides about it (Kafka: `TopicNameExtractor`).
    ///
    /// ```
    /// use headwater_streams::StreamsBuilder;
    /// let builder = StreamsBuilder::new();
    /// builder.stream::<String, f64>("readings").to_each(|sensor, _| format!("readings-of-{sensor}"));
    /// # builder.build()?;
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn to_each(&self, choose: impl Fn(&K, &V) -> String + Send + Sync + 'static) {
        self.to_each_with(choose, Produced::with(K::default_serde(), V::default_serde()));
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// As [`KStream::to`], with serdes of your own.
    pub fn to_with(&self, topic: &str, produced: Produced<K, V>) {
        let topic = self.graph.borrow_mut().topic(topic);
        self.sink(TopicRef::External(topic), produced);
    }

    /// As [`KStream::to_each`], with serdes of your own.
    pub fn to_each_with(
        &self,
        choose: impl Fn(&K, &V) -> String + Send + Sync + 'static,
        produced: Produced<K, V>,
    ) {
        let build = Box::new(SinkNode { produced, choose: Some(Arc::new(choose)) });
        self.graph.borrow_mut().add(
            "sink",
            Some(self.node),
            NodeKind::Sink { topic: SinkTopic::Computed, build },
        );
    }

    pub(crate) fn sink(&self, topic: TopicRef, produced: Produced<K, V>) {
        let build = Box::new(SinkNode { produced, choose: None });
        let topic = SinkTopic::Fixed(topic);
        self.graph.borrow_mut().add("sink", Some(self.node), NodeKind::Sink { topic, build });
    }
}

struct SinkNode<K, V> {
    produced: Produced<K, V>,
    choose: Option<TopicOf<K, V>>,
}

impl<K: Data, V: Data> BuildNode for SinkNode<K, V> {
    fn input(&self) -> RecordType {
        RecordType::of::<K, V>()
    }

    fn output(&self) -> Option<RecordType> {
        None
    }

    fn build(&self, slots: &Slots, _: Vec<ErasedNext>) -> ErasedNext {
        let (produced, sink) = (self.produced.clone(), slots.sink);
        ErasedNext::of::<K, V>(Box::new(Encode { produced, sink, choose: self.choose.clone() }))
    }

    fn shown(&self) -> Option<(ShownRef, ShownRef)> {
        let (key, value) = self.produced.serdes();
        Some((shown(key), shown(value)))
    }
}

struct Encode<K, V> {
    produced: Produced<K, V>,
    sink: usize,
    /// Where the topic is computed, `sink` means nothing.
    choose: Option<TopicOf<K, V>>,
}

impl<K: Data, V: Data> Process<K, V> for Encode<K, V> {
    #[inline]
    fn process(&mut self, record: Lent<'_, K, V>, task: &mut TaskContext) -> Result<()> {
        let sink = match &self.choose {
            None => self.sink,
            Some(choose) => task.sink_of(&choose(record.key(), record.value()))?,
        };
        let (about, timestamp) = ((record.headers(), task.lane_time()), record.timestamp());
        let TaskContext { id, scratch, sinks, .. } = task;
        let sink = &mut sinks[sink];
        let (key, value) = (&*self.produced.key, &*self.produced.value);
        let put_value = |out: &mut Vec<u8>| value.encode_nullable(record.value(), out);
        let partition = match &self.produced.partitioner {
            Some(choose) => {
                chosen(choose(record.key(), record.value(), sink.partitions()), sink.partitions())?
            }
            None if sink.partitions() == NonZeroU32::MIN => Partition(0),
            None => {
                // The bytes decide where they lie.
                scratch.clear();
                let has_key = key.encode_nullable(record.key(), scratch)?;
                let bytes = has_key.then_some(&scratch[..]);
                let partition = partition_of(key, bytes, (*id, sink.partitions()));
                let put_key = |out: &mut Vec<u8>| {
                    out.extend_from_slice(bytes.unwrap_or_default());
                    Ok(has_key)
                };
                return sink.push_encoded(partition, timestamp, about, put_key, put_value).map(drop);
            }
        };
        let put_key = |out: &mut Vec<u8>| key.encode_nullable(record.key(), out);
        sink.push_encoded(partition, timestamp, about, put_key, put_value).map(drop)
    }

    fn flush(&mut self, _: &mut TaskContext) -> Result<()> {
        Ok(())
    }

    fn call(&mut self, _: Call, _: &mut TaskContext) -> Result<()> {
        Ok(())
    }
}

fn chosen(partition: u32, partitions: NonZeroU32) -> Result<Partition> {
    if partition < partitions.get() {
        return Ok(Partition(partition));
    }
    Err(Error::processing(format!(
        "a partitioner chose a partition that there is not. partition={partition}, partitions={partitions}"
    )))
}
