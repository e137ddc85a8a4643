//! The consumer: records out, positions in.
//!
//! Read in this order: this file (what callers see), `reader` (what is asked of the log), `partitions` (how far it is),
//! `group` (how partitions come and go), `watch` (what happens when it falls silent).

mod builder;
mod group;
mod listener;
mod partitions;
mod reader;
mod record;
mod watch;

use std::{fmt, sync::Arc};

use futures::{Stream, StreamExt, stream};
use headwater_core::{
    DefaultSerde, Error, Log, Offset, Positions, Result, SerdeRef, Subscription, TimedOffset, Timestamp,
    TopicName, TopicPartition, Topics,
};

pub use self::{
    builder::{ConsumerBuilder, Isolation, OffsetReset},
    listener::{Rebalance, RebalanceListener},
    record::{Batch, BatchRecords, ConsumerRecord},
};
use self::{group::Core, reader::Reader};

/// Reads records from a log (Kafka: `KafkaConsumer`).
///
/// Either partitions are assigned by hand ([`Consumer::assign`]), or it subscribes to topics as a member of a group
/// ([`Consumer::subscribe`]), whose members share the partitions. All members of a group read the same log in this process.
///
/// **Positions.** A consumer's *position* in a partition is the next record that it gives out. It is *committed* by itself
/// now and then, or by [`Consumer::commit`]; whoever has the partition next begins there. A record counts as processed when
/// the next one is asked for.
///
/// **Groups.** Partitions come and go within [`Consumer::recv`] and [`Consumer::poll`], and only there. Only those that
/// move are given up, and nobody else has them before they are. Positions in a partition that is not the consumer's any
/// more are refused (`Fenced`); the next call of [`Consumer::recv`] joins again.
///
/// **Runtime.** A consumer with a group spawns a timer on the current tokio runtime when it is first asked for records, and
/// panics when there is none.
///
/// **Dropping** futures is safe: no record is lost when `recv`, `poll` or the next of a stream is dropped before it is
/// ready. Dropping the consumer leaves its group at once and commits nothing; [`Consumer::close`] commits first.
///
/// ```
/// use std::sync::Arc;
/// use headwater_client::{Consumer, OffsetReset, Producer};
/// use headwater_core::{Log, Record, Timestamp, TopicSpec, memory::MemoryLog};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let log = Arc::new(MemoryLog::default());
/// log.create_topic(&TopicSpec::new("readings", 4)?).await?;
/// let producer = Producer::<String, u64>::builder(log.clone()).build().await?;
/// producer.send("readings", &Record::new("sensor-1".into(), 21, Timestamp(0))).await?;
///
/// let mut consumer = Consumer::<String, u64>::builder(log)
///     .group_id("dashboard")
///     .offset_reset(OffsetReset::Earliest)
///     .build()?;
/// consumer.subscribe(["readings"]).await?;
/// assert_eq!(consumer.recv().await?.record.value, 21);
/// consumer.close().await
/// # }).unwrap();
/// ```
pub struct Consumer<K, V> {
    core: Core,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
}

impl<K: DefaultSerde, V: DefaultSerde> Consumer<K, V> {
    /// Begins a consumer of types that have one obvious encoding.
    pub fn builder(log: Arc<dyn Log>) -> ConsumerBuilder<K, V> {
        ConsumerBuilder::new(log, K::default_serde(), V::default_serde())
    }
}

/// What it reads.
impl<K: 'static, V: 'static> Consumer<K, V> {
    /// Begins a consumer.
    pub fn builder_with(log: Arc<dyn Log>, key: SerdeRef<K>, value: SerdeRef<V>) -> ConsumerBuilder<K, V> {
        ConsumerBuilder::new(log, key, value)
    }

    fn open(
        reader: Reader,
        key: SerdeRef<K>,
        value: SerdeRef<V>,
        listener: Option<Box<dyn RebalanceListener>>,
    ) -> Self {
        Self { core: Core::new(reader, listener), key, value }
    }

    /// Reads these topics as a member of the group, instead of those before. A topic that is not there is read once it is.
    ///
    /// # Errors
    /// `Invalid` when a name is not legal, there is no group, the group shares partitions out in another way, or
    /// partitions were assigned by hand; those of [`Log::join`].
    pub async fn subscribe(&mut self, topics: impl IntoIterator<Item = impl AsRef<str>>) -> Result<()> {
        let names = topics.into_iter().map(TopicName::new).collect::<Result<_>>()?;
        self.subscribe_to(Topics::Named(names)).await
    }

    /// As [`Consumer::subscribe`], to all topics whose names begin with `prefix`, those that will be created too.
    ///
    /// # Errors
    /// As [`Consumer::subscribe`].
    pub async fn subscribe_prefix(&mut self, prefix: impl Into<String>) -> Result<()> {
        self.subscribe_to(Topics::Prefix(prefix.into())).await
    }

    async fn subscribe_to(&mut self, topics: Topics) -> Result<()> {
        let assignor = self.core.reader.settings.assignor;
        self.core.subscribe(Subscription { topics, assignor }).await
    }

    /// Reads these partitions, and no others, without regard to anybody else.
    ///
    /// # Errors
    /// `Invalid` when it has subscribed to topics.
    pub fn assign(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        if self.core.subscription.is_some() {
            return Err(Error::invalid("the consumer has subscribed to topics: `unsubscribe` first"));
        }
        let known = &mut self.core.reader.partitions;
        let others: Vec<_> = known.names().filter(|known| !partitions.contains(known)).cloned().collect();
        known.remove(&others);
        known.add(partitions);
        Ok(())
    }

    /// Reads nothing any more. Leaves the group, after the listener was told.
    ///
    /// # Errors
    /// Those of the listener; it has left all the same.
    pub async fn unsubscribe(&mut self) -> Result<()> {
        self.core.leave().await
    }

    /// The partitions that it reads now, in order.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.core.reader.partitions.names().cloned().collect()
    }

    /// Commits, if it does so by itself, and leaves the group, after the listener was told.
    ///
    /// # Errors
    /// Those of the listener.
    pub async fn close(mut self) -> Result<()> {
        self.core.leave().await
    }
}

/// Records.
impl<K: 'static, V: 'static> Consumer<K, V> {
    /// The next record; waits for it. Safe to drop half way.
    ///
    /// # Errors
    /// `Processing` when a serde refuses the record: the next call says so again, unless [`Consumer::skip`] was called.
    /// `Invalid` when it reads nothing, a partition that was assigned by hand is not there, or a position is out of range
    /// and may not be reset. `Corrupt`, `Unavailable`, `Closed` as [`Log::read`]; errors of the listener.
    pub async fn recv(&mut self) -> Result<ConsumerRecord<K, V>> {
        if self.core.polled() {
            self.core.turn().await?;
        }
        loop {
            if let Some(current) = &mut self.core.reader.partitions.current
                && current.advance()?
                && let Some(record) = current.record()
            {
                let (partition, offset) = (current.batch.partition(), record.offset);
                let record = record::decode(record, &*self.key, &*self.value);
                let record = record.map_err(|e| e.context(record::place(partition, offset)))?;
                let partition = partition.clone();
                current.pass(offset);
                return Ok(ConsumerRecord { partition, offset, record });
            }
            if !self.core.reader.partitions.next_batch() {
                self.core.fill().await?;
            }
        }
    }

    /// Passes over the record that [`Consumer::recv`] could not decode; nothing when there is none.
    pub fn skip(&mut self) {
        if let Some(current) = &mut self.core.reader.partitions.current
            && let Some(record) = current.record()
        {
            let offset = record.offset;
            current.pass(offset);
        }
    }

    /// The next records, whole batches of them as they lie in the log: at least one; waits for it. All count as given out.
    /// Safe to drop half way.
    ///
    /// # Errors
    /// As [`Consumer::recv`], but for `Processing`.
    pub async fn poll(&mut self) -> Result<Vec<Batch>> {
        if self.core.polled() {
            self.core.turn().await?;
        }
        loop {
            let batches = self.core.reader.partitions.drain();
            if !batches.is_empty() {
                return Ok(batches);
            }
            self.core.fill().await?;
        }
    }

    /// The records, one after another, as [`Consumer::recv`] gives them. Ends after an error.
    pub fn stream(&mut self) -> impl Stream<Item = Result<ConsumerRecord<K, V>>> + Unpin + Send + '_ {
        stream::unfold(Some(self), async |consumer| {
            let consumer = consumer?;
            match consumer.recv().await {
                Ok(record) => Some((Ok(record), Some(consumer))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    /// Gives out nothing of these partitions until [`Consumer::resume`]. They stay the consumer's.
    ///
    /// # Errors
    /// `Invalid` when one is not the consumer's.
    pub fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        partitions.iter().try_for_each(|partition| self.core.reader.partitions.pause(partition, true))
    }

    /// Goes on where [`Consumer::pause`] has stopped.
    ///
    /// # Errors
    /// `Invalid` when one is not the consumer's.
    pub fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        partitions.iter().try_for_each(|partition| self.core.reader.partitions.pause(partition, false))
    }

    /// The partitions that are paused.
    #[must_use]
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.core.reader.partitions.paused().cloned().collect()
    }
}

/// Positions.
impl<K: 'static, V: 'static> Consumer<K, V> {
    /// Goes to an offset. Whether it is there shows when it is read.
    ///
    /// # Errors
    /// `Invalid` when the partition is not the consumer's.
    pub fn seek(&mut self, partition: &TopicPartition, to: Offset) -> Result<()> {
        self.core.reader.partitions.seek(partition, Some(to))
    }

    /// Goes to the first records that are there.
    ///
    /// # Errors
    /// `Invalid` when a partition is not the consumer's or not there.
    pub async fn seek_to_beginning(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.core.reader.seek_to(partitions, OffsetReset::Earliest).await
    }

    /// Goes behind the last records that are there.
    ///
    /// # Errors
    /// As [`Consumer::seek_to_beginning`].
    pub async fn seek_to_end(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.core.reader.seek_to(partitions, OffsetReset::Latest).await
    }

    /// Goes to the first records that are not older than `time`; behind the last ones where all are.
    ///
    /// # Errors
    /// As [`Consumer::seek_to_beginning`], and as [`Log::offset_at`].
    pub async fn seek_to_timestamp(&mut self, partitions: &[TopicPartition], time: Timestamp) -> Result<()> {
        self.core.reader.seek_to(partitions, OffsetReset::Timestamp(time)).await
    }

    /// The offset of the next record that is given out, unless it is deleted before.
    ///
    /// # Errors
    /// `Invalid` when the partition is not the consumer's, or no position can be found; those of [`Log::committed`].
    pub async fn position(&mut self, partition: &TopicPartition) -> Result<Offset> {
        if self.core.reader.partitions.position(partition)?.is_none() {
            self.core.reader.locate().await?;
        }
        let position = self.core.reader.partitions.position(partition)?;
        position.ok_or_else(|| Error::invalid(format!("the topic is gone. partition={partition}")))
    }

    /// What the group has committed in a partition.
    ///
    /// # Errors
    /// `Invalid` without a group; those of [`Log::committed`].
    pub async fn committed(&self, partition: &TopicPartition) -> Result<Option<Offset>> {
        let reader = &self.core.reader;
        let committed = reader.log.committed(reader.group()?, partition).await?;
        Ok(committed.map(|at| at.offset))
    }

    /// Commits the positions in all partitions: everything that was given out counts as processed. When the future is
    /// dropped half way, they may be committed or not.
    ///
    /// # Errors
    /// `Fenced` when a partition is not the consumer's any more, and nothing is committed then; `Invalid` without a group;
    /// those of [`Log::commit_positions`].
    pub async fn commit(&mut self) -> Result<()> {
        self.core.reader.commit().await
    }

    /// Commits these positions: offsets that are to be given out next.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub async fn commit_positions(&mut self, positions: &[(TopicPartition, Offset)]) -> Result<()> {
        self.core.reader.commit_these(positions.to_vec()).await
    }

    /// All positions, for [`Producer::send_offsets`](crate::Producer::send_offsets): they are committed with what the
    /// transaction writes, and only while the partitions are the consumer's.
    ///
    /// # Errors
    /// `Invalid` without a group.
    pub fn positions(&mut self) -> Result<Positions> {
        let group = self.core.reader.group()?.clone();
        let positions = self.core.reader.partitions.positions();
        Ok(self.core.reader.as_positions(group, &positions))
    }

    /// How many offsets each partition's position lies behind its end.
    ///
    /// # Errors
    /// As [`Consumer::position`], and those of [`Log::offsets`].
    pub async fn lag(&mut self) -> Result<Vec<(TopicPartition, u64)>> {
        self.core.reader.locate().await?;
        let mut lags = Vec::new();
        for (partition, position) in self.core.reader.partitions.positions() {
            let end = self.core.reader.log.offsets(&partition).await?.end;
            lags.push((partition, end.0.saturating_sub(position.0)));
        }
        Ok(lags)
    }

    /// The first record that is not older than the time, for each partition; `None` when all are older.
    ///
    /// # Errors
    /// Those of [`Log::offset_at`].
    pub async fn offsets_for_times(
        &self,
        times: &[(TopicPartition, Timestamp)],
    ) -> Result<Vec<Option<TimedOffset>>> {
        let mut found = Vec::with_capacity(times.len());
        for (partition, time) in times {
            found.push(self.core.reader.log.offset_at(partition, *time).await?);
        }
        Ok(found)
    }
}

impl<K, V> Drop for Consumer<K, V> {
    fn drop(&mut self) {
        self.core.leave_at_once();
    }
}

impl<K, V> fmt::Debug for Consumer<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reader = &self.core.reader;
        f.debug_struct("Consumer")
            .field("group", &reader.settings.group)
            .field("member", &reader.member)
            .field("partitions", &reader.partitions)
            .finish_non_exhaustive()
    }
}
