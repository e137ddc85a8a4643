//! The producer: records in, acknowledgements out.
//!
//! Read in this order: this file (what callers see), `accumulator` (where records wait), `driver` (who writes them),
//! `delivery` (who is told), `transaction`.

mod accumulator;
mod builder;
mod delivery;
mod driver;
mod partitioner;
mod shared;
mod transaction;

use std::{cell::Cell, fmt, sync::Arc};

use headwater_core::{DefaultSerde, Log, Record, Result, SerdeRef, TopicPartition};

use self::{
    accumulator::{Phase, RawRecord, Target},
    shared::{Sending, Sent, Shared},
};
pub use self::{
    builder::ProducerBuilder,
    delivery::{Delivery, RecordMetadata},
    partitioner::{Outgoing, Partitioner},
};

/// A larger buffer is not kept for the next record.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

/// Writes records to a log (Kafka: `KafkaProducer`). A clone is the same producer; all methods may be called from any
/// thread.
///
/// Records are gathered in batches and written by a task of its own, on the tokio runtime in which the producer was
/// built. [`Producer::send`] waits for room, which bounds memory, and gives a [`Delivery`], which is ready when the record
/// is as durable as the log makes it.
///
/// **Order.** Records of one partition are written in the order in which `send` took them in.
///
/// **Exactly once.** No record is written twice. When the log cannot say whether a commit was written (`Unavailable`), it
/// is not repeated: its deliveries tell so, and the producer goes on with the next records. Whoever must know, reads, or
/// uses a transaction with positions.
///
/// **Dropping** the last clone closes the producer without waiting: what was sent is still written, as long as the
/// runtime lives, and an open transaction is aborted. If the runtime ends first, records that were not written are lost,
/// and their deliveries say `Closed`. [`Producer::close`] waits.
///
/// ```
/// use std::sync::Arc;
/// use headwater_client::Producer;
/// use headwater_core::{Log, Record, Timestamp, TopicSpec, memory::MemoryLog};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let log = Arc::new(MemoryLog::default());
/// log.create_topic(&TopicSpec::new("readings", 4)?).await?;
///
/// let producer = Producer::<String, u64>::builder(log).build().await?;
/// let delivery = producer.send("readings", &Record::new("sensor-1".into(), 21, Timestamp(0))).await?;
/// assert_eq!(delivery.await?.offset.0, 0);
/// producer.close().await
/// # }).unwrap();
/// ```
pub struct Producer<K, V> {
    handle: Arc<Handle>,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    partitioner: Option<Arc<dyn Partitioner>>,
}

/// Closes the producer when the last one is dropped.
struct Handle(Arc<Shared>);

impl<K: DefaultSerde, V: DefaultSerde> Producer<K, V> {
    /// Begins a producer for types that have one obvious encoding.
    pub fn builder(log: Arc<dyn Log>) -> ProducerBuilder<K, V> {
        ProducerBuilder::new(log, K::default_serde(), V::default_serde())
    }
}

impl<K: 'static, V: 'static> Producer<K, V> {
    /// Begins a producer.
    pub fn builder_with(log: Arc<dyn Log>, key: SerdeRef<K>, value: SerdeRef<V>) -> ProducerBuilder<K, V> {
        ProducerBuilder::new(log, key, value)
    }

    /// Takes a record in, to be written to the partition of its key; waits while the buffer is full. When the future is
    /// dropped before it is ready, the record is not sent.
    ///
    /// # Errors
    /// `Invalid` when there is no such topic, the record is larger than the buffer, the partitioner chose a partition
    /// that is not there, or a transactional producer has no transaction open; `Processing` when a serde refuses it;
    /// `Fenced` and `Closed` when nothing can be written any more; those of [`Log::topics`] for the first record of a topic.
    #[inline]
    pub async fn send(&self, topic: &str, record: &Record<K, V>) -> Result<Delivery> {
        self.send_where(topic, Target::Key, record).await
    }

    /// As [`Producer::send`], to a partition that the caller chose.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub async fn send_to(&self, partition: &TopicPartition, record: &Record<K, V>) -> Result<Delivery> {
        self.send_where(partition.topic.as_str(), Target::Partition(partition.partition), record).await
    }

    /// As [`Producer::send`], but never waits: `None` when it would have to, for room or for what is not known of the
    /// topic yet.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub fn try_send(&self, topic: &str, record: &Record<K, V>) -> Result<Option<Delivery>> {
        let bytes = self.encode(record)?;
        match self.shared().try_push(self.sending(topic, Target::Key, &bytes, record))? {
            Sent::Taken(delivery) => Ok(Some(delivery)),
            Sent::Full | Sent::UnknownTopic => Ok(None),
        }
    }

    #[inline]
    async fn send_where(&self, topic: &str, target: Target, record: &Record<K, V>) -> Result<Delivery> {
        let bytes = self.encode(record)?;
        let sending = self.sending(topic, target, &bytes, record);
        match self.shared().try_push(sending)? {
            Sent::Taken(delivery) => Ok(delivery),
            // Boxed, so that the future of a record that need not wait stays small.
            Sent::Full | Sent::UnknownTopic => Box::pin(self.shared().push_when_possible(sending)).await,
        }
    }

    /// Writes everything that was sent so far without waiting for more, and waits until that is done. Within a
    /// transaction, everything is handed to the log, which holds it back until the commit.
    ///
    /// # Errors
    /// The first error of a record since the last flush, which its delivery tells too; `Fenced`, `Closed`.
    pub async fn flush(&self) -> Result<()> {
        let shared = self.shared();
        let target = shared.lock().close_all();
        shared.work.notify_one();
        shared.wait_until(|accumulator| accumulator.handled >= target).await;
        let mut accumulator = shared.lock();
        match accumulator.untold.take() {
            Some(failure) => Err(failure.error()),
            None if accumulator.handled >= target => Ok(()),
            None => {
                drop(accumulator);
                Err(shared.dead())
            }
        }
    }

    /// Takes no more records from any clone, aborts an open transaction, writes everything else, and waits until that is
    /// done.
    ///
    /// # Errors
    /// As [`Producer::flush`]. The producer is closed all the same.
    pub async fn close(&self) -> Result<()> {
        let phase = self.shared().lock().phase;
        let aborted = match phase {
            Phase::Open | Phase::Failed => self.abort().await,
            _ => Ok(()),
        };
        {
            let mut accumulator = self.shared().lock();
            accumulator.closing = true;
            accumulator.close_all();
        }
        self.shared().work.notify_one();
        // The driver closes it behind its last write.
        while self.shared().progress.after(u64::MAX).await.is_some() {}
        let untold = self.shared().lock().untold.take();
        untold.map_or(aborted, |failure| Err(failure.error()))
    }

    fn encode(&self, record: &Record<K, V>) -> Result<Encoded> {
        let mut encoded = Encoded {
            bytes: SCRATCH.try_with(Cell::take).unwrap_or_default(),
            key_end: 0,
            key: false,
            value: false,
        };
        encoded.bytes.clear();
        encoded.key = self.key.encode_nullable(&record.key, &mut encoded.bytes)?;
        encoded.key_end = encoded.bytes.len();
        encoded.value = self.value.encode_nullable(&record.value, &mut encoded.bytes)?;
        Ok(encoded)
    }

    fn sending<'a>(
        &'a self,
        topic: &'a str,
        target: Target,
        bytes: &'a Encoded,
        record: &'a Record<K, V>,
    ) -> Sending<'a> {
        let (key, value) = bytes.bytes.split_at(bytes.key_end);
        let key = bytes.key.then_some(key);
        let record = RawRecord {
            key,
            partition_key: key.map(|key| self.key.partition_bytes(key)),
            value: bytes.value.then_some(value),
            timestamp: record.timestamp,
            headers: &record.headers,
        };
        Sending { topic, target, record, partitioner: self.partitioner.as_deref() }
    }

    fn shared(&self) -> &Shared {
        &self.handle.0
    }

    fn open(
        shared: Arc<Shared>,
        key: SerdeRef<K>,
        value: SerdeRef<V>,
        partitioner: Option<Box<dyn Partitioner>>,
    ) -> Self {
        Self { handle: Arc::new(Handle(shared)), key, value, partitioner: partitioner.map(Arc::from) }
    }
}

thread_local! {
    /// A buffer for the bytes of one record, so that encoding allocates only for the largest so far.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Key and value of one record as bytes, one after the other.
struct Encoded {
    bytes: Vec<u8>,
    key_end: usize,
    /// Whether they are there, or Kafka's null.
    key: bool,
    value: bool,
}

impl Drop for Encoded {
    fn drop(&mut self) {
        if self.bytes.capacity() <= SCRATCH_BYTES_MAX {
            // A thread that ends has no use for it.
            let _ = SCRATCH.try_with(|scratch| scratch.set(std::mem::take(&mut self.bytes)));
        }
    }
}

impl<K, V> Clone for Producer<K, V> {
    fn clone(&self) -> Self {
        Self {
            handle: Arc::clone(&self.handle),
            key: Arc::clone(&self.key),
            value: Arc::clone(&self.value),
            partitioner: self.partitioner.clone(),
        }
    }
}

impl<K, V> fmt::Debug for Producer<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("waiting", &*self.handle.0.lock()).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}
