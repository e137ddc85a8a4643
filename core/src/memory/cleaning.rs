//! Retention of a log in memory: a batch is what a segment is on disk.

use super::log::State;
use crate::{
    Cleaned, Offset, Result, Timestamp, TopicConfig,
    ledger::{Entry, Piece, Place, retention},
};

/// Does what the topics' settings say.
pub(super) fn clean(state: &mut State, now: Timestamp) -> Result<Cleaned> {
    let mut cleaned = Cleaned::default();
    let places: Vec<_> = state.batches.keys().copied().collect();
    for place in places {
        let Some(config) = state.ledger.topic(place.topic).map(|topic| topic.config.clone()) else {
            continue;
        };
        if let Some(before) = expired(state, place, &config, now) {
            let bytes = |state: &State| -> u64 {
                state.batches[&place].iter().map(|batch| batch.bytes().len() as u64).sum()
            };
            let had = bytes(state);
            state.apply(vec![Entry::RecordsDeleted { place, before }])?;
            cleaned.deleted_bytes += had - bytes(state);
        }
    }
    Ok(cleaned)
}

fn expired(state: &State, place: Place, config: &TopicConfig, now: Timestamp) -> Option<Offset> {
    let pieces: Vec<_> = state.batches[&place]
        .iter()
        .map(|batch| Piece {
            next: batch.next_offset(),
            bytes: batch.bytes().len() as u64,
            max_timestamp: (batch.record_count() > 0).then(|| batch.max_timestamp()),
        })
        .collect();
    retention(&pieces, config, now)
}
