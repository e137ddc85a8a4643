//! What a producer holds back until its commit, and the sequence numbers that go with it.

use std::collections::BTreeMap;

use super::{Incarnation, Place, sequences::advance};
use crate::{
    BatchBuilder, Compression, DECOMPRESSED_BYTES_MAX, Error, ProducerStamp, RecordBatch, Result,
    TopicConfig, TopicPartition,
};

/// Largest batch of a topic that does not say otherwise (Kafka: `max.message.bytes`, 1 MiB and a header).
pub const BATCH_BYTES_MAX: usize = (1 << 20) + 12;

/// Largest sum of batches in one commit unless a log is told otherwise.
pub const COMMIT_BYTES_MAX: usize = 256 << 20;

/// Closed batches that wait for their commit.
#[derive(Debug)]
pub struct Held {
    producer: Incarnation,
    bytes_max: usize,
    batches: Vec<(Place, RecordBatch)>,
    bytes: usize,
    sequences: BTreeMap<Place, Numbers>,
}

/// The next sequence number of a partition, as of three moments.
#[derive(Debug, Clone, Copy, Default)]
struct Numbers {
    /// After everything appended.
    appended: i32,
    /// After the commit that is on its way.
    sent: i32,
    /// After the last commit that is known to be written.
    written: i32,
}

impl Held {
    /// Nothing yet, for `producer`, and at most `bytes_max` bytes at a time.
    #[must_use]
    pub fn new(producer: Incarnation, bytes_max: usize) -> Self {
        Self { producer, bytes_max, batches: Vec::new(), bytes: 0, sequences: BTreeMap::new() }
    }

    /// Whose it is.
    #[must_use]
    pub fn producer(&self) -> Incarnation {
        self.producer
    }

    /// Bytes of the batches that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Closes `batch` for a topic with settings `config`, compressed as they say, and keeps it; it is empty afterwards,
    /// whatever comes of it.
    ///
    /// # Errors
    /// `Invalid` when it is larger than the limits, as it would be kept, or holds a record without a key although the topic
    /// is compacted (Kafka: `INVALID_RECORD`); `Unavailable` when there is no memory to compress
    /// it. Nothing of it is kept, and the next batch gets its sequence numbers.
    pub fn append(
        &mut self,
        (place, partition): (Place, &TopicPartition),
        config: &TopicConfig,
        batch: &mut BatchBuilder,
    ) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let numbers = self.sequences.get(&place).copied().unwrap_or_default();
        let Incarnation { id, epoch } = self.producer;
        let stamp = ProducerStamp { id, epoch, sequence: numbers.appended };
        let count = batch.record_count();
        let closed = close(batch, stamp, (config, partition)).inspect_err(|_| batch.clear())?;
        let bytes = self.bytes + closed.bytes().len();
        if bytes > self.bytes_max {
            return Err(Error::invalid(format!(
                "commit is too large: commit earlier, or raise `commit_bytes_max`. partition={partition}, bytes={bytes}, commit_bytes_max={}",
                self.bytes_max
            )));
        }
        self.sequences.insert(place, Numbers { appended: advance(numbers.appended, count), ..numbers });
        self.bytes = bytes;
        self.batches.push((place, closed));
        Ok(())
    }

    /// All batches, in the order in which they were appended, to send them. [`Held::settle_written`],
    /// [`Held::settle_refused`] or [`Held::settle_put_back`] says what came of it.
    pub fn take(&mut self) -> Vec<(Place, RecordBatch)> {
        self.bytes = 0;
        for numbers in self.sequences.values_mut() {
            numbers.sent = numbers.appended;
        }
        std::mem::take(&mut self.batches)
    }

    /// What was taken is now known to be written.
    pub fn settle_written(&mut self) {
        for numbers in self.sequences.values_mut() {
            numbers.written = numbers.sent;
        }
    }

    /// What was taken is now known not to be written, and what was appended since is forgotten with it.
    pub fn settle_refused(&mut self) {
        for numbers in self.sequences.values_mut() {
            numbers.sent = numbers.written;
        }
        self.forget();
    }

    /// What was taken is now known not to be written, and comes back, to be taken once more in front of what was appended
    /// since.
    pub fn settle_put_back(&mut self, mut taken: Vec<(Place, RecordBatch)>) {
        for numbers in self.sequences.values_mut() {
            numbers.sent = numbers.written;
        }
        self.bytes += taken.iter().map(|(_, batch)| batch.bytes().len()).sum::<usize>();
        taken.append(&mut self.batches);
        self.batches = taken;
    }

    /// Forgets everything appended since the last [`Held::take`], and what came back from it.
    pub fn forget(&mut self) {
        self.batches.clear();
        self.bytes = 0;
        for numbers in self.sequences.values_mut() {
            numbers.appended = numbers.sent;
        }
    }
}

/// The batch as it will be kept.
fn close(
    batch: &mut BatchBuilder,
    stamp: ProducerStamp,
    (config, partition): (&TopicConfig, &TopicPartition),
) -> Result<RecordBatch> {
    let compression = config.compression_type.of(batch.compression());
    if config.cleanup_policy.compacts() && batch.has_keyless() {
        return Err(Error::invalid(format!(
            "record has no key, and the topic keeps the last record of each key: give it one, or set `cleanup.policy` to `delete`. partition={partition}"
        )));
    }
    let max = config.max_message_bytes;
    let check = |bytes: usize| {
        if bytes as u64 <= u64::from(max) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "batch is too large: close it earlier, or raise the topic's `max.message.bytes`. partition={partition}, bytes={bytes}, max.message.bytes={max}"
        )))
    };
    // What will not be compressed need not be closed to know its size.
    if compression == Compression::None || batch.size() > DECOMPRESSED_BYTES_MAX {
        check(batch.size())?;
    }
    let closed = batch.finish_compressed(stamp, compression)?;
    check(closed.bytes().len()).map(|()| closed)
}
