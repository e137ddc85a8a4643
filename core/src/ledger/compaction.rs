//! Which records compaction keeps: the last of each key, and tombstones for a while. No I/O.
//!
//! Material for implementations of [`Log`](crate::Log), which compact a partition so: [`due`] says whether and how far,
//! a [`KeyMap`] takes note of the last record of each key, and a [`Compaction`] goes through all batches from the front
//! on and makes of them what is to take their place (Kafka: `Cleaner`). What came out of it comes first, in the order of
//! offsets, before anything behind it is replaced: a tombstone that was seen once has no older values in front of it.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    ops::Range,
};

use super::Piece;
use crate::{Offset, RecordBatch, RecordRef, Result, Timestamp, TopicConfig};

/// How far a partition was compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CleanPoint {
    /// Of the records before it, only the last of each key are left.
    pub offset: Offset,
    /// When the first of the tombstones before it may go; `None` when there are none.
    pub horizon: Option<Timestamp>,
}

/// Which records are to be looked at, when it is time to compact: those from the clean point to the end of the closed
/// `pieces`, or to the first that is too young for `min.compaction.lag.ms`. It is time when more than
/// `min.cleanable.dirty.ratio` of the bytes were written since the last time; with a ratio of 0 also when tombstones may go
/// (Kafka: `LogToClean`).
///
/// ```
/// use headwater_core::{CleanupPolicy, Offset, Timestamp, TopicConfig, ledger::{CleanPoint, Piece, due}};
/// let cleanup_policy = CleanupPolicy::Compact;
/// let config = TopicConfig { cleanup_policy, min_cleanable_dirty_ratio: 0.4, ..TopicConfig::default() };
/// let piece = |next| Piece { next: Offset(next), bytes: 100, max_timestamp: Some(Timestamp(0)) };
/// let clean = CleanPoint { offset: Offset(10), horizon: None };
/// assert_eq!(due(&[piece(10), piece(20)], clean, &config, Timestamp(0)), Some(Offset(10)..Offset(20)));
/// let clean = CleanPoint { offset: Offset(20), horizon: None };
/// assert_eq!(due(&[piece(10), piece(20)], clean, &config, Timestamp(0)), None);
/// ```
#[must_use]
pub fn due(
    pieces: &[Piece],
    clean: CleanPoint,
    config: &TopicConfig,
    now: Timestamp,
) -> Option<Range<Offset>> {
    if !config.cleanup_policy.compacts() {
        return None;
    }
    let lag = i64::try_from(config.min_compaction_lag_ms).unwrap_or(i64::MAX);
    let old = |newest: Timestamp| lag == 0 || now.0.saturating_sub(newest.0) >= lag;
    let may = |piece: &&Piece| piece.next <= clean.offset || piece.max_timestamp.is_none_or(old);
    let (mut all, mut dirty, mut end) = (0, 0, clean.offset);
    for piece in pieces.iter().take_while(may) {
        all += piece.bytes;
        if piece.next > clean.offset {
            dirty += piece.bytes;
            end = piece.next;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let enough = dirty as f64 > config.min_cleanable_dirty_ratio * all as f64;
    let enough = enough || config.min_cleanable_dirty_ratio <= 0.0;
    let something = dirty > 0 || clean.horizon.is_some_and(|horizon| horizon <= now);
    (all > 0 && enough && something).then_some(clean.offset..end)
}

/// What a slot of a [`KeyMap`] takes.
const SLOT_BYTES: usize = size_of::<Slot>();
/// No map has fewer slots.
const SLOTS_MIN: usize = 64;

/// Two hashes of a key, and the offset after its last record, which is 0 in a free slot.
type Slot = [u64; 3];

/// The last record of each key, in a bounded number of bytes.
///
/// Keys are told apart by 128 bits of a hash that is seeded at random for each map, so that not even somebody who may
/// choose them makes two keys pass for one. When it is full, it knows the records before [`KeyMap::reach`], and the others
/// wait for the next time.
pub struct KeyMap {
    seed: RandomState,
    slots: Vec<Slot>,
    used: usize,
    reach: Offset,
}

impl KeyMap {
    /// An empty map for the records of `range`, in about `bytes_max` bytes or less; 1.5 KiB at least.
    #[must_use]
    pub fn new(range: &Range<Offset>, bytes_max: usize) -> Self {
        let records = range.end.0.saturating_sub(range.start.0);
        let needed = usize::try_from(records).unwrap_or(usize::MAX).saturating_mul(3) / 2;
        let slots = needed.min(bytes_max / SLOT_BYTES).max(SLOTS_MIN);
        Self { seed: RandomState::new(), slots: vec![[0; 3]; slots], used: 0, reach: range.start }
    }

    /// Takes note of the records of a batch, which must come in the order of their offsets; `false` when it is full before
    /// the last of them. Records without a key and control batches have no successors.
    ///
    /// # Errors
    /// As [`RecordCursor::advance`](crate::RecordCursor::advance).
    pub fn add(&mut self, batch: &RecordBatch) -> Result<bool> {
        if !batch.is_control() {
            let mut records = batch.cursor();
            while let Some(record) = records.next().transpose()? {
                if record.offset < self.reach {
                    continue;
                }
                if record.key.is_some_and(|key| !self.insert(key, record.offset)) {
                    return Ok(false);
                }
                self.reach = record.offset.next();
            }
        }
        self.reach = self.reach.max(batch.next_offset());
        Ok(true)
    }

    /// All records before this offset are known.
    #[must_use]
    pub fn reach(&self) -> Offset {
        self.reach
    }

    /// The offset of the last known record with this key.
    #[must_use]
    pub fn last(&self, key: &[u8]) -> Option<Offset> {
        let (_, [.., next]) = self.find(key);
        next.checked_sub(1).map(Offset)
    }

    fn insert(&mut self, key: &[u8], offset: Offset) -> bool {
        let (at, [one, other, before]) = self.find(key);
        if before == 0 {
            // Fuller, and looking for keys takes long.
            if self.used >= self.slots.len() / 4 * 3 {
                return false;
            }
            self.used += 1;
        }
        self.slots[at] = [one, other, offset.next().0];
        true
    }

    /// Where a key is or would be, its hashes, and what is known of it. There is always a free slot.
    fn find(&self, key: &[u8]) -> (usize, Slot) {
        let (one, other) = (self.hash(1, key), self.hash(2, key));
        let scaled = (u128::from(one) * self.slots.len() as u128) >> 64;
        let mut at = usize::try_from(scaled).expect("below the number of slots");
        loop {
            match self.slots[at] {
                [.., 0] => return (at, [one, other, 0]),
                slot if slot[..2] == [one, other] => return (at, slot),
                _ => at = if at + 1 == self.slots.len() { 0 } else { at + 1 },
            }
        }
    }

    /// Other bytes in front make it another hash.
    fn hash(&self, number: u8, key: &[u8]) -> u64 {
        let mut hasher = self.seed.build_hasher();
        hasher.write(&[number]);
        hasher.write(key);
        hasher.finish()
    }
}

/// Goes through the batches of a partition and says what is left of them.
pub struct Compaction {
    keys: KeyMap,
    now: Timestamp,
    /// When tombstones may go that are seen for the first time.
    horizon: Timestamp,
    /// What came out covers all offsets before this one.
    next: Offset,
    first_horizon: Option<Timestamp>,
}

impl Compaction {
    /// Begins at `front`, where the first batch begins, at the time `now`.
    #[must_use]
    pub fn new(keys: KeyMap, front: Offset, config: &TopicConfig, now: Timestamp) -> Self {
        let retention = i64::try_from(config.delete_retention_ms).unwrap_or(i64::MAX);
        Self { keys, now, horizon: now.plus_ms(retention), next: front, first_horizon: None }
    }

    /// Where what came out so far ends.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Puts what is left of the next batch into `out`: the batch without the records that have a successor, and without
    /// its tombstones when their time is over. A batch in which nothing is left is a hole, which the next one that is
    /// not, or [`Compaction::cover`], covers by a batch without records: each batch begins where the one before ended.
    /// Says whether a record was taken, or tombstones got the time when they may go. They get none when the batch would be
    /// larger than `bytes_max` with it: they stay as they are, and the next time may have more room.
    ///
    /// Kept as they are: what the map does not reach, control batches, and records without a key.
    ///
    /// # Errors
    /// As [`RecordBatch::retain`].
    pub fn push(
        &mut self,
        batch: &RecordBatch,
        bytes_max: usize,
        out: &mut Vec<RecordBatch>,
    ) -> Result<bool> {
        if batch.base_offset() >= self.keys.reach() || batch.is_control() {
            self.put(batch.clone(), out)?;
            return Ok(false);
        }
        let expired = batch.delete_horizon().is_some_and(|horizon| horizon <= self.now);
        let seen = (batch.next_offset() <= self.keys.reach()).then_some(self.horizon);
        let mut tombstone = false;
        let mut keep = |record: &RecordRef<'_>| {
            let keep = self.keeps(record, expired);
            tombstone |= keep && record.value.is_none() && record.key.is_some();
            keep
        };
        let mut left = batch.retain(seen, &mut keep)?;
        if left.bytes().len() > bytes_max && seen.is_some() {
            left = batch.retain(None, &mut keep)?;
        }
        let changed = left.bytes().as_ptr() != batch.bytes().as_ptr() && batch.record_count() > 0;
        if left.record_count() > 0 {
            if let Some(horizon) = left.delete_horizon().filter(|_| tombstone) {
                self.first_horizon = Some(self.first_horizon.map_or(horizon, |first| first.min(horizon)));
            }
            self.put(left, out)?;
        }
        Ok(changed)
    }

    fn keeps(&self, record: &RecordRef<'_>, expired: bool) -> bool {
        let Some(key) = record.key else { return true };
        self.keys.last(key).is_none_or(|last| last <= record.offset) && !(expired && record.value.is_none())
    }

    fn put(&mut self, batch: RecordBatch, out: &mut Vec<RecordBatch>) -> Result<()> {
        self.cover(batch.base_offset(), out)?;
        self.next = batch.next_offset();
        out.push(batch);
        Ok(())
    }

    /// Covers the hole that ends before `until`, if there is one.
    ///
    /// # Errors
    /// `Invalid` when `until` is more than an `i64` holds.
    pub fn cover(&mut self, until: Offset, out: &mut Vec<RecordBatch>) -> Result<()> {
        while self.next < until {
            let empty = RecordBatch::empty(self.next, until)?;
            self.next = empty.next_offset();
            out.push(empty);
        }
        Ok(())
    }

    /// How far the partition is compacted when everything that the map reaches went through.
    #[must_use]
    pub fn clean_point(&self) -> CleanPoint {
        CleanPoint { offset: self.keys.reach(), horizon: self.first_horizon }
    }
}

#[cfg(test)]
mod tests;
