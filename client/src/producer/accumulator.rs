//! What was sent and is not written yet: an open batch for each partition, and closed ones in a line (Kafka:
//! `RecordAccumulator`). Guarded by one lock that is held for a copy of a record's bytes, and never across an await.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU32,
};

use futures::channel::oneshot;
use headwater_core::{
    BatchBuilder, Error, Headers, Partition, Positions, Result, Timestamp, TopicName, TopicPartition,
    TopicSpec,
};
use tokio::time::Instant;

use super::{
    builder::Limits,
    delivery::{Delivery, Failure, Promise},
    partitioner::{Outgoing, Sticky, by_key},
};

/// What a record takes in a batch beyond its key, value and headers, at most.
const RECORD_OVERHEAD_BYTES: usize = 40;
/// And each of its headers.
const HEADER_OVERHEAD_BYTES: usize = 10;
/// So many empty builders are kept for the next batches, or as many as a commit has.
const IDLE_BUILDERS: std::ops::RangeInclusive<usize> = 4..=64;

/// A record whose key and value are bytes already.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawRecord<'a> {
    pub(super) key: Option<&'a [u8]>,
    /// The part of the key that decides the partition.
    pub(super) partition_key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) timestamp: Timestamp,
    pub(super) headers: &'a Headers,
}

impl<'a> RawRecord<'a> {
    /// At least as many bytes as it takes in a batch.
    pub(super) fn bytes(&self) -> usize {
        let size = |field: Option<&[u8]>| field.map_or(0, <[u8]>::len);
        let headers = if self.headers.is_empty() {
            0
        } else {
            self.headers.iter().map(|(name, value)| name.len() + size(value) + HEADER_OVERHEAD_BYTES).sum()
        };
        size(self.key) + size(self.value) + headers + RECORD_OVERHEAD_BYTES
    }

    pub(super) fn outgoing(&self, topic: &'a str, partitions: NonZeroU32) -> Outgoing<'a> {
        Outgoing { topic, key: self.partition_key, value: self.value, partitions }
    }
}

/// Where a record is to go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    /// Where its key says.
    Key,
    /// To one that takes records without a key now.
    Sticky,
    /// There.
    Partition(Partition),
}

/// What is between two commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not a transactional producer.
    Plain,
    /// No transaction is open.
    Idle,
    /// One is.
    Open,
    /// A commit or an abort is on its way.
    Ending,
    /// A commit was refused: only an abort can follow.
    Failed,
}

/// How a transaction is to end.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) how: End,
    pub(super) to: oneshot::Sender<Result<()>>,
}

#[derive(Debug)]
pub(super) enum End {
    Commit(Option<Positions>),
    Abort,
}

#[derive(Debug)]
pub(super) struct Accumulator {
    limits: Limits,
    topics: Vec<Topic>,
    names: BTreeMap<TopicName, usize>,
    /// The topic of the last record: programs send many records to one before they turn to the next.
    last: usize,
    /// Open batches by age, and where each is.
    open: BTreeMap<u64, (usize, Partition)>,
    last_serial: u64,
    ready: VecDeque<Closed>,
    idle: Vec<BatchBuilder>,
    /// Batches that were ever closed, and of those that were dealt with.
    pub(super) closed: u64,
    pub(super) handled: u64,
    pub(super) phase: Phase,
    /// Counts transactions, so that a record that waited for room does not slip into the next one.
    pub(super) transaction: u64,
    pub(super) positions: Option<Positions>,
    pub(super) ending: Option<Ending>,
    /// No more records are taken.
    pub(super) closing: bool,
    /// Nothing can be written any more.
    pub(super) dead: Option<Failure>,
    /// The first failure that [`Producer::flush`](super::Producer::flush) did not tell of yet.
    pub(super) untold: Option<Failure>,
}

#[derive(Debug)]
struct Topic {
    name: TopicName,
    /// `None` when it must be looked up again.
    partitions: Option<NonZeroU32>,
    batch_bytes: usize,
    open: Vec<Option<Open>>,
    sticky: Sticky,
}

struct Open {
    builder: BatchBuilder,
    promise: Promise,
    charged: usize,
    serial: u64,
    due: Option<Instant>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Open({}, {} records)", self.promise.partition(), self.builder.record_count())
    }
}

/// A batch that waits to be written.
pub(super) struct Closed {
    pub(super) builder: BatchBuilder,
    pub(super) promise: Promise,
    /// Bytes that it holds of the buffer.
    pub(super) charged: usize,
}

impl std::fmt::Debug for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Closed({}, {} records)", self.promise.partition(), self.builder.record_count())
    }
}

/// A topic as it is known here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    index: usize,
    pub(super) partitions: NonZeroU32,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Work {
    Write(Vec<Closed>),
    End(Ending),
    /// Nothing, before this moment.
    Wait(Option<Instant>),
    Stop,
}

impl Accumulator {
    pub(super) fn new(limits: Limits, phase: Phase) -> Self {
        Self {
            limits,
            topics: Vec::new(),
            names: BTreeMap::new(),
            last: 0,
            open: BTreeMap::new(),
            last_serial: 0,
            ready: VecDeque::new(),
            idle: Vec::new(),
            closed: 0,
            handled: 0,
            phase,
            transaction: 0,
            positions: None,
            ending: None,
            closing: false,
            dead: None,
            untold: None,
        }
    }

    /// Whether a record may be taken in, and of which transaction it is.
    pub(super) fn check(&self) -> Result<u64> {
        if let Some(dead) = &self.dead {
            return Err(dead.error());
        }
        if self.closing {
            return Err(Error::new(headwater_core::ErrorKind::Closed, "the producer was closed"));
        }
        match self.phase {
            Phase::Plain | Phase::Open => Ok(self.transaction),
            Phase::Failed => Err(Error::invalid("the transaction has failed: abort it first")),
            Phase::Idle | Phase::Ending => {
                Err(Error::invalid("a transactional producer sends within a transaction: call `begin` first"))
            }
        }
    }

    /// A topic that was looked up before.
    pub(super) fn topic(&mut self, name: &str) -> Option<Known> {
        let known = |topic: &Topic| topic.name.as_str() == name;
        if !self.topics.get(self.last).is_some_and(known) {
            self.last = *self.names.get(name)?;
        }
        let index = self.last;
        Some(Known { index, partitions: self.topics.get(index)?.partitions? })
    }

    /// Takes a record in; the second says whether the driver has something new to look at. The room that the record takes,
    /// `bytes`, was reserved.
    pub(super) fn push(
        &mut self,
        known: Known,
        target: Target,
        record: &RawRecord<'_>,
        bytes: usize,
    ) -> Result<(Delivery, bool)> {
        let topic = &mut self.topics[known.index];
        let partition = match target {
            Target::Partition(partition) => Some(partition),
            Target::Key => by_key(record.partition_key, known.partitions),
            Target::Sticky => None,
        };
        let partition =
            partition.unwrap_or_else(|| topic.sticky.next(bytes, topic.batch_bytes, known.partitions));
        let batch_bytes = topic.batch_bytes;
        let Some(place) = topic.open.get_mut(partition.0 as usize) else {
            return Err(no_such_partition(&topic.name, partition, known.partitions));
        };
        let mut news = false;
        if let Some(full) = place.take_if(|open| open.builder.size() + bytes > batch_bytes) {
            self.open.remove(&full.serial);
            self.ready.push_back(full.close());
            self.closed += 1;
            news = true;
        }
        let open = match place {
            Some(open) => open,
            None => {
                news = true;
                self.last_serial += 1;
                let mut builder = self.idle.pop().unwrap_or_default();
                builder.set_compression(self.limits.compression);
                self.open.insert(self.last_serial, (known.index, partition));
                place.insert(Open {
                    builder,
                    promise: Promise::new(TopicPartition::new(topic.name.clone(), partition)),
                    charged: 0,
                    serial: self.last_serial,
                    // A transaction is written as a whole: nothing of it is due before its end.
                    due: (self.phase == Phase::Plain).then(|| Instant::now() + self.limits.linger),
                })
            }
        };
        let delivery = open.promise.delivery(open.builder.record_count(), record.timestamp);
        open.builder.push(record.timestamp, record.key, record.value, record.headers);
        open.charged += bytes;
        // The next record is most likely as large as this one.
        if open.builder.size() + bytes > batch_bytes {
            self.close_open(known.index, partition);
            news = true;
        }
        Ok((delivery, news))
    }

    fn close_open(&mut self, topic: usize, partition: Partition) {
        let place = self.topics.get_mut(topic).and_then(|topic| topic.open.get_mut(partition.0 as usize));
        if let Some(open) = place.and_then(Option::take) {
            self.open.remove(&open.serial);
            self.ready.push_back(open.close());
            self.closed += 1;
        }
    }

    /// Closes all batches; returns how many will have been dealt with when they are.
    pub(super) fn close_all(&mut self) -> u64 {
        while let Some((_, (topic, partition))) = self.open.pop_first() {
            self.close_open(topic, partition);
        }
        self.closed
    }

    /// What is to be done at `now`.
    pub(super) fn work(&mut self, now: Instant) -> Work {
        let mut next_due = None;
        while let Some((_, (topic, partition))) = self.open.first_key_value() {
            let (topic, partition) = (*topic, *partition);
            let due = self.topics[topic].open[partition.0 as usize].as_ref().and_then(|open| open.due);
            if !self.closing && due.is_none_or(|due| due > now) {
                next_due = due;
                break;
            }
            self.close_open(topic, partition);
        }
        if !self.ready.is_empty() {
            return Work::Write(self.take_ready());
        }
        match self.ending.take() {
            Some(ending) => Work::End(ending),
            None if self.closing => Work::Stop,
            None => Work::Wait(next_due),
        }
    }

    /// The oldest closed batches, of about the size of a commit.
    fn take_ready(&mut self) -> Vec<Closed> {
        let mut bytes = 0;
        let fits = |batch: &Closed| {
            let fits = bytes == 0 || bytes + batch.builder.size() <= self.limits.commit_bytes;
            bytes += batch.builder.size();
            fits
        };
        let count = self.ready.iter().map(fits).take_while(|fits| *fits).count();
        self.ready.drain(..count).collect()
    }

    /// Forgets all batches that were not handed to the log, and gives them back.
    pub(super) fn forget(&mut self) -> Vec<Closed> {
        self.close_all();
        self.handled += self.ready.len() as u64;
        self.ready.drain(..).collect()
    }

    /// Takes builders back that are empty again.
    pub(super) fn recycle(&mut self, builders: impl Iterator<Item = BatchBuilder>) {
        // Their buffers are as large as their last batch was, and one that is new grows by being copied.
        let of_a_commit = self.limits.commit_bytes / self.limits.batch_bytes.max(1);
        let max = of_a_commit.clamp(*IDLE_BUILDERS.start(), *IDLE_BUILDERS.end());
        self.idle.extend(builders.take(max.saturating_sub(self.idle.len())));
    }

    /// Takes note of topics as they are now: of all that were used before, and of `wanted`.
    pub(super) fn update(&mut self, specs: &[TopicSpec], wanted: Option<&str>) {
        for topic in &mut self.topics {
            topic.partitions = None;
        }
        for spec in specs {
            if let Some(index) = self.names.get(&spec.name) {
                self.update_topic(*index, spec);
            } else if wanted == Some(spec.name.as_str()) {
                self.names.insert(spec.name.clone(), self.topics.len());
                self.topics.push(Topic::new(spec, &self.limits));
            }
        }
    }

    fn update_topic(&mut self, index: usize, spec: &TopicSpec) {
        let count = spec.partitions.get() as usize;
        // There are fewer when it was deleted and made again: what was meant for the others is refused by the log.
        for partition in count..self.topics[index].open.len() {
            let partition = u32::try_from(partition).expect("partitions are numbered by u32");
            self.close_open(index, Partition(partition));
        }
        let topic = &mut self.topics[index];
        topic.open.resize_with(count, || None);
        topic.partitions = Some(spec.partitions);
        topic.batch_bytes = self.limits.batch_bytes_of(spec);
    }

    /// Has a topic looked up again before the next record goes there.
    pub(super) fn doubt(&mut self, name: &TopicName) {
        if let Some(topic) = self.names.get(name).and_then(|index| self.topics.get_mut(*index)) {
            topic.partitions = None;
        }
    }

    /// Remembers a failure for whoever flushes.
    pub(super) fn failed(&mut self, failure: &Failure) {
        self.untold.get_or_insert_with(|| failure.clone());
    }
}

impl Topic {
    fn new(spec: &TopicSpec, limits: &Limits) -> Self {
        let mut open = Vec::new();
        open.resize_with(spec.partitions.get() as usize, || None);
        Self {
            name: spec.name.clone(),
            partitions: Some(spec.partitions),
            batch_bytes: limits.batch_bytes_of(spec),
            open,
            sticky: Sticky::new(),
        }
    }
}

impl Open {
    fn close(self) -> Closed {
        Closed { builder: self.builder, promise: self.promise, charged: self.charged }
    }
}

#[cold]
fn no_such_partition(topic: &TopicName, partition: Partition, partitions: NonZeroU32) -> Error {
    Error::invalid(format!(
        "the topic has no such partition: partitions are numbered from 0. topic={topic}, partition={partition}, partitions={partitions}"
    ))
}
