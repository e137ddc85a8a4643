//! Partitions, read from front to back.

use std::ops::Range;

use headwater_core::{Log, Offset, RecordBatch, RecordRef, Result, TopicPartition};

/// Bytes asked for at once.
const READ_BYTES: usize = 1 << 20;

/// Shows every record that there is.
pub(crate) async fn each_record(
    log: &dyn Log,
    partition: &TopicPartition,
    mut visit: impl FnMut(RecordRef<'_>) -> Result<()>,
) -> Result<()> {
    let mut next = log.offsets(partition).await?.earliest;
    each_batch(log, partition, next..Offset(u64::MAX), |batch, _| {
        let mut records = batch.cursor();
        while let Some(record) = records.next().transpose()? {
            if record.offset >= next {
                visit(record)?;
            }
        }
        next = batch.next_offset();
        Ok(true)
    })
    .await
}

/// Shows the batches that have records with these offsets, until `take` wants no more. The first and the last may have others, too.
pub(crate) async fn each_batch(
    log: &dyn Log,
    partition: &TopicPartition,
    offsets: Range<Offset>,
    mut take: impl FnMut(&RecordBatch, &Range<Offset>) -> Result<bool>,
) -> Result<()> {
    // What was deleted since cannot be asked.
    let mut next = offsets.start.max(log.offsets(partition).await?.earliest);
    while next < offsets.end {
        let fetched = log.read(partition, next, READ_BYTES).await?;
        let Some(last) = fetched.batches.last() else { break };
        for batch in &fetched.batches {
            if batch.base_offset() < offsets.end && !take(batch, &offsets)? {
                return Ok(());
            }
        }
        next = last.next_offset();
    }
    Ok(())
}
