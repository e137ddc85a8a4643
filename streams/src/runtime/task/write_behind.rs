//! How the engine follows the log: what was committed is written to it later, in bulk.
//!
//! A write has many parts, and others have their turn between them, unless memory is short or the task is closed. The position
//! comes with the last part, as it was when the write began. A part without its position does no harm: what the changelog holds
//! since the old position is put again, in the same order, to the same end.

use std::collections::VecDeque;

use headwater_core::{Offset, Result, StateBatch, Timestamp};

use super::Task;

/// The engine is written at least so often while there is something that it lacks. A row that was deleted is known to be
/// deleted only as long as the changelog keeps its tombstone, a day; long before that, the engine must know.
const INTERVAL_MS: i64 = 10 * 60_000;
/// And when the changelogs hold so many records that the engine lacks, all of which a restart would have to replay.
const LACKING_RECORDS_MAX: u64 = 10_000_000;
/// Bytes written between two turns.
const PART_BYTES: usize = 4 << 20;
/// Bytes handed to the engine at once, which are in memory twice more until it has them: here, and as the engine's own batch.
pub(crate) const STATE_BATCH_BYTES: usize = 64 << 10;

/// How far the engine is behind.
pub(super) struct Behind {
    /// When the last write began, and how many changelog records came since.
    began_at: Timestamp,
    lacking: u64,
    /// Changelogs of which the engine does not have all yet that is to be written, by their place, and where they were when that began.
    writing: VecDeque<(usize, Offset)>,
}

impl Behind {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { began_at: now, lacking: 0, writing: VecDeque::new() }
    }

    /// Hears of changelog records that were committed.
    pub(super) fn add(&mut self, records: u64) {
        self.lacking += records;
    }

    /// Hears of changelog records that were restored and that the engine lacks. They are written without delay: how old they are,
    /// nobody knows.
    pub(super) fn add_restored(&mut self, records: u64) {
        self.lacking += records;
        if records > 0 {
            self.began_at = Timestamp::MIN;
        }
    }

    /// Whether the write that is under way takes so long that the next one is due.
    fn is_late(&self, now: Timestamp) -> bool {
        !self.writing.is_empty() && self.began_at.plus_ms(INTERVAL_MS) <= now
    }

    /// When the wall clock says that there is something to write.
    fn due(&self) -> Option<Timestamp> {
        if self.writing.is_empty() {
            (self.lacking > 0).then(|| self.began_at.plus_ms(INTERVAL_MS))
        } else {
            Some(Timestamp::MIN)
        }
    }
}

impl Task {
    /// Writes what is to be written by now, or a part of it; called when all is committed that was taken.
    pub(super) fn write_behind(&mut self) -> Result<()> {
        let (max, is_full) = (self.store_bytes_max, self.behind.lacking >= LACKING_RECORDS_MAX);
        if self.context.stores().any(|store| store.bytes() > max) {
            return self.spill(true);
        }
        if is_full && !self.behind.writing.is_empty() || self.behind.is_late(self.now) {
            // It comes faster than it is written, or there are too few turns to write it.
            return self.spill(false);
        }
        if !is_full && self.next_spill().is_none_or(|due| due > self.now) {
            return Ok(());
        }
        if self.behind.writing.is_empty() {
            self.begin_spill();
        }
        self.write_part(PART_BYTES)
    }

    /// Writes all committed changes to the state engine, with the changelog positions they lead to.
    pub(crate) fn spill(&mut self, evict: bool) -> Result<()> {
        self.begin_spill();
        self.write_part(usize::MAX)?;
        if evict {
            self.context.stores().for_each(|store| store.evict());
        }
        Ok(())
    }

    /// When the wall clock says that the engine must be written, if it lacks anything; `None` also while a commit must come first,
    /// which may have to wait for calls.
    pub(crate) fn next_spill(&self) -> Option<Timestamp> {
        self.behind.due().filter(|_| !self.is_dirty())
    }

    fn begin_spill(&mut self) {
        self.context.stores().for_each(|store| store.begin_spill());
        let all = self.changelogs.iter().enumerate().map(|(at, changelog)| (at, changelog.next));
        self.behind = Behind { began_at: self.now, lacking: 0, writing: all.collect() };
    }

    /// Writes so many bytes, or what is left.
    fn write_part(&mut self, bytes_max: usize) -> Result<()> {
        let mut batch = StateBatch::with_capacity(STATE_BATCH_BYTES);
        let mut written = 0;
        while written < bytes_max && !self.behind.writing.is_empty() {
            self.gather(&mut batch)?;
            written += batch.size();
            // A part ends with a write: what is left unflushed between turns would have others flushed when they need not be.
            if written >= bytes_max || self.behind.writing.is_empty() {
                self.context.state.write(&batch)?;
            } else {
                self.context.state.apply(&batch)?;
            }
            batch.clear();
        }
        Ok(())
    }

    /// Adds rows that are to be written, and positions where a store has no more of them.
    fn gather(&mut self, batch: &mut StateBatch) -> Result<()> {
        while batch.size() < STATE_BATCH_BYTES
            && let Some((at, next)) = self.behind.writing.front()
        {
            let changelog = &self.changelogs[*at];
            let store =
                self.context.stores[changelog.store].as_mut().expect("a store with a changelog is open");
            if !store.spill(batch, STATE_BATCH_BYTES)? {
                batch.position(changelog.slot, *next);
                self.behind.writing.pop_front();
            }
        }
        Ok(())
    }
}
