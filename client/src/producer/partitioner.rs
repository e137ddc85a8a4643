//! Which partition a record goes to.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    num::NonZeroU32,
};

use headwater_core::{Partition, partition_for_key};

/// What a [`Partitioner`] decides by.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Where it is sent.
    pub topic: &'a str,
    /// The key's bytes; `None` is Kafka's null.
    pub key: Option<&'a [u8]>,
    /// The value's bytes; `None` is Kafka's null.
    pub value: Option<&'a [u8]>,
    /// How many partitions the topic has.
    pub partitions: NonZeroU32,
}

/// Chooses partitions (Kafka: `Partitioner`). Closures are partitioners.
///
/// Called once for each record, so it must be cheap. The default is Kafka's: murmur2 of the key, and for records without a
/// key one partition until a batch is full, then another (KIP-480, KIP-794).
pub trait Partitioner: Send + Sync + 'static {
    /// The partition; `None` leaves it to the default for records without a key. One that the topic does not have is an
    /// error of [`Producer::send`](super::Producer::send).
    fn partition(&self, record: Outgoing<'_>) -> Option<Partition>;
}

impl<F: Fn(Outgoing<'_>) -> Option<Partition> + Send + Sync + 'static> Partitioner for F {
    fn partition(&self, record: Outgoing<'_>) -> Option<Partition> {
        self(record)
    }
}

/// The default: equal keys go where Kafka sends them.
pub(super) fn by_key(key: Option<&[u8]>, partitions: NonZeroU32) -> Option<Partition> {
    key.map(|key| partition_for_key(key, partitions))
}

/// The partition of records without a key: one until it has got a batch's worth of bytes, then another at random, so that
/// batches are full and partitions even (Kafka: `BuiltInPartitioner`).
#[derive(Debug)]
pub(super) struct Sticky {
    current: u32,
    bytes: usize,
    /// State of a xorshift generator: never 0.
    random: u64,
}

impl Sticky {
    pub(super) fn new() -> Self {
        let random = random() | 1;
        #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
        Self { current: random as u32, bytes: 0, random }
    }

    /// Where a record goes that adds `bytes` to a batch of `batch_bytes`.
    pub(super) fn next(&mut self, bytes: usize, batch_bytes: usize, partitions: NonZeroU32) -> Partition {
        if self.bytes > 0 && self.bytes + bytes > batch_bytes {
            self.bytes = 0;
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
            let next = (self.random >> 16) as u32;
            self.current = next;
        }
        self.bytes += bytes;
        Partition(self.current % partitions)
    }
}

/// 64 random bits, from where the hash tables of the standard library take theirs.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn records_without_a_key_stay_together_for_a_batch_and_then_move() {
        let partitions = NonZeroU32::new(8).unwrap();
        let mut sticky = Sticky::new();
        let chosen: Vec<_> = (0..400).map(|_| sticky.next(10, 100, partitions)).collect();
        let runs: Vec<_> = chosen.chunks(10).collect();
        assert!(runs.iter().all(|run| run.iter().all(|partition| *partition == run[0])), "{runs:?}");
        let used: BTreeSet<_> = chosen.iter().collect();
        assert!(used.len() > 4, "{used:?}");
    }

    #[test]
    fn a_record_larger_than_a_batch_goes_somewhere() {
        let mut sticky = Sticky::new();
        let one = NonZeroU32::MIN;
        assert_eq!([sticky.next(500, 100, one), sticky.next(500, 100, one)], [Partition(0); 2]);
    }
}
