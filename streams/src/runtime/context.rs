//! What operators may touch while a record flows through them.

use std::num::NonZeroU32;

use headwater_core::{
    BatchBuilder, BatchMark, Data, Headers, Partition, Producer, RecordRef, Result, TaskId, TaskState,
    Timestamp, TopicName, TopicPartition,
};

use super::lanes::{LANE_HEADER, LaneMark};
use crate::state::{KeyValue, KeyValueHandle, KeyValueStore, Store};

/// A batch is closed when it has reached this size. Large enough that its header and checksum cost nothing per record,
/// small enough to stay in the processor's cache while it is filled.
const BATCH_BYTES: usize = 64 << 10;

pub(crate) struct TaskContext {
    pub(crate) id: TaskId,
    /// Highest timestamp of the records taken so far.
    pub(crate) stream_time: Timestamp,
    /// By their place in the topology; those of other sub-topologies are missing.
    pub(crate) stores: Vec<Option<Box<dyn Store>>>,
    pub(crate) state: Box<dyn TaskState>,
    pub(crate) sinks: Vec<SinkBuffer>,
    /// Where a sink encodes keys and values before they are copied into a batch.
    pub(crate) scratch: Vec<u8>,
}

impl TaskContext {
    /// The store at `index`, and the engine under it.
    #[inline]
    pub(crate) fn store_and_state<S: Store + 'static>(&mut self, index: usize) -> (&mut S, &dyn TaskState) {
        let store = self.stores.get_mut(index).and_then(Option::as_mut);
        let store = store.expect("a processor reaches only the stores it was connected to");
        let store = store.as_any().downcast_mut().expect("a store handle has the type of its store");
        (store, &*self.state)
    }

    pub(crate) fn key_value_store<K: Data, V: Data>(
        &mut self,
        handle: &KeyValueHandle<K, V>,
    ) -> KeyValueStore<'_, K, V> {
        let (store, state) = self.store_and_state::<KeyValue<K, V>>(handle.index);
        KeyValueStore { store, state }
    }

    pub(crate) fn stores(&mut self) -> impl Iterator<Item = &mut Box<dyn Store>> {
        self.stores.iter_mut().flatten()
    }

    /// Remembers how to take back what the next record does.
    pub(crate) fn begin_record(&mut self) {
        self.stores().for_each(|store| store.begin_record());
        self.sinks.iter_mut().for_each(SinkBuffer::begin_record);
    }

    /// Takes back everything since [`TaskContext::begin_record`].
    pub(crate) fn roll_back(&mut self) {
        self.stores().for_each(|store| store.roll_back());
        self.sinks.iter_mut().for_each(SinkBuffer::roll_back);
    }
}

/// Open batches of one topic, one per partition.
pub(crate) struct SinkBuffer {
    partitions: Vec<Buffer>,
    count: NonZeroU32,
    /// The lane that this task is to the readers of the topic, if it is a repartition topic.
    lane: Option<u32>,
    /// Whether a batch has reached its size.
    full: bool,
}

struct Buffer {
    partition: TopicPartition,
    batch: BatchBuilder,
    mark: Option<BatchMark>,
}

impl SinkBuffer {
    pub(crate) fn new(topic: &TopicName, count: NonZeroU32, lane: Option<u32>) -> Self {
        let buffer = |p| Buffer {
            partition: TopicPartition::new(topic.clone(), Partition(p)),
            batch: BatchBuilder::default(),
            mark: None,
        };
        Self { partitions: (0..count.get()).map(buffer).collect(), count, lane, full: false }
    }

    pub(crate) fn partitions(&self) -> NonZeroU32 {
        self.count
    }

    /// Adds a record; `stream_time` is that of this task, which the reader of a lane needs.
    #[inline]
    pub(crate) fn push(
        &mut self,
        partition: Partition,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        (headers, stream_time): (&Headers, Timestamp),
    ) {
        let batch = &mut self.partitions[partition.0 as usize].batch;
        match self.lane {
            None => batch.push(timestamp, key, value, headers),
            Some(lane) => {
                let mark = LaneMark { lane, time: stream_time }.encode();
                batch.push_with(timestamp, key, value, headers, Some((LANE_HEADER, &mark)));
            }
        }
        self.full |= batch.size() >= BATCH_BYTES;
    }

    /// Adds a record as it lies in the log, with its headers and `error` behind them.
    pub(crate) fn push_raw(&mut self, partition: Partition, record: RecordRef<'_>, error: &Headers) {
        let own = record.headers.to_owned_without(LANE_HEADER.as_bytes());
        let own = own.iter().map(|(name, value)| (name.to_owned(), value.map(bytes::Bytes::copy_from_slice)));
        let error =
            error.iter().map(|(name, value)| (name.to_owned(), value.map(bytes::Bytes::copy_from_slice)));
        let headers: Headers = own.chain(error).collect();
        self.push(partition, record.timestamp, record.key, record.value, (&headers, Timestamp::MIN));
    }

    fn begin_record(&mut self) {
        self.partitions.iter_mut().for_each(|buffer| buffer.mark = Some(buffer.batch.mark()));
    }

    fn roll_back(&mut self) {
        for buffer in &mut self.partitions {
            if let Some(mark) = buffer.mark {
                buffer.batch.rewind(mark);
            }
        }
    }

    /// Closes batches between two records: the full ones, or all. Returns their bytes.
    #[inline]
    pub(crate) fn close_batches(&mut self, all: bool, producer: &mut dyn Producer) -> Result<usize> {
        if !(self.full || all) {
            return Ok(0);
        }
        let mut bytes = 0;
        for buffer in &mut self.partitions {
            let size = buffer.batch.size();
            if size >= BATCH_BYTES || (all && size > 0) {
                producer.append(&buffer.partition, &mut buffer.batch)?;
                bytes += size;
            }
        }
        self.full = false;
        Ok(bytes)
    }
}
