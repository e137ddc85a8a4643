//! Brings the state of a task up to the end of its changelogs: what was committed since the engine was last written.

use headwater_core::{Error, Log, Offset, Result, StateBatch, StoreId, TaskState, TopicPartition};

use crate::state::Store;

const READ_BYTES_MAX: usize = 1 << 20;
/// Bytes written to the engine at once.
const WRITE_BYTES: usize = 4 << 20;

/// Replays the suffix of `changelog` that the engine lacks. Returns how many records that were, and where it ends. `told`
/// hears from time to time how many there were so far, and how many offsets are left.
pub(crate) async fn restore(
    log: &dyn Log,
    changelog: &TopicPartition,
    (slot, store): (StoreId, &dyn Store),
    state: &mut dyn TaskState,
    told: &mut dyn FnMut(u64, u64),
) -> Result<(u64, Offset)> {
    let offsets = log.offsets(changelog).await?;
    let mut next = state.position(slot)?.unwrap_or(offsets.earliest).max(offsets.earliest);
    if next > offsets.end {
        return Err(Error::corrupt(format!(
            "local state is ahead of the log that it was made from: was the log replaced? Delete the state folder, it \
             is rebuilt from the log. changelog={changelog}, state={next}, log={}",
            offsets.end
        )));
    }
    let (mut records, mut batch) = (0, StateBatch::default());
    while next < offsets.end {
        let fetched = log.read(changelog, next, READ_BYTES_MAX).await?;
        if fetched.batches.is_empty() {
            return Err(Error::corrupt(format!(
                "a changelog ends before its end. changelog={changelog}, offset={next}"
            )));
        }
        for records_batch in fetched.batches {
            let mut cursor = records_batch.cursor();
            while let Some(record) = cursor.next().transpose()? {
                // Kafka, too, skips changelog records without a key.
                if let (true, Some(key)) = (record.offset >= next, record.key) {
                    store.restore(key, record.value, record.timestamp, &mut batch)?;
                    records += 1;
                }
            }
            next = next.max(records_batch.next_offset());
        }
        if batch.size() >= WRITE_BYTES || next >= offsets.end {
            batch.position(slot, next);
            state.write(&batch)?;
            batch.clear();
        }
        told(records, offsets.end.0.saturating_sub(next.0));
    }
    Ok((records, next))
}
