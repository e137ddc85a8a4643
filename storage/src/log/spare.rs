//! Memory of batches, used again: a producer fills as much as goes into a commit before any of it is written, and new memory costs the
//! system a page fault for every four kilobytes.

use std::sync::{Mutex, PoisonError};

use headwater_core::{BatchBuilder, RecordBatch};

/// What is kept of it at most, in all (and no more than of the newest records) and of one batch.
const SPARE_BYTES_MAX: usize = 32 << 20;
const BATCH_BYTES_MAX: usize = 2 << 20;
/// What is so many times as large as a batch is not lent for one: its bytes are counted, and not its memory.
const LENT_MAX: usize = 4;
/// Smaller ones come from memory that the allocator has at hand.
const BATCH_BYTES_MIN: usize = 16 << 10;

/// Memory of batches that nobody reads any more.
#[derive(Debug)]
pub(super) struct Spare {
    bytes_max: usize,
    buffers: Mutex<Buffers>,
}

#[derive(Debug, Default)]
struct Buffers {
    /// The last one was used last, and may be in the processor's cache still.
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Spare {
    /// Keeps so much at most.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max: bytes_max.min(SPARE_BYTES_MAX), buffers: Mutex::default() }
    }

    /// Keeps the memory of a batch, unless somebody else has it, too.
    pub(super) fn keep(&self, batch: RecordBatch) {
        if batch.bytes().len() < BATCH_BYTES_MIN {
            return;
        }
        let Some(buffer) = batch.into_memory() else { return };
        let size = buffer.capacity();
        if size > BATCH_BYTES_MAX {
            return;
        }
        self.with(|spare| {
            if spare.bytes + size <= self.bytes_max {
                spare.bytes += size;
                spare.buffers.push(buffer);
            }
        });
    }

    /// Gives the builder memory for the batch after the one that it is about to close, if that is as large.
    pub(super) fn lend(&self, batch: &mut BatchBuilder) {
        if batch.size() < BATCH_BYTES_MIN {
            return;
        }
        let buffer = self.with(|spare| {
            let buffer = spare.buffers.pop()?;
            spare.bytes -= buffer.capacity();
            Some(buffer)
        });
        // One that is too small would have to grow. Whichever does not fit is given back: what is needed now is of another size.
        let fits = batch.size()..=LENT_MAX * batch.size();
        if let Some(buffer) = buffer.filter(|buffer| fits.contains(&buffer.capacity())) {
            batch.set_memory(buffer);
        }
    }

    /// How many batches' memory is kept.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.with(|spare| spare.buffers.len())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Buffers) -> T) -> T {
        act(&mut self.buffers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use headwater_core::{Headers, ProducerStamp, Timestamp};

    use super::*;

    fn filled(builder: &mut BatchBuilder, size: usize) -> usize {
        builder.push(Timestamp(0), None, Some(&vec![7; size]), &Headers::new());
        builder.size()
    }

    #[test]
    fn memory_is_used_again_once_nobody_has_it() {
        let (spare, mut builder) = (Spare::new(usize::MAX), BatchBuilder::default());
        filled(&mut builder, 64 << 10);
        let batch = builder.finish(ProducerStamp::NONE);
        let place = batch.bytes().as_ptr();
        spare.keep(batch.clone());
        assert_eq!(spare.with(|spare| spare.bytes), 0, "a reader has it");
        spare.keep(batch);
        filled(&mut builder, 40 << 10);
        spare.lend(&mut builder);
        builder.finish(ProducerStamp::NONE);
        filled(&mut builder, 10);
        let batch = builder.finish(ProducerStamp::NONE);
        assert_eq!(batch.bytes().as_ptr(), place);
        assert_eq!(
            batch.cursor().next().unwrap().unwrap().value,
            Some(&[7; 10][..]),
            "nothing is left of before"
        );
        assert_eq!(spare.with(|spare| (spare.bytes, spare.buffers.len())), (0, 0));
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_too_small_is_not_lent() {
        let (spare, mut builder) = (Spare::new(usize::MAX), BatchBuilder::default());
        for size in [10, BATCH_BYTES_MAX + 1] {
            filled(&mut builder, size);
            spare.keep(builder.finish(ProducerStamp::NONE));
        }
        assert_eq!(spare.with(|spare| spare.bytes), 0, "none of these");
        let mut given = 0;
        while given < 3 * SPARE_BYTES_MAX {
            given += filled(&mut builder, 100 << 10);
            spare.keep(builder.finish(ProducerStamp::NONE));
        }
        let (bytes, capacities) =
            spare.with(|spare| (spare.bytes, spare.buffers.iter().map(Vec::capacity).sum::<usize>()));
        assert!(bytes == capacities && (SPARE_BYTES_MAX / 2..=SPARE_BYTES_MAX).contains(&bytes), "{bytes}");
        filled(&mut builder, 1 << 20);
        spare.lend(&mut builder);
        builder.finish(ProducerStamp::NONE);
        assert!(spare.with(|spare| spare.bytes) < bytes);
    }

    #[test]
    fn small_batches_are_not_lent_large_memory() {
        let (spare, mut builder) = (Spare::new(usize::MAX), BatchBuilder::default());
        for _ in 0..4 {
            filled(&mut builder, 2 << 19);
            spare.keep(builder.finish(ProducerStamp::NONE));
        }
        let mut small = BatchBuilder::default();
        let (mut bytes, mut memory) = (0, 0);
        for _ in 0..5 {
            filled(&mut small, 16 << 10);
            spare.lend(&mut small);
            let batch = small.finish(ProducerStamp::NONE);
            bytes += batch.bytes().len();
            memory += batch.into_memory().unwrap().capacity();
        }
        assert!(memory < 5 * bytes, "{bytes} bytes in {memory}");
    }
}
