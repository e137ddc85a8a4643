//! What a producer holds back until its commit, and the sequence numbers that go with it.

use std::collections::BTreeMap;

use super::{Incarnation, Place, sequences::advance};
use crate::{BatchBuilder, Error, ProducerStamp, RecordBatch, Result, TopicConfig, TopicPartition};

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

    /// Closes `batch` for a topic with settings `config`, and keeps it; it is empty afterwards, whatever comes of it.
    ///
    /// # Errors
    /// `Invalid` when it is larger than the limits; nothing of it is kept.
    pub fn append(
        &mut self,
        (place, partition): (Place, &TopicPartition),
        config: &TopicConfig,
        batch: &mut BatchBuilder,
    ) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let (size, count) = (batch.size(), batch.record_count());
        let (batch_max, commit_max) = (config.max_message_bytes, self.bytes_max);
        if size as u64 > u64::from(batch_max) {
            batch.clear();
            return Err(Error::invalid(format!(
                "batch is too large: close it earlier, or raise the topic's `max.message.bytes`. partition={partition}, bytes={size}, max.message.bytes={batch_max}"
            )));
        }
        if self.bytes + size > commit_max {
            batch.clear();
            return Err(Error::invalid(format!(
                "commit is too large: commit earlier, or raise `commit_bytes_max`. partition={partition}, bytes={}, commit_bytes_max={commit_max}",
                self.bytes + size
            )));
        }
        let numbers = self.sequences.entry(place).or_default();
        let Incarnation { id, epoch } = self.producer;
        let closed = batch.finish(ProducerStamp { id, epoch, sequence: numbers.appended });
        numbers.appended = advance(numbers.appended, count);
        self.bytes += closed.bytes().len();
        self.batches.push((place, closed));
        Ok(())
    }

    /// All batches, in the order in which they were appended, to send them. [`Held::settle_written`] or
    /// [`Held::settle_refused`] says what came of it.
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

    /// Forgets everything appended since the last [`Held::take`].
    pub fn forget(&mut self) {
        self.batches.clear();
        self.bytes = 0;
        for numbers in self.sequences.values_mut() {
            numbers.appended = numbers.sent;
        }
    }
}
