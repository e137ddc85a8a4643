//! Brings the state of a task up to the end of its changelogs: what was committed since the engine was last written.

use headwater_core::{
    Error, Log, Offset, RecordCursor, Result, StateBatch, StoreId, TaskState, TopicPartition,
};

use super::task::STATE_BATCH_BYTES;
use crate::state::Store;

const READ_BYTES_MAX: usize = 1 << 20;
/// So much is written in the order of the changelog, and then made durable: the engine is slower with more, where keys come in no order.
const WRITE_BYTES: usize = 4 << 20;

/// What a store was brought up to date with.
pub(crate) struct Restored {
    /// Changelog records that were replayed.
    pub(crate) records: u64,
    /// Of these, those that the engine does not hold yet, because they were taken into memory.
    pub(crate) unwritten: u64,
    /// End of the changelog.
    pub(crate) next: Offset,
}

/// Replays the suffix of `changelog` that the engine lacks. A store that has more than `bytes_max` in memory by that is written, and goes on
/// with empty hands. `told` hears from time to time how many there were so far, and how many offsets are left.
pub(crate) async fn restore(
    log: &dyn Log,
    changelog: &TopicPartition,
    (slot, store, bytes_max): (StoreId, &mut dyn Store, usize),
    state: &mut dyn TaskState,
    told: &mut dyn FnMut(u64, u64),
) -> Result<Restored> {
    let offsets = log.offsets(changelog).await?;
    let mut next = state.position(slot)?.unwrap_or(offsets.earliest).max(offsets.earliest);
    if next > offsets.end {
        return Err(Error::corrupt(format!(
            "local state is ahead of the log that it was made from: was the log replaced? Delete the state folder, it \
             is rebuilt from the log. changelog={changelog}, state={next}, log={}",
            offsets.end
        )));
    }
    let (mut records, mut written, mut batch) = (0, 0, StateBatch::default());
    store.expect(usize::try_from(offsets.end.0 - next.0).unwrap_or(usize::MAX), bytes_max / 2);
    while next < offsets.end {
        let fetched = log.read(changelog, next, READ_BYTES_MAX).await?;
        if fetched.batches.is_empty() {
            return Err(Error::corrupt(format!(
                "a changelog ends before its end. changelog={changelog}, offset={next}"
            )));
        }
        for records_batch in fetched.batches {
            let mut cursor = records_batch.cursor();
            while cursor.advance()? {
                let place = cursor.place();
                if place == 0 && store.restores_into_memory() {
                    look_ahead(store, &cursor);
                }
                let Some(record) = cursor.current() else { break };
                // Kafka, too, skips changelog records without a key.
                if let (true, Some(key)) = (record.offset >= next, record.key) {
                    store.restore(key, record.value, (record.timestamp, place), &mut batch)?;
                    records += 1;
                }
            }
            next = next.max(records_batch.next_offset());
        }
        let is_full = store.bytes() > bytes_max;
        if is_full {
            store.begin_spill();
            while store.spill(&mut batch, STATE_BATCH_BYTES)? {
                state.apply(&batch)?;
                batch.clear();
            }
        }
        if is_full || batch.size() >= WRITE_BYTES || !store.restores_into_memory() && next >= offsets.end {
            batch.position(slot, next);
            state.write(&batch)?;
            batch.clear();
            written = records;
        }
        if is_full {
            store.evict();
        }
        told(records, offsets.end.0.saturating_sub(next.0));
    }
    Ok(Restored { records, unwritten: records - written, next })
}

/// Shows the store the keys of records that were found together with the current one: their rows are fetched together.
fn look_ahead(store: &mut dyn Store, cursor: &RecordCursor) {
    cursor.with_block_keys(|keys| {
        keys.iter_mut().flatten().for_each(|key| *key = store.row_key(key));
        store.look_ahead(0, keys);
    });
}
