//! Logs to test on: both that there are, and one that does as it is told.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use headwater_core::{
    Admin, BatchBuilder, Committed, Error, ErrorKind, Fetched, GroupId, Log, LogVersion, Member, Offset,
    Partition, PartitionOffsets, Positions, Producer, ProducerName, Result, Subscription, TimedOffset,
    Timestamp, TopicName, TopicPartition, TopicSpec, Written, memory::MemoryLog,
};
use headwater_storage::log::{Durability, EmbeddedLog, LogOptions};
use tokio::sync::Semaphore;

/// Runs a test on every log, each with a topic `numbers` of three partitions.
pub(crate) fn on_every_log<F: Future<Output = ()>>(test: impl Fn(Arc<dyn Admin>) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { durability: Durability::Os, ..LogOptions::default() };
    let embedded = EmbeddedLog::open_with(folder.path(), options).unwrap();
    let logs: [Arc<dyn Admin>; 2] = [Arc::new(MemoryLog::default()), Arc::new(embedded)];
    for log in logs {
        run(async {
            log.create_topic(&TopicSpec::new("numbers", 3).unwrap()).await.unwrap();
            test(log).await;
        });
    }
}

/// Runs a test on a runtime whose clock stands still until everybody waits for it.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(test);
}

/// A log in memory with a topic `numbers` of three partitions.
pub(crate) async fn memory() -> Arc<MemoryLog> {
    let log = Arc::new(MemoryLog::default());
    log.create_topic(&TopicSpec::new("numbers", 3).unwrap()).await.unwrap();
    log
}

pub(crate) fn partition(number: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new("numbers").unwrap(), Partition(number))
}

/// Offset, key and value of all records of a partition.
pub(crate) async fn read(log: &dyn Log, number: u32) -> Vec<(u64, String, String)> {
    let text = |field: Option<&[u8]>| String::from_utf8(field.unwrap_or(b"null").to_vec()).unwrap();
    let partition = partition(number);
    let (mut records, mut next) = (Vec::new(), Offset(0));
    loop {
        let fetched = log.read(&partition, next, 1 << 20).await.unwrap();
        if fetched.batches.is_empty() {
            return records;
        }
        for batch in fetched.batches {
            let mut cursor = batch.cursor();
            while let Some(record) = cursor.next().transpose().unwrap() {
                records.push((record.offset.0, text(record.key), text(record.value)));
            }
            next = batch.next_offset();
        }
    }
}

/// How many batches a partition has.
pub(crate) async fn batches(log: &dyn Log, number: u32) -> usize {
    log.read(&partition(number), Offset(0), 1 << 30).await.unwrap().batches.len()
}

/// A log in memory whose commits wait for permits, and fail when they are told to.
pub(crate) struct Steered {
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) commits: Arc<Semaphore>,
    /// What the next commits say; `true` writes first.
    pub(crate) refusals: Arc<Mutex<Vec<(ErrorKind, bool)>>>,
    pub(crate) opened: AtomicUsize,
    /// How often it cannot be reached.
    pub(crate) unreachable: AtomicUsize,
}

impl Steered {
    pub(crate) async fn new(commits: usize) -> Arc<Self> {
        Arc::new(Self {
            log: memory().await,
            commits: Arc::new(Semaphore::new(commits)),
            refusals: Arc::default(),
            opened: AtomicUsize::new(0),
            unreachable: AtomicUsize::new(0),
        })
    }
}

struct SteeredProducer {
    producer: Box<dyn Producer>,
    commits: Arc<Semaphore>,
    refusals: Arc<Mutex<Vec<(ErrorKind, bool)>>>,
}

#[async_trait]
impl Producer for SteeredProducer {
    fn append(&mut self, partition: &TopicPartition, batch: &mut BatchBuilder) -> Result<()> {
        self.producer.append(partition, batch)
    }

    async fn commit(&mut self, positions: Option<&Positions>) -> Result<Vec<Written>> {
        self.commits.acquire().await.unwrap().forget();
        let refusal = self.refusals.lock().unwrap().pop();
        match refusal {
            None => self.producer.commit(positions).await,
            Some((kind, writes)) => {
                if writes {
                    self.producer.commit(positions).await?;
                } else if kind != ErrorKind::Full {
                    self.producer.abort();
                }
                Err(Error::new(kind, "refused"))
            }
        }
    }

    fn abort(&mut self) {
        self.producer.abort();
    }
}

#[async_trait]
impl Log for Steered {
    async fn create_topic(&self, spec: &TopicSpec) -> Result<()> {
        self.log.create_topic(spec).await
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>> {
        self.log.topics().await
    }

    async fn offsets(&self, partition: &TopicPartition) -> Result<PartitionOffsets> {
        self.log.offsets(partition).await
    }

    async fn read(&self, partition: &TopicPartition, from: Offset, bytes_max: usize) -> Result<Fetched> {
        self.log.read(partition, from, bytes_max).await
    }

    async fn offset_at(&self, partition: &TopicPartition, time: Timestamp) -> Result<Option<TimedOffset>> {
        self.log.offset_at(partition, time).await
    }

    async fn producer(&self, name: &ProducerName) -> Result<Box<dyn Producer>> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        if self.opened.load(Ordering::Relaxed) > 1 && self.unreachable.load(Ordering::Relaxed) > 0 {
            self.unreachable.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(ErrorKind::Unavailable, "not there"));
        }
        let producer = self.log.producer(name).await?;
        let (commits, refusals) = (Arc::clone(&self.commits), Arc::clone(&self.refusals));
        Ok(Box::new(SteeredProducer { producer, commits, refusals }))
    }

    async fn committed(&self, group: &GroupId, partition: &TopicPartition) -> Result<Option<Committed>> {
        self.log.committed(group, partition).await
    }

    async fn commit_positions(&self, positions: &Positions) -> Result<()> {
        self.log.commit_positions(positions).await
    }

    async fn join(&self, group: &GroupId, subscription: &Subscription) -> Result<Box<dyn Member>> {
        self.log.join(group, subscription).await
    }

    async fn appended(&self, seen: LogVersion) -> Result<LogVersion> {
        self.log.appended(seen).await
    }
}
