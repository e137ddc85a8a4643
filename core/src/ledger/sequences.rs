//! What a log remembers of a producer in a partition, to drop what is sent twice and to refuse gaps (Kafka:
//! `ProducerStateEntry`, `ProducerAppendInfo`).

use crate::{Error, ErrorKind, Offset, ProducerStamp, Result};

/// How many batches a duplicate may lie back (Kafka: `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
pub const REMEMBERED_BATCHES: usize = 5;

/// A batch that was written: its sequence numbers and where it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenBatch {
    /// Sequence number of its first record.
    pub first: i32,
    /// Sequence number of its last record.
    pub last: i32,
    /// Offset of its first record.
    pub base: Offset,
}

/// What is to be done with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one: write it.
    New,
    /// It was written before, at this offset: write nothing, answer as the first time.
    Duplicate(Offset),
}

/// The last batches of one producer in one partition.
///
/// ```
/// use headwater_core::{Offset, ProducerStamp, ledger::{Sequences, Verdict}};
/// let mut sequences = Sequences::default();
/// let stamp = ProducerStamp { id: 1, epoch: 0, sequence: 0 };
/// assert_eq!(sequences.check(stamp, 10).unwrap(), Verdict::New);
/// sequences.record(stamp, 10, Offset(100));
/// assert_eq!(sequences.check(stamp, 10).unwrap(), Verdict::Duplicate(Offset(100)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sequences {
    /// `None` until the first batch: then any sequence number may come, as in Kafka.
    epoch: Option<i16>,
    /// Oldest first, at most [`REMEMBERED_BATCHES`].
    seen: Vec<SeenBatch>,
}

impl Sequences {
    /// What was remembered before, as [`Sequences::epoch`] and [`Sequences::seen`] gave it.
    ///
    /// # Errors
    /// `Corrupt` when it is more than is ever remembered.
    pub fn restore(epoch: Option<i16>, seen: Vec<SeenBatch>) -> Result<Self> {
        if seen.len() > REMEMBERED_BATCHES || (epoch.is_none() && !seen.is_empty()) {
            return Err(Error::corrupt(format!("producer state that cannot be. batches={}", seen.len())));
        }
        Ok(Self { epoch, seen })
    }

    /// The epoch of the last batch.
    #[must_use]
    pub fn epoch(&self) -> Option<i16> {
        self.epoch
    }

    /// The last batches, oldest first.
    #[must_use]
    pub fn seen(&self) -> &[SeenBatch] {
        &self.seen
    }

    /// What is to be done with a batch of `count` records stamped `stamp`.
    ///
    /// # Errors
    /// `Fenced` when a newer epoch has written, `Invalid` when a batch before this one is missing.
    pub fn check(&self, stamp: ProducerStamp, count: u32) -> Result<Verdict> {
        if stamp.sequence < 0 || count == 0 {
            return Err(Error::invalid(format!(
                "not a sequence of records. stamp={stamp:?}, records={count}"
            )));
        }
        let Some(epoch) = self.epoch else { return Ok(Verdict::New) };
        if stamp.epoch < epoch {
            return Err(Error::new(
                ErrorKind::Fenced,
                format!(
                    "a newer producer has taken over. producer_id={}, epoch={}, current={epoch}",
                    stamp.id, stamp.epoch
                ),
            ));
        }
        if stamp.epoch > epoch {
            return if stamp.sequence == 0 { Ok(Verdict::New) } else { Err(out_of_order(stamp, 0)) };
        }
        let last = advance(stamp.sequence, count - 1);
        let same = |batch: &&SeenBatch| batch.first == stamp.sequence && batch.last == last;
        if let Some(batch) = self.seen.iter().find(same) {
            return Ok(Verdict::Duplicate(batch.base));
        }
        match self.seen.last().map(|batch| advance(batch.last, 1)) {
            Some(expected) if expected != stamp.sequence => Err(out_of_order(stamp, expected)),
            _ => Ok(Verdict::New),
        }
    }

    /// Remembers a batch that was written at `base`.
    ///
    /// # Panics
    /// When `count` is 0: an empty batch is never written.
    pub fn record(&mut self, stamp: ProducerStamp, count: u32, base: Offset) {
        assert!(count > 0, "an empty batch is never written");
        if self.epoch != Some(stamp.epoch) {
            self.epoch = Some(stamp.epoch);
            self.seen.clear();
        } else if self.seen.len() == REMEMBERED_BATCHES {
            self.seen.remove(0);
        }
        self.seen.push(SeenBatch { first: stamp.sequence, last: advance(stamp.sequence, count - 1), base });
    }
}

/// The sequence number `count` records after `sequence`: `i32::MAX` is followed by 0.
#[must_use]
pub fn advance(sequence: i32, count: u32) -> i32 {
    (sequence.cast_unsigned().wrapping_add(count) & i32::MAX.cast_unsigned()).cast_signed()
}

pub(super) fn out_of_order(stamp: ProducerStamp, expected: i32) -> Error {
    Error::invalid(format!(
        "out of order sequence number: a batch before this one is missing. producer_id={}, epoch={}, sequence={}, expected={expected}",
        stamp.id, stamp.epoch, stamp.sequence
    ))
}
