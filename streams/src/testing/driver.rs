//! The test driver.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::executor::block_on;
use headwater_core::{
    BatchBuilder, DefaultSerde, Error, GroupId, Headers, Log, ManualClock, Offset, Partition, Producer,
    ProducerName, Record, Result, Serde, Signal, StateBackend, Timestamp, TopicName, TopicPartition,
    TopicSpec,
    memory::{MemoryBackend, MemoryLog},
    partition_for_key,
};

use crate::{
    Metrics, Ports, Settings, Topology,
    runtime::{Board, MetricsSink, Plan, Turn, Worker},
    topology::TopicRef,
};

/// Sends records into a topology and reads what comes out.
///
/// Differs from a running application only in this: one worker, driven by the calls of the test, which is idle again
/// when they return. Topics, partitions, repartitions, changelogs, commits, restore and lanes are the real ones, on a
/// log and a state engine in memory. Kafka's driver has one partition and commits after every record; this one has as
/// many as are asked for.
///
/// ```
/// use headwater_core::Timestamp;
/// use headwater_streams::{StreamsBuilder, testing::TopologyTestDriver};
///
/// let builder = StreamsBuilder::new();
/// builder.stream::<String, u64>("in").map_values(|_, n| n + 1).to("out");
/// let mut driver = TopologyTestDriver::new(builder.build()?)?;
/// driver.pipe("in", &"key".to_owned(), &1u64, Timestamp(0))?;
/// assert_eq!(driver.read::<String, u64>("out")?[0].value, 2);
/// # Ok::<(), headwater_core::Error>(())
/// ```
pub struct TopologyTestDriver {
    plan: Arc<Plan>,
    ports: Ports,
    clock: Arc<ManualClock>,
    metrics: MetricsSink,
    board: Arc<Board>,
    worker: Option<Worker>,
    producer: Box<dyn Producer>,
    partitions: BTreeMap<TopicName, u32>,
    /// The next offset to read of each output partition.
    read: BTreeMap<TopicPartition, Offset>,
}

impl TopologyTestDriver {
    /// With one partition per source topic.
    ///
    /// # Errors
    /// Those of the topology and its settings.
    pub fn new(topology: Topology) -> Result<Self> {
        Self::with(topology, Settings::new("test"), 1)
    }

    /// With `partitions` partitions per source topic, and settings.
    ///
    /// # Errors
    /// Those of the topology and its settings.
    pub fn with(topology: Topology, settings: Settings, partitions: u32) -> Result<Self> {
        let ports = (Arc::new(MemoryLog::default()) as _, Arc::new(MemoryBackend::default()) as _);
        Self::on(topology, settings, partitions, ports)
    }

    /// As [`TopologyTestDriver::with`], on a log and a state engine of yours: those that another driver had, or those that
    /// fail when the test wants it. Source topics that exist stay as they are.
    ///
    /// # Errors
    /// Those of the topology, its settings, and the ports.
    pub fn on(
        topology: Topology,
        settings: Settings,
        partitions: u32,
        (log, state): (Arc<dyn Log>, Arc<dyn StateBackend>),
    ) -> Result<Self> {
        block_on(async {
            let known: Vec<TopicName> = log.topics().await?.into_iter().map(|topic| topic.name).collect();
            for subtopology in 0..topology.subtopologies() {
                for topic in topology.sources_of(subtopology) {
                    if let TopicRef::External(name) = topic
                        && !known.contains(name)
                    {
                        log.create_topic(&TopicSpec::new(name.as_str(), partitions)?).await?;
                    }
                }
            }
            let clock = Arc::new(ManualClock::default());
            let plan = Arc::new(Plan::resolve(Arc::new(topology), settings, &*log).await?);
            let producer = log.producer(&ProducerName("test-driver".to_owned())).await?;
            let counts = log.topics().await?.into_iter().map(|t| (t.name, t.partitions.get())).collect();
            let mut driver = Self {
                board: Arc::new(Board::new(plan.tasks())),
                plan,
                ports: Ports { log, state, clock: Arc::clone(&clock) as _ },
                clock,
                metrics: MetricsSink::new(),
                worker: None,
                producer,
                partitions: counts,
                read: BTreeMap::new(),
            };
            driver.restart().await?;
            Ok(driver)
        })
    }

    async fn restart(&mut self) -> Result<()> {
        // The state of a task is opened once: the old worker goes before the new one comes.
        self.worker = None;
        self.metrics = MetricsSink::new();
        self.board = Arc::new(Board::new(self.plan.tasks()));
        let board = Arc::clone(&self.board);
        let tasks: Vec<_> = self.plan.tasks().collect();
        let (plan, ports) = (Arc::clone(&self.plan), self.ports.clone());
        self.worker = Some(Worker::open(plan, ports, (board, self.metrics.clone()), &tasks).await?);
        Ok(())
    }

    /// Sends one record into a source topic, to the partition of its key, and runs until everything is done.
    ///
    /// # Errors
    /// Why the application would stop.
    pub fn pipe<K: DefaultSerde, V: DefaultSerde>(
        &mut self,
        topic: &str,
        key: &K,
        value: &V,
        timestamp: Timestamp,
    ) -> Result<()> {
        self.append(topic, key, value, timestamp)?;
        self.run()
    }

    /// Sends one record, and lets it lie until [`TopologyTestDriver::run`]: so a backlog is made.
    ///
    /// # Errors
    /// When the topic does not exist.
    pub fn append<K: DefaultSerde, V: DefaultSerde>(
        &mut self,
        topic: &str,
        key: &K,
        value: &V,
        timestamp: Timestamp,
    ) -> Result<()> {
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        let has_key = K::default_serde().encode_nullable(key, &mut key_bytes)?;
        let has_value = V::default_serde().encode_nullable(value, &mut value_bytes)?;
        self.append_bytes(
            topic,
            has_key.then_some(&key_bytes[..]),
            has_value.then_some(&value_bytes[..]),
            timestamp,
        )
    }

    /// As [`TopologyTestDriver::append`], with bytes: so what cannot be decoded is tested.
    ///
    /// # Errors
    /// When the topic does not exist.
    pub fn append_bytes(
        &mut self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: Timestamp,
    ) -> Result<()> {
        let topic = TopicName::new(topic)?;
        let count = self.partitions.get(&topic).and_then(|count| std::num::NonZeroU32::new(*count));
        let count = count
            .ok_or_else(|| Error::invalid(format!("the topology reads no such topic. topic={topic}")))?;
        let partition = key.map_or(Partition(0), |key| partition_for_key(key, count));
        let mut batch = BatchBuilder::default();
        batch.push(timestamp, key, value, &Headers::new());
        self.producer.append(&TopicPartition::new(topic, partition), &mut batch)?;
        block_on(self.producer.commit(None))?;
        Ok(())
    }

    /// Runs until all input is processed and committed.
    ///
    /// # Errors
    /// Why the application would stop.
    pub fn run(&mut self) -> Result<()> {
        let board = Arc::clone(&self.board);
        let worker = self.worker()?;
        loop {
            // What a task posts at the end of a turn concerns those behind it, which may go on then: also after an idle turn.
            let posted = board.changed().count();
            let outcome = block_on(async {
                let is_idle = worker.turn().await? == Turn::Idle && board.changed().count() == posted;
                if is_idle && worker.has_open_calls() {
                    return worker.a_call_is_over().await.map(|()| false);
                }
                Ok(is_idle)
            });
            match outcome {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    self.worker = None;
                    return Err(error);
                }
            }
        }
    }

    /// Closes all windows, sessions and windows of joins, as [`Streams::close_windows`](crate::Streams::close_windows) does, once
    /// all input is processed: so a test need not send a record that only moves time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{JoinWindows, StreamsBuilder, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// let (orders, payments) = (builder.stream::<String, u64>("orders"), builder.stream::<String, u64>("payments"));
    /// let minute = JoinWindows::within(Duration::from_secs(60));
    /// orders.left_join(&payments, "paid", minute, |_, _, by| by.is_some()).to("paid");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe("orders", &"order-1".to_owned(), &100u64, Timestamp(7))?;
    /// assert!(driver.read::<String, bool>("paid")?.is_empty());
    /// driver.close_windows()?;
    /// let paid = driver.read::<String, bool>("paid")?;
    /// assert_eq!((paid[0].value, paid[0].timestamp), (false, Timestamp(7)));
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Why the application would stop.
    pub fn close_windows(&mut self) -> Result<()> {
        self.begin_to_close_windows()?;
        self.run()
    }

    /// As [`TopologyTestDriver::close_windows`], but time does not pass yet: it does so turn by turn, or when everything is run.
    ///
    /// # Errors
    /// Why the application would stop.
    pub fn begin_to_close_windows(&mut self) -> Result<()> {
        // What was begun before a crash goes on by itself.
        if !self.board.is_closing() {
            self.run()?;
            self.board.close_windows();
        }
        Ok(())
    }

    /// Moves the wall clock, which begins at 0 and otherwise stands still, and runs until everything is done: punctuations
    /// that it reaches are made, each once, however far it moved.
    ///
    /// # Errors
    /// Why the application would stop.
    pub fn advance_clock(&mut self, by: Duration) -> Result<()> {
        self.clock.advance_ms(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
        self.run()
    }

    /// One turn of the worker: each task takes records once.
    ///
    /// # Errors
    /// Why the application would stop.
    pub fn turn(&mut self) -> Result<()> {
        let worker = self.worker()?;
        block_on(worker.turn()).map(|_| ())
    }

    fn worker(&mut self) -> Result<&mut Worker> {
        self.worker.as_mut().ok_or_else(|| Error::invalid("the application has stopped with an error"))
    }

    /// Ends the worker as `kill -9` would, losing what was not committed, and starts it again.
    ///
    /// # Errors
    /// Those of opening tasks and restoring state.
    pub fn crash(&mut self) -> Result<()> {
        block_on(self.restart())
    }

    /// Ends the worker as it should end, with a last commit and all state written out, and starts it again.
    ///
    /// # Errors
    /// Those of the commit, and of opening tasks.
    pub fn close_and_reopen(&mut self) -> Result<()> {
        if let Some(worker) = &mut self.worker {
            block_on(worker.close(&Signal::default()))?;
        }
        block_on(self.restart())
    }

    /// The records written to `topic` since the last call, partition by partition.
    ///
    /// # Errors
    /// When the topic does not exist, or a record is not of these types.
    pub fn read<K: DefaultSerde, V: DefaultSerde>(&mut self, topic: &str) -> Result<Vec<Record<K, V>>> {
        self.read_with(topic, &*K::default_serde(), &*V::default_serde())
    }

    /// As [`TopologyTestDriver::read`], with serdes.
    ///
    /// # Errors
    /// When the topic does not exist, or a record is not of these types.
    pub fn read_with<K: 'static, V: 'static>(
        &mut self,
        topic: &str,
        key: &dyn Serde<K>,
        value: &dyn Serde<V>,
    ) -> Result<Vec<Record<K, V>>> {
        let topic = TopicName::new(topic)?;
        let count = self.partitions.get(&topic).copied();
        let count = count
            .ok_or_else(|| Error::invalid(format!("the topology writes no such topic. topic={topic}")))?;
        let mut records = Vec::new();
        for partition in (0..count).map(|p| TopicPartition::new(topic.clone(), Partition(p))) {
            let next = self.read.entry(partition.clone()).or_default();
            loop {
                let fetched = block_on(self.ports.log.read(&partition, *next, usize::MAX))?;
                if fetched.batches.is_empty() {
                    break;
                }
                for batch in fetched.batches {
                    let mut cursor = batch.cursor();
                    while let Some(record) = cursor.next().transpose()? {
                        if record.offset >= *next {
                            records.push(Record {
                                key: key.decode_nullable(record.key)?,
                                value: value.decode_nullable(record.value)?,
                                timestamp: record.timestamp,
                                headers: record.headers.to_owned(),
                            });
                        }
                    }
                    *next = batch.next_offset();
                }
            }
        }
        Ok(records)
    }

    /// Counters since the last start.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.metrics.snapshot()
    }

    /// The position that the application has committed in a partition of a source topic.
    ///
    /// # Errors
    /// When the topic's name is not legal.
    pub fn committed(&self, topic: &str, partition: u32) -> Result<Option<Offset>> {
        let partition = TopicPartition::new(TopicName::new(topic)?, Partition(partition));
        let group = GroupId(self.plan.settings.application_id.clone());
        Ok(block_on(self.ports.log.committed(&group, &partition))?.map(|committed| committed.offset))
    }
}
