//! Where the output of a task waits: open batches, one per topic and partition.

use std::num::NonZeroU32;

use headwater_core::{
    BatchBuilder, BatchMark, Error, Headers, Partition, Producer, Result, Timestamp, TopicName,
    TopicPartition, ledger,
};

use super::lanes::{LANE_HEADER, LaneMark};
use crate::state::Write;

/// A batch is closed when it has reached this size. Large enough that its header and checksum cost nothing per record,
/// small enough to stay in the processor's cache while it is filled.
const BATCH_BYTES: usize = 64 << 10;
/// A record must leave room for the header of its batch and the lengths of its fields.
pub(super) const RECORD_BYTES_MAX: usize = ledger::BATCH_BYTES_MAX - 1024;

/// What a record takes in a batch beside its fields, at least.
const RECORD_BYTES: usize = 8;
/// Open batches of one topic, one per partition.
pub(crate) struct SinkBuffer {
    topic: TopicName,
    partitions: Vec<Buffer>,
    count: NonZeroU32,
    /// The lane that this task is to the readers of the topic, if it is a repartition topic.
    lane: Option<u32>,
    /// Whether a batch has reached its size.
    full: bool,
    /// About how many bytes were sent since the last commit.
    pub(crate) sent: usize,
}

struct Buffer {
    partition: TopicPartition,
    batch: BatchBuilder,
    /// Batches that the current record filled; it may send more than fits into one.
    filled: Vec<BatchBuilder>,
    /// Where the current record began: how many were filled, and where in the open one.
    mark: Option<(usize, BatchMark)>,
}

impl SinkBuffer {
    pub(crate) fn new(topic: &TopicName, count: NonZeroU32, lane: Option<u32>) -> Self {
        let buffer = |p| Buffer {
            partition: TopicPartition::new(topic.clone(), Partition(p)),
            batch: BatchBuilder::default(),
            filled: Vec::new(),
            mark: None,
        };
        let partitions = (0..count.get()).map(buffer).collect();
        Self { topic: topic.clone(), partitions, count, lane, full: false, sent: 0 }
    }

    pub(crate) fn partitions(&self) -> NonZeroU32 {
        self.count
    }

    pub(super) fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// Adds a record; `stream_time` is that of this task, which the reader of a lane needs.
    #[inline]
    pub(crate) fn push(
        &mut self,
        partition: Partition,
        timestamp: Timestamp,
        (key, value): (Option<&[u8]>, Option<&[u8]>),
        (headers, stream_time): (&Headers, Timestamp),
    ) -> Result<()> {
        let buffer = &mut self.partitions[partition.0 as usize];
        if buffer.batch.size() >= BATCH_BYTES {
            // Only within one record: between two, full batches are closed.
            buffer.filled.push(std::mem::take(&mut buffer.batch));
        }
        let size = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + headers_size(headers);
        self.sent += size + RECORD_BYTES;
        if size + BATCH_BYTES > RECORD_BYTES_MAX {
            buffer.make_room(size)?;
        }
        match self.lane {
            None => buffer.batch.push(timestamp, key, value, headers),
            Some(lane) => {
                let mark = LaneMark { lane, time: stream_time }.encode();
                buffer.batch.push_with(timestamp, key, value, headers, Some((LANE_HEADER, &mark)));
            }
        }
        self.full |= buffer.batch.size() >= BATCH_BYTES || !buffer.filled.is_empty();
        Ok(())
    }

    /// As [`SinkBuffer::push`], with a key and a value that their writers append to the batch itself. Gives how many bytes the
    /// value has.
    #[inline]
    pub(crate) fn push_encoded(
        &mut self,
        partition: Partition,
        timestamp: Timestamp,
        (headers, stream_time): (&Headers, Timestamp),
        key: impl Fn(&mut Vec<u8>) -> Result<bool>,
        value: impl Fn(&mut Vec<u8>) -> Result<bool>,
    ) -> Result<usize> {
        let buffer = &mut self.partitions[partition.0 as usize];
        if buffer.batch.size() >= BATCH_BYTES {
            buffer.filled.push(std::mem::take(&mut buffer.batch));
        }
        let before = buffer.batch.mark();
        let lane = self.lane.map(|lane| LaneMark { lane, time: stream_time }.encode());
        let extra = lane.as_ref().map(|mark| (LANE_HEADER, &mark[..]));
        let (key_bytes, value_bytes) =
            buffer.batch.push_encoded(timestamp, (headers, extra), &key, &value)?;
        let size = key_bytes + value_bytes;
        if size + headers_size(headers) + BATCH_BYTES > RECORD_BYTES_MAX {
            // It may belong into a batch of its own.
            buffer.batch.rewind(before);
            return self.push_large(partition, timestamp, (headers, stream_time), (&key, &value));
        }
        self.sent += size + headers_size(headers) + RECORD_BYTES;
        self.full |= buffer.batch.size() >= BATCH_BYTES || !buffer.filled.is_empty();
        Ok(value_bytes)
    }

    #[cold]
    fn push_large(
        &mut self,
        partition: Partition,
        timestamp: Timestamp,
        about: (&Headers, Timestamp),
        (key, value): (&Write<'_>, &Write<'_>),
    ) -> Result<usize> {
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        let (has_key, has_value) = (key(&mut key_bytes)?, value(&mut value_bytes)?);
        let record = (has_key.then_some(&key_bytes[..]), has_value.then_some(&value_bytes[..]));
        self.push(partition, timestamp, record, about)?;
        Ok(value_bytes.len())
    }

    pub(super) fn begin_record(&mut self) {
        let mark = |buffer: &mut Buffer| buffer.mark = Some((buffer.filled.len(), buffer.batch.mark()));
        self.partitions.iter_mut().for_each(mark);
    }

    pub(super) fn roll_back(&mut self) {
        for buffer in &mut self.partitions {
            if let Some((filled, mark)) = buffer.mark {
                if let Some(begun) = buffer.filled.drain(filled.min(buffer.filled.len())..).next() {
                    buffer.batch = begun;
                }
                buffer.batch.rewind(mark);
            }
        }
    }

    /// Whether [`SinkBuffer::close_batches`] has something to close.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Closes batches between two records: the full ones, or all. Returns their bytes.
    pub(crate) fn close_batches(&mut self, all: bool, producer: &mut dyn Producer) -> Result<usize> {
        if !(self.full || all) {
            return Ok(0);
        }
        let mut bytes = 0;
        for buffer in &mut self.partitions {
            buffer.mark = None;
            for mut filled in buffer.filled.drain(..) {
                bytes += filled.size();
                producer.append(&buffer.partition, &mut filled)?;
            }
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

impl Buffer {
    /// Begins a new batch for a record that may not fit into the open one.
    #[cold]
    fn make_room(&mut self, size: usize) -> Result<()> {
        if size > RECORD_BYTES_MAX {
            let partition = &self.partition;
            return Err(Error::processing(format!(
                "record is too large. partition={partition}, bytes={size}, bytes_max={RECORD_BYTES_MAX}"
            )));
        }
        if !self.batch.is_empty() {
            self.filled.push(std::mem::take(&mut self.batch));
        }
        Ok(())
    }
}

/// About how many bytes they take, and never less.
pub(super) fn headers_size(headers: &Headers) -> usize {
    if headers.is_empty() {
        return 0;
    }
    headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len) + 20).sum()
}
