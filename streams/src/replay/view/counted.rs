//! How many records of a source partition lie before a position: offsets do not tell, where some are left out.

use std::collections::VecDeque;

use headwater_core::{Offset, RecordBatch, Result};

use crate::replay::cut::count;

/// Counts what was handed out. A source partition is read front to back, and on only when all of it was taken, so that it remembers
/// the batches of one read at most.
#[derive(Debug)]
pub(super) struct Counted {
    /// Records before `batches`.
    records: u64,
    /// Everything before was handed out.
    given: Offset,
    batches: VecDeque<Given>,
    /// A position that was committed, and the records before it: where a task goes on that is opened anew.
    committed: (Offset, u64),
}

/// The part of a batch that was not taken when it was handed out.
#[derive(Debug)]
struct Given {
    from: Offset,
    batch: RecordBatch,
    records: u64,
}

impl Counted {
    /// From a position on, before which there were so many.
    pub(super) fn new(position: Offset, records: u64) -> Self {
        Self { records, given: position, batches: VecDeque::new(), committed: (position, records) }
    }

    /// Hears what is committed. Who asked for that need not be who reads.
    pub(super) fn committed(&mut self, position: Offset, records: u64) {
        self.committed = (position, records);
    }

    /// Hears that the partition is read from `from` on, before which everything was taken.
    pub(super) fn read(&mut self, from: Offset) {
        if from != self.given && from == self.committed.0 {
            *self = Self::new(from, self.committed.1);
        }
        self.taken(from);
    }

    pub(super) fn give(&mut self, batch: &RecordBatch) -> Result<()> {
        let from = self.given.max(batch.base_offset());
        if from < batch.next_offset() {
            let records = count(batch, from, batch.next_offset())?;
            self.given = batch.next_offset();
            self.batches.push_back(Given { from, batch: batch.clone(), records });
        }
        Ok(())
    }

    /// Everything before was taken.
    fn taken(&mut self, position: Offset) {
        while let Some(given) = self.batches.front()
            && given.batch.next_offset() <= position
        {
            self.records += given.records;
            self.batches.pop_front();
        }
    }

    /// How many records lie before a position up to which everything was taken.
    pub(super) fn before(&mut self, position: Offset) -> Result<u64> {
        self.taken(position);
        let within = self.batches.front().map(|given| count(&given.batch, given.from, position));
        Ok(self.records + within.transpose()?.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use headwater_core::{BatchBuilder, Headers, ProducerStamp, Timestamp};

    use super::*;

    fn batch(base: u64, count: u32) -> RecordBatch {
        let mut builder = BatchBuilder::default();
        (0..count).for_each(|_| builder.push(Timestamp(0), None, None, &Headers::new()));
        builder.finish(ProducerStamp::NONE).at_offset(Offset(base))
    }

    #[test]
    fn records_are_counted_from_and_to_the_middle_of_batches_with_gaps() {
        let sparse = batch(10, 10).retain(None, |record| record.offset.0 % 3 == 0).unwrap();
        let mut counted = Counted::new(Offset(4), 100);
        for batch in [batch(0, 10), sparse.clone(), sparse] {
            counted.give(&batch).unwrap();
        }
        let before: Vec<u64> =
            [4, 5, 10, 12, 13, 15, 16, 20, 25].map(|at| counted.before(Offset(at)).unwrap()).to_vec();
        // 12, 15 and 18 are left of the second; the third was the second once more.
        assert_eq!(before, [100, 101, 106, 106, 107, 107, 108, 109, 109]);
        counted.give(&batch(25, 2)).unwrap();
        counted.read(Offset(27));
        assert_eq!((counted.before(Offset(27)).unwrap(), counted.batches.len()), (111, 0));
    }

    #[test]
    fn a_task_that_is_opened_anew_counts_from_there_and_one_that_reads_on_is_not_disturbed() {
        let mut counted = Counted::new(Offset(0), 0);
        counted.read(Offset(0));
        counted.give(&batch(0, 10)).unwrap();
        assert_eq!(counted.before(Offset(10)).unwrap(), 10);
        // Somebody else looks at what is committed, while the first goes on.
        counted.committed(Offset(4), 4);
        counted.read(Offset(10));
        counted.give(&batch(10, 10)).unwrap();
        assert_eq!(counted.before(Offset(20)).unwrap(), 20);
        // That was not committed.
        counted.committed(Offset(10), 10);
        counted.read(Offset(10));
        counted.give(&batch(10, 10)).unwrap();
        assert_eq!(counted.before(Offset(15)).unwrap(), 15);
        counted.committed(Offset(15), 15);
        counted.read(Offset(15));
        counted.give(&batch(10, 10)).unwrap();
        assert_eq!(counted.before(Offset(20)).unwrap(), 20);
    }
}
