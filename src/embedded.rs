//! A data folder with everything in it: log, topics and state.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::lock::Mutex;
use headwater_client::{self as client, ConsumerBuilder, ProducerBuilder};
use headwater_core::{
    BatchBuilder, DefaultSerde, Error, Log, Partition, Producer, ProducerName, Record, Result, Serde,
    TopicName, TopicPartition, TopicSpec, partition_for_key,
};
use headwater_storage::{
    log::{EmbeddedLog, LogOptions},
    state::{RocksBackend, RocksOptions},
};
use headwater_streams::{Metrics, Settings, Streams, Topology};
use headwater_terminal::Stop;

use crate::reading::each_record;

/// A batch is closed before it would grow beyond this.
const BATCH_BYTES: usize = 256 << 10;

/// A file in the folder of an application's state while it is being reset.
pub(crate) const RESET_MARK: &str = "RESET";

/// Where the state of an application lies: in `state`, or in the data folder.
pub(crate) fn state_folder(state: &Option<PathBuf>, log: &Path, application_id: &str) -> Result<PathBuf> {
    // Checked before it becomes the name of a folder.
    let id = TopicName::new(application_id).map_err(|e| e.context("application id"))?;
    let folder = state.clone().unwrap_or_else(|| log.join("state"));
    Ok(folder.join(id.as_str()))
}

/// An embedded, durable log in a folder, and the applications that run on it. No server is needed.
///
/// The folder belongs to one process at a time.
///
/// ```
/// use headwater::prelude::*;
/// # futures::executor::block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// let embedded = Embedded::open(folder)?;
/// embedded.create_topic("numbers", 1).await?;
///
/// let builder = StreamsBuilder::new();
/// builder.stream::<String, u64>("numbers").map_values(|_, n| n * 2).to("doubled");
/// let streams = embedded.start(builder.build()?, Settings::new("doubler")).await?;
///
/// embedded.send("numbers", &[Record::new("a".to_owned(), 21u64, Timestamp(0))]).await?;
/// streams.caught_up().await?;
/// streams.close().await?;
/// assert_eq!(embedded.read_all::<String, u64>("doubled").await?[0].value, 42);
/// # embedded.close().await
/// # }).unwrap();
/// ```
pub struct Embedded {
    log: EmbeddedLog,
    folder: PathBuf,
    /// Below it each application's state has a folder of its own.
    state: PathBuf,
    /// Opened by the first [`Embedded::send`]; one for all, because a second one of its name would fence the first.
    producer: Mutex<Option<Box<dyn Producer>>>,
}

impl Embedded {
    /// Opens the folder, creating what is missing, and recovers what a crash left.
    ///
    /// # Errors
    /// `Unavailable` when another process has it open (the message names it) or the disk fails; `Corrupt` when its
    /// contents are damaged.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(folder, LogOptions::default())
    }

    /// As [`Embedded::open`], with settings for the log.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn open_with(folder: impl AsRef<Path>, options: LogOptions) -> Result<Self> {
        let folder = folder.as_ref().to_owned();
        let log = EmbeddedLog::open_with(&folder, options)?;
        Ok(Self { log, state: folder.join("state"), folder, producer: Mutex::new(None) })
    }

    /// Keeps the state of applications in `folder/<application id>`, on a faster disk perhaps, instead of `state/<application id>` in
    /// the data folder.
    #[must_use]
    pub fn state_in(self, folder: impl Into<PathBuf>) -> Self {
        Self { state: folder.into(), ..self }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &EmbeddedLog {
        &self.log
    }

    /// Begins a producer for its topics.
    pub fn producer_builder<K: DefaultSerde, V: DefaultSerde>(&self) -> ProducerBuilder<K, V> {
        client::Producer::builder(Arc::new(self.log.clone()))
    }

    /// Begins a consumer of its topics.
    pub fn consumer_builder<K: DefaultSerde, V: DefaultSerde>(&self) -> ConsumerBuilder<K, V> {
        client::Consumer::builder(Arc::new(self.log.clone()))
    }

    /// Makes sure that a topic exists.
    ///
    /// # Errors
    /// `Invalid` when the name is not legal or the topic has another number of partitions.
    pub async fn create_topic(&self, name: &str, partitions: u32) -> Result<()> {
        self.log.create_topic(&TopicSpec::new(name, partitions)?).await
    }

    /// Starts an application. Its state lies in `state/<application id>` of the folder, or where [`Embedded::state_in`] says.
    ///
    /// # Errors
    /// As [`Streams::start`], and when the state cannot be opened.
    pub async fn start(&self, topology: Topology, settings: Settings) -> Result<Streams> {
        let folder = state_folder(&Some(self.state.clone()), &self.folder, &settings.application_id)?;
        let options = RocksOptions { memory_bytes: settings.memory_bytes / 2, ..RocksOptions::default() };
        let state = RocksBackend::open(&folder, options)?;
        if folder.join(RESET_MARK).exists() {
            return Err(Error::invalid(format!(
                "the application was being reset, and that was cut short: reset it again, to the same position or another. \
                 application={}, folder={}",
                settings.application_id,
                folder.display()
            )));
        }
        Streams::start(topology, settings, Arc::new(self.log.clone()), Arc::new(state)).await
    }

    /// Starts an application and runs it until the process is asked to end (SIGTERM, or Ctrl-C): then it takes no more
    /// records, commits, writes its state out and ends, and the next start has nothing to restore. Ends before that when the
    /// application stops by itself. What `main` of a service needs.
    ///
    /// ```no_run
    /// use headwater::prelude::*;
    /// # fn topology() -> Topology { unimplemented!() }
    /// # async fn service() -> Result<()> {
    /// let embedded = Embedded::open("data")?;
    /// let metrics = embedded.run_until_signal(topology(), Settings::new("word-count")).await?;
    /// println!("{metrics}");
    /// embedded.close().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Embedded::start`] and [`Streams::close`], and when the system does not let us listen to signals.
    pub async fn run_until_signal(&self, topology: Topology, settings: Settings) -> Result<Metrics> {
        let stop = Stop::listen()?;
        let streams = self.start(topology, settings).await?;
        streams.run_until(stop.asked()).await
    }

    /// Appends records to a topic, all or none of them: each to the partition of its key, or to the first when it has
    /// none. Calls wait for one another.
    ///
    /// # Errors
    /// `Invalid` when there is no such topic; those of serdes and log.
    pub async fn send<K: DefaultSerde, V: DefaultSerde>(
        &self,
        topic: &str,
        records: &[Record<K, V>],
    ) -> Result<()> {
        let spec = self.topic(topic).await?;
        let (key_serde, value_serde) = (K::default_serde(), V::default_serde());
        let mut batches: Vec<BatchBuilder> = Vec::new();
        batches.resize_with(spec.partitions.get() as usize, BatchBuilder::default);
        let mut producer = self.producer.lock().await;
        // Taken out and put back when all went well: after an error the next call opens a new one.
        let mut open = match producer.take() {
            Some(open) => open,
            None => self.log.producer(&ProducerName("embedded-send".to_owned())).await?,
        };
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for record in records {
            key.clear();
            value.clear();
            let key = key_serde.encode_nullable(&record.key, &mut key)?.then_some(&key[..]);
            let value = value_serde.encode_nullable(&record.value, &mut value)?.then_some(&value[..]);
            let partition = key.map_or(Partition(0), |key| partition_for_key(key, spec.partitions));
            let batch = &mut batches[partition.0 as usize];
            let size = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
            if batch.size() > 0 && batch.size() + size > BATCH_BYTES {
                open.append(&TopicPartition::new(spec.name.clone(), partition), batch)?;
            }
            batch.push(record.timestamp, key, value, &record.headers);
        }
        for (partition, batch) in spec.topic_partitions().zip(&mut batches) {
            if !batch.is_empty() {
                open.append(&partition, batch)?;
            }
        }
        open.commit(None).await?;
        *producer = Some(open);
        Ok(())
    }

    /// All records of a topic, partition by partition. For tools and tests: they must fit in memory.
    ///
    /// # Errors
    /// `Invalid` when there is no such topic; those of serdes and log.
    pub async fn read_all<K: DefaultSerde, V: DefaultSerde>(&self, topic: &str) -> Result<Vec<Record<K, V>>> {
        self.read_all_with(topic, &*K::default_serde(), &*V::default_serde()).await
    }

    /// As [`Embedded::read_all`], with serdes.
    ///
    /// # Errors
    /// As [`Embedded::read_all`].
    pub async fn read_all_with<K: 'static, V: 'static>(
        &self,
        topic: &str,
        key: &dyn Serde<K>,
        value: &dyn Serde<V>,
    ) -> Result<Vec<Record<K, V>>> {
        let mut records = Vec::new();
        for partition in self.topic(topic).await?.topic_partitions().collect::<Vec<_>>() {
            each_record(&self.log, &partition, |raw| {
                let (key, value) = (key.decode_nullable(raw.key)?, value.decode_nullable(raw.value)?);
                let (timestamp, headers) = (raw.timestamp, raw.headers.to_owned());
                records.push(Record { key, value, timestamp, headers });
                Ok(())
            })
            .await?;
        }
        Ok(records)
    }

    async fn topic(&self, name: &str) -> Result<TopicSpec> {
        let topics = self.log.topics().await?;
        let found = topics.into_iter().find(|topic| topic.name.as_str() == name);
        found.ok_or_else(|| Error::invalid(format!("no such topic: create it first. topic={name}")))
    }

    /// Writes a last checkpoint and gives the folder free. Applications must be closed before.
    ///
    /// # Errors
    /// Those of the log.
    pub async fn close(self) -> Result<()> {
        drop(self.producer);
        self.log.close().await
    }
}
