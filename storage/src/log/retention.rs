//! Finds records that are too old, or too many.

use headwater_core::{
    Offset, Timestamp, TopicConfig,
    ledger::{self, Ledger, Piece, Place},
};

use super::{shared::Shared, span::FileSpan};

/// What is to be deleted of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expired {
    pub(super) place: Place,
    /// The first offset that is left.
    pub(super) before: Offset,
    pub(super) bytes: u64,
}

/// Whether records are deleted by age or size at all.
pub(super) fn is_limited(config: &TopicConfig) -> bool {
    config.cleanup_policy.deletes() && (config.retention_ms.is_some() || config.retention_bytes.is_some())
}

/// What is to be deleted now. Everything must have been written to segments.
pub(super) fn expired(shared: &Shared, ledger: &Ledger, now: Timestamp) -> Vec<Expired> {
    let limited = ledger.topics().filter(|(_, spec)| is_limited(&spec.config));
    let places = limited.flat_map(|(id, spec)| {
        spec.topic_partitions().map(move |at| (Place { topic: id, partition: at.partition }, &spec.config))
    });
    places.filter_map(|(place, config)| expired_in(shared, place, config, now)).collect()
}

/// Looks at segments only as far as it must: opening each would take long in a log with many.
fn expired_in(shared: &Shared, place: Place, config: &TopicConfig, now: Timestamp) -> Option<Expired> {
    let files = shared.visible().files(place)?;
    let pieces = files.segments.iter().enumerate().map(|(index, segment)| Piece {
        next: files.end_of(index),
        bytes: segment.length,
        max_timestamp: segment.newest,
    });
    let mut pieces: Vec<_> = pieces.collect();
    loop {
        let before = ledger::retention(&pieces, config, now);
        let gone = pieces.partition_point(|piece| before.is_some_and(|before| piece.next <= before));
        let next = gone + pieces.iter().skip(gone).take_while(|piece| !piece.has_records()).count();
        // Those in which compaction left nothing do not go by their size.
        let first = if config.cleanup_policy.compacts() { 0 } else { next };
        let end = next + usize::from(config.retention_ms.is_some());
        let mut looked_at = pieces.iter().enumerate().take(end).skip(first);
        let unknown = looked_at.find(|(_, piece)| piece.max_timestamp.is_none()).map(|(index, _)| index);
        let newest = unknown.and_then(|index| {
            let newest = newest(shared, place, &files, index)?;
            pieces.get_mut(index)?.max_timestamp = Some(newest);
            Some(newest)
        });
        if newest.is_none() {
            let bytes = pieces.iter().take(gone).map(|piece| piece.bytes).sum();
            return before.map(|before| Expired { place, before, bytes });
        }
    }
}

/// The highest timestamp of a segment. Of a damaged one it is not known, and nothing is deleted for its sake.
fn newest(shared: &Shared, place: Place, files: &FileSpan, index: usize) -> Option<Timestamp> {
    let segment = files.segments.get(index)?;
    let newest = shared.reader.newest(files, segment);
    match newest {
        Ok(Some(newest)) => {
            shared.visible_mut().learn(place, segment.base, newest);
            return Some(newest);
        }
        Ok(None) => tracing::warn!(
            folder = %files.folder.display(), base = %segment.base,
            "segment is damaged, and not deleted by age"
        ),
        Err(error) => tracing::warn!(
            folder = %files.folder.display(), base = %segment.base, %error,
            "segment cannot be read, and is not deleted by age"
        ),
    }
    None
}
