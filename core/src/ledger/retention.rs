//! Which records are old enough to be deleted.

use crate::{Offset, Timestamp, TopicConfig};

/// A piece of a partition that is deleted as a whole: a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The offset after its last record.
    pub next: Offset,
    /// Its size.
    pub bytes: u64,
    /// The highest timestamp in it, [`Timestamp::MIN`] when it has no records; `None` when it is not known.
    pub max_timestamp: Option<Timestamp>,
}

impl Piece {
    /// Whether compaction left something in it, as far as is known.
    #[must_use]
    pub fn has_records(&self) -> bool {
        self.max_timestamp != Some(Timestamp::MIN)
    }
}

/// The offset that retention makes the earliest one, when it deletes something: whole pieces from the front, those whose
/// newest record is older than `retention.ms`, and those without which at least `retention.bytes` are left (Kafka:
/// `UnifiedLog.deleteOldSegments`). A piece without records, of which compaction left nothing, says nothing of how old they
/// were, and readers may stand in it: it goes with the next one that has records.
///
/// ```
/// use headwater_core::{Offset, Timestamp, TopicConfig, ledger::{Piece, retention}};
/// let config = TopicConfig { retention_ms: Some(1000), ..TopicConfig::default() };
/// let piece = |next, time| Piece { next: Offset(next), bytes: 100, max_timestamp: Some(Timestamp(time)) };
/// let pieces = [piece(10, 500), piece(20, 1_500), piece(30, 900)];
/// assert_eq!(retention(&pieces, &config, Timestamp(2_000)), Some(Offset(10)));
/// ```
#[must_use]
pub fn retention(pieces: &[Piece], config: &TopicConfig, now: Timestamp) -> Option<Offset> {
    if !config.cleanup_policy.deletes() {
        return None;
    }
    let mut left: u64 = pieces.iter().map(|piece| piece.bytes).sum();
    let mut before = None;
    for piece in pieces {
        left -= piece.bytes;
        if !piece.has_records() {
            continue;
        }
        let age = piece.max_timestamp.map(|newest| now.0.saturating_sub(newest.0));
        let too_old = config.retention_ms.zip(age).is_some_and(|(most, age)| age > signed(most));
        let too_many = config.retention_bytes.is_some_and(|least| left >= least);
        if !(too_old || too_many) {
            break;
        }
        before = Some(piece.next);
    }
    before
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CleanupPolicy;

    fn pieces(times: &[Option<i64>]) -> Vec<Piece> {
        let piece = |(time, next): (&Option<i64>, u64)| Piece {
            next: Offset(next * 10),
            bytes: 100,
            max_timestamp: time.map(Timestamp),
        };
        times.iter().zip(1..).map(piece).collect()
    }

    fn check(times: &[Option<i64>], ms: Option<u64>, bytes: Option<u64>, expected: Option<u64>) {
        let config = TopicConfig { retention_ms: ms, retention_bytes: bytes, ..TopicConfig::default() };
        assert_eq!(retention(&pieces(times), &config, Timestamp(1000)), expected.map(Offset), "{times:?}");
    }

    #[test]
    fn the_oldest_go_first_and_nothing_behind_what_stays() {
        check(&[Some(1), Some(2), Some(999)], Some(100), None, Some(20));
        check(&[Some(999), Some(1), Some(2)], Some(100), None, None);
        check(&[Some(1), Some(2)], Some(100), None, Some(20));
        check(&[Some(900)], Some(100), None, None);
        check(&[Some(899)], Some(100), None, Some(10));
        check(&[], Some(0), Some(0), None);
        check(&[Some(1), Some(2)], None, None, None);
    }

    #[test]
    fn as_many_bytes_as_asked_for_are_left() {
        check(&[None, None, None], None, Some(150), Some(10));
        check(&[None, None, None], None, Some(100), Some(20));
        check(&[None, None, None], None, Some(0), Some(30));
        check(&[None, None, None], None, Some(201), None);
        check(&[None, None, None], None, Some(u64::MAX), None);
    }

    #[test]
    fn what_has_no_time_is_not_too_old_and_clocks_may_jump() {
        check(&[None, Some(1)], Some(0), None, None);
        check(&[Some(i64::MAX), Some(i64::MIN)], Some(0), None, None);
        check(&[Some(i64::MIN)], Some(u64::MAX), None, None);
    }

    /// What compaction left of a piece says nothing of how old its records were.
    #[test]
    fn what_has_no_record_goes_with_the_next_that_has() {
        let hole = Some(i64::MIN);
        check(&[hole, Some(999)], Some(100), None, None);
        check(&[Some(1), hole, hole, Some(999)], Some(100), None, Some(10));
        check(&[hole, hole, Some(1), hole, Some(999)], Some(100), None, Some(30));
        check(&[hole, None, Some(1)], Some(100), None, None);
        check(&[hole], Some(100), Some(0), None);
        // By size too: a reader may stand in it.
        check(&[hole, Some(999), Some(999)], None, Some(200), None);
        check(&[hole, Some(999), Some(999)], None, Some(100), Some(20));
    }

    #[test]
    fn compacted_topics_are_not_deleted_by_age() {
        let config = TopicConfig {
            cleanup_policy: CleanupPolicy::Compact,
            retention_ms: Some(0),
            ..TopicConfig::default()
        };
        assert_eq!(retention(&pieces(&[Some(1)]), &config, Timestamp(1000)), None);
    }
}
