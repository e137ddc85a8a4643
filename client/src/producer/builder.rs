//! How a producer is set up.

use std::{fmt, sync::Arc, time::Duration};

use headwater_core::{Compression, Error, Log, ProducerName, Result, SerdeRef, TopicSpec};
use tokio::runtime::Handle as Runtime;

use super::{
    Producer,
    accumulator::Phase,
    driver::{self, Opener},
    partitioner::{self, Partitioner},
    shared::Shared,
};

/// Limits of a producer.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) batch_bytes: usize,
    pub(super) commit_bytes: usize,
    pub(super) buffer_bytes: usize,
    pub(super) linger: Duration,
    pub(super) compression: Compression,
    pub(super) metadata_age_max: Duration,
    pub(super) open_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_bytes: 128 << 10,
            commit_bytes: 4 << 20,
            buffer_bytes: 32 << 20,
            linger: Duration::from_millis(1),
            compression: Compression::None,
            metadata_age_max: Duration::from_secs(5 * 60),
            open_timeout: Duration::from_secs(120),
        }
    }
}

impl Limits {
    /// The log refuses batches that are larger than the topic says.
    pub(super) fn batch_bytes_of(&self, topic: &TopicSpec) -> usize {
        self.batch_bytes.min(topic.config.max_message_bytes as usize)
    }
}

/// Settings of a [`Producer`]; begin with [`Producer::builder`].
#[must_use]
pub struct ProducerBuilder<K, V> {
    log: Arc<dyn Log>,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    partitioner: Option<Box<dyn Partitioner>>,
    transactional_id: Option<String>,
    client_id: String,
    limits: Limits,
}

impl<K: 'static, V: 'static> ProducerBuilder<K, V> {
    pub(super) fn new(log: Arc<dyn Log>, key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self {
            log,
            key,
            value,
            partitioner: None,
            transactional_id: None,
            client_id: "producer".to_owned(),
            limits: Limits::default(),
        }
    }

    /// A batch is closed before it would grow beyond this (Kafka: `batch.size`); a topic's `max.message.bytes` lowers it.
    /// 128 KiB unless set: a batch costs the same work whatever its size, and here no broker's memory is filled by open
    /// ones, which is why Kafka's 16 KiB are so few.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.limits.batch_bytes = bytes;
        self
    }

    /// How long a batch that is not full waits for more records (Kafka: `linger.ms`). 1 ms unless set. 0 writes what is
    /// there whenever the last commit is done: the quickest answer, and batches as small as the log is quick.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.limits.linger = linger;
        self
    }

    /// How batches are compressed, by the task that writes them (Kafka: `compression.type`); a topic may say otherwise. Not
    /// at all unless set. [`ProducerBuilder::batch_bytes`] counts bytes before that.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.limits.compression = compression;
        self
    }

    /// How many bytes of records may wait to be written before [`Producer::send`] waits itself (Kafka: `buffer.memory`).
    /// 32 MiB unless set. The buffers that hold them may be twice as large.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.limits.buffer_bytes = bytes;
        self
    }

    /// Batches of about this many bytes are committed together. 4 MiB unless set; a log may take less.
    pub fn commit_bytes(mut self, bytes: usize) -> Self {
        self.limits.commit_bytes = bytes;
        self
    }

    /// How old knowledge of a topic's partitions may become (Kafka: `metadata.max.age.ms`). 5 minutes unless set.
    pub fn metadata_age_max(mut self, age: Duration) -> Self {
        self.limits.metadata_age_max = age;
        self
    }

    /// How long to try to reach a log that is not there, before records are given up (Kafka: `delivery.timeout.ms`). 2
    /// minutes unless set.
    pub fn open_timeout(mut self, timeout: Duration) -> Self {
        self.limits.open_timeout = timeout;
        self
    }

    /// Chooses partitions (Kafka: `partitioner.class`).
    pub fn partitioner(mut self, partitioner: impl Partitioner) -> Self {
        self.partitioner = Some(Box::new(partitioner));
        self
    }

    /// Makes the producer transactional (Kafka: `transactional.id`): records are sent between [`Producer::begin`] and
    /// [`Producer::commit`], and every earlier producer of this id is fenced.
    pub fn transactional_id(mut self, id: impl Into<String>) -> Self {
        self.transactional_id = Some(id.into());
        self
    }

    /// Begins the name under which the log knows a producer that is not transactional (Kafka: `client.id`).
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = id.into();
        self
    }

    /// Opens the producer, and spawns its driver on the current tokio runtime.
    ///
    /// # Errors
    /// `Invalid` when a limit is 0 or there is no tokio runtime; those of [`Log::producer`].
    pub async fn build(self) -> Result<Producer<K, V>> {
        self.check()?;
        let runtime = Runtime::try_current().map_err(|e| {
            Error::invalid("a producer needs a tokio runtime: build it within one").with_source(e)
        })?;
        let (name, phase) = match self.transactional_id {
            Some(id) => (ProducerName(id), Phase::Idle),
            // Its own for each: a second producer of a name would fence the first. A log forgets those that nobody holds.
            None => (unique_name(&self.client_id), Phase::Plain),
        };
        let opener = Opener::new(Arc::clone(&self.log), name, &self.limits);
        let port = self.log.producer(opener.name()).await?;
        let shared = Arc::new(Shared::new(self.log, self.limits, phase));
        runtime.spawn(driver::run(Arc::clone(&shared), opener, port));
        Ok(Producer::open(shared, self.key, self.value, self.partitioner))
    }

    fn check(&self) -> Result<()> {
        let Limits { batch_bytes, commit_bytes, buffer_bytes, .. } = self.limits;
        for (name, bytes) in
            [("batch_bytes", batch_bytes), ("commit_bytes", commit_bytes), ("buffer_bytes", buffer_bytes)]
        {
            if bytes == 0 || u32::try_from(bytes).is_err() {
                return Err(Error::invalid(format!(
                    "a producer's limit must be between 1 byte and 4 GiB. {name}={bytes}"
                )));
            }
        }
        Ok(())
    }
}

fn unique_name(client_id: &str) -> ProducerName {
    ProducerName(format!("{client_id}-{:016x}{:016x}", partitioner::random(), partitioner::random()))
}

impl<K, V> fmt::Debug for ProducerBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerBuilder")
            .field("transactional_id", &self.transactional_id)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
