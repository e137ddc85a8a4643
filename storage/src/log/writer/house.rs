//! What the journal thread does now and then: bound memory and journal, make checkpoints, delete what is too old, and
//! remove files that nobody needs.

use std::{
    thread::{self, JoinHandle},
    time::Instant,
};

use headwater_core::{Cleaned, Error, Result, ledger::Entry};

use super::{Round, Writer};
use crate::log::{checkpoint, files::Unsynced, journal::Position, layout::Layout, queue::Answer, retention};

#[derive(Debug)]
pub(super) struct RunningCheckpoint {
    thread: JoinHandle<Result<()>>,
    /// Journal segments before this one are free when it is done.
    position: Position,
}

impl Writer {
    /// Bounds memory, journal and disk.
    pub(super) fn keep_house(&mut self, round: &mut Round) -> Result<()> {
        self.remove_files()?;
        let cleaning = std::mem::take(&mut round.cleaning);
        if !cleaning.is_empty() || self.clean_due.is_some_and(|due| due <= Instant::now()) {
            let cleaned = self.clean()?;
            round.answers.extend(cleaning.into_iter().map(|to| Answer::Cleaned(to, cleaned)));
        }
        self.books.bound_tail(&self.shared)?;
        let limit = self.shared.options.checkpoint_bytes;
        if self
            .checkpoint
            .as_ref()
            .is_some_and(|running| running.thread.is_finished() || self.journaled >= limit)
        {
            self.finish_checkpoint()?;
        }
        if round.checkpoint {
            self.checkpoint_now()
        } else if self.journaled >= limit && self.checkpoint.is_none() {
            self.begin_checkpoint()
        } else {
            Ok(())
        }
    }

    /// Does what the topics' settings say of old records.
    fn clean(&mut self) -> Result<Cleaned> {
        self.clean_due = Instant::now().checked_add(self.shared.options.retention_check);
        let mut cleaned = Cleaned::default();
        if !self.books.ledger.topics().any(|(_, spec)| retention::is_limited(&spec.config)) {
            return Ok(cleaned);
        }
        // What is in no file yet may be too old too.
        self.books.write_out(&self.shared)?;
        let mut entries = Vec::new();
        let now = self.shared.options.clock.now();
        for expired in retention::expired(&self.shared, &self.books.ledger, now) {
            cleaned.deleted_bytes += expired.bytes;
            entries.push(Entry::RecordsDeleted { place: expired.place, before: expired.before });
        }
        for entry in &entries {
            self.books.ledger.apply(entry)?;
        }
        self.make_durable(&entries)?;
        self.publish(entries);
        self.remove_files().map(|()| cleaned)
    }

    /// Removes the files that are of no use since the last entries. Whatever the mode, the disk has the entries first:
    /// after a power cut, files that are missing must be missing for a reason.
    fn remove_files(&mut self) -> Result<()> {
        if self.books.removals.is_empty() {
            return Ok(());
        }
        self.journal.sync()?;
        // It may have to sync a folder that goes.
        self.finish_checkpoint()?;
        self.books.remove_files(&self.shared)
    }

    /// Makes a checkpoint, unless the last one still says it all, and waits for it.
    pub(in crate::log) fn checkpoint_now(&mut self) -> Result<()> {
        self.finish_checkpoint()?;
        if self.checkpointed == Some(self.journal.position()) {
            return Ok(());
        }
        self.begin_checkpoint()?;
        self.finish_checkpoint()
    }

    /// Writes all segments, and leaves the syncs to a thread of their own: commits go on meanwhile.
    fn begin_checkpoint(&mut self) -> Result<()> {
        self.books.write_out(&self.shared)?;
        self.journal.sync()?;
        let position = self.journal.position();
        let marks = self
            .books
            .partitions
            .iter()
            .filter_map(|(place, partition)| partition.mark(*place, self.books.ledger.offsets(*place)?));
        let bytes = checkpoint::encode(position, &self.books.ledger, &marks.collect::<Vec<_>>());
        let unsynced = self.books.files.take_unsynced();
        let layout = self.shared.layout.clone();
        let write = move || write_checkpoint(&unsynced, &layout, &bytes);
        let thread = thread::Builder::new().name("headwater-checkpoint".into()).spawn(write);
        let thread = thread.map_err(|e| Error::io("cannot start the checkpoint thread", e))?;
        self.checkpoint = Some(RunningCheckpoint { thread, position });
        self.journaled = 0;
        Ok(())
    }

    pub(super) fn finish_checkpoint(&mut self) -> Result<()> {
        let Some(running) = self.checkpoint.take() else { return Ok(()) };
        let written = running.thread.join();
        written.unwrap_or_else(|_| {
            Err(Error::new(headwater_core::ErrorKind::Closed, "checkpoint thread panicked"))
        })?;
        self.checkpointed = Some(running.position);
        self.journal.recycle_before(running.position.segment)
    }

    /// Waits for a checkpoint that nobody needs any more: whoever owns the folder next must not find it replacing theirs.
    pub(super) fn abandon_checkpoint(&mut self) {
        let Some(running) = self.checkpoint.take() else { return };
        if let Ok(Err(error)) = running.thread.join() {
            let folder = self.shared.layout.folder.display();
            tracing::error!(%folder, error = error.report(), "the last checkpoint was not finished");
        }
    }
}

/// The order that matters: what the checkpoint speaks of is on disk before it.
fn write_checkpoint(unsynced: &Unsynced, layout: &Layout, bytes: &[u8]) -> Result<()> {
    unsynced.sync(layout)?;
    layout.replace(&layout.checkpoint(), bytes)
}
