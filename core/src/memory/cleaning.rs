//! What a log in memory forgets. Retention and compaction: a batch is what a segment is on disk, and the last one is the active one.

use super::log::State;
use crate::{
    Cleaned, Offset, RecordBatch, Result, Timestamp, TopicConfig,
    ledger::{Compaction, Entry, KeyMap, PRODUCER_EXPIRY, Piece, Place, due, retention},
};

/// What the last record of each key may take while a partition is compacted.
const KEYS_BYTES_MAX: usize = 64 << 20;

/// Does what the topics' settings say.
pub(super) fn clean(state: &mut State, now: Timestamp) -> Result<Cleaned> {
    let mut cleaned = Cleaned::default();
    let places: Vec<_> = state.batches.keys().copied().collect();
    for place in places {
        let Some(config) = state.ledger.topic(place.topic).map(|topic| topic.config.clone()) else {
            continue;
        };
        if let Some(before) = expired(state, place, &config, now) {
            let had = bytes(&state.batches[&place]);
            state.apply(vec![Entry::RecordsDeleted { place, before }])?;
            cleaned.deleted_bytes += had - bytes(&state.batches[&place]);
        }
        compact(state, place, (&config, now), &mut cleaned)?;
    }
    state.producers.retain(|_, producer| producer.strong_count() > 0);
    let is_held = |id| state.producers.contains_key(&id);
    let review = state.ledger.review_producers(now, PRODUCER_EXPIRY, is_held);
    state.apply(review.into_iter().collect())?;
    Ok(cleaned)
}

fn expired(state: &State, place: Place, config: &TopicConfig, now: Timestamp) -> Option<Offset> {
    let pieces: Vec<_> = state.batches[&place].iter().map(piece).collect();
    retention(&pieces, config, now)
}

fn compact(
    state: &mut State,
    place: Place,
    (config, now): (&TopicConfig, Timestamp),
    cleaned: &mut Cleaned,
) -> Result<()> {
    let Some(batches) = state.batches.get_mut(&place) else { return Ok(()) };
    let mut clean = state.clean.get(&place).copied().unwrap_or_default();
    while let Some((_, closed)) = batches.split_last()
        && let Some(front) = closed.first().map(RecordBatch::base_offset)
        && let Some(dirty) = due(&closed.iter().map(piece).collect::<Vec<_>>(), clean, config, now)
    {
        let count = closed.partition_point(|batch| batch.next_offset() <= dirty.end);
        let (closed, _) = closed.split_at(count);
        let mut keys = KeyMap::new(&dirty, KEYS_BYTES_MAX);
        let known = closed.partition_point(|batch| batch.next_offset() <= dirty.start);
        for batch in closed.iter().skip(known) {
            if !keys.add(batch)? {
                break;
            }
        }
        let (mut compaction, mut left) = (Compaction::new(keys, front, config, now), Vec::new());
        for batch in closed {
            compaction.push(batch, usize::MAX, &mut left)?;
        }
        compaction.cover(closed.last().map_or(front, RecordBatch::next_offset), &mut left)?;
        clean = compaction.clean_point();
        cleaned.compacted_bytes += bytes(closed);
        cleaned.kept_bytes += bytes(&left);
        batches.splice(..count, left);
        state.clean.insert(place, clean);
        if clean.offset >= dirty.end {
            break;
        }
    }
    Ok(())
}

fn piece(batch: &RecordBatch) -> Piece {
    Piece {
        next: batch.next_offset(),
        bytes: batch.bytes().len() as u64,
        max_timestamp: Some(if batch.record_count() > 0 { batch.max_timestamp() } else { Timestamp::MIN }),
    }
}

/// What batches take.
pub(super) fn bytes(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.bytes().len() as u64).sum()
}
