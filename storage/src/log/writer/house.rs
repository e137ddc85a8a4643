//! What the journal thread does now and then: bound memory and journal, make checkpoints, delete what is too old, and
//! remove files that nobody needs.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use headwater_core::{
    Cleaned, Error, ErrorKind, Offset, Result, TopicPartition,
    ledger::{Entry, Place},
};

use super::{Round, Writer, books::Removal};
use crate::log::{
    checkpoint,
    compaction::{Asked, Job},
    files::Unsynced,
    journal::Position,
    layout::Layout,
    options::{Durability, LogOptions},
    retention,
    room::again,
};

#[derive(Debug)]
pub(super) struct RunningCheckpoint {
    thread: JoinHandle<Result<()>>,
    /// The thread has nothing more to do.
    done: Arc<AtomicBool>,
    /// Where active segments of compacted topics begin.
    active: BTreeMap<Place, Offset>,
    /// Journal segments before this one are free when it is done.
    position: Position,
    /// Files of records that were too old or too many, which nobody needs when it is done.
    expired: Vec<Removal>,
}

/// In mode `os` the journal thread waits for a checkpoint when this many times `checkpoint_bytes` have come in meanwhile: a
/// checkpoint waits for the disk, which nobody else does.
const LATE_MAX: u64 = 4;

impl Writer {
    /// Bounds memory, journal and disk. When something was refused for want of room, a checkpoint may free some.
    pub(super) fn keep_house(&mut self, round: &mut Round) -> Result<()> {
        self.sweeper.go_on(&self.shared.layout);
        let cleaning = std::mem::take(&mut round.cleaning);
        if !cleaning.is_empty() || self.clean_due.is_some_and(|due| due <= Instant::now()) {
            match self.clean(round) {
                Ok(cleaned) => self.compact(cleaning.into_iter().map(|to| (to, cleaned)).collect())?,
                Err(error) => {
                    // Whoever asked may be gone.
                    cleaning.into_iter().for_each(|to| drop(to.send(Err(again(&error)))));
                    self.forgive_full(Err(error))?;
                }
            }
        } else if self.compactor.is_awaited() {
            self.compact(Vec::new())?;
        }
        self.bound_tail()?;
        let bytes = self.shared.options.checkpoint_bytes;
        let late = if self.waits_for_disk() { bytes } else { bytes.saturating_mul(LATE_MAX) };
        if self.journaled >= late && self.checkpoint.is_some() {
            let made = self.finish_checkpoint();
            self.forgive_full(made)?;
        }
        if round.refused {
            let made = self.checkpoint_now();
            self.forgive_full(made)
        } else if self.checkpoint.is_none() && (self.journaled >= bytes || self.expired_wait()) {
            let begun = self.begin_checkpoint();
            self.forgive_full(begun)
        } else {
            Ok(())
        }
    }

    /// Whether what was written is synced before it is built upon.
    pub(super) fn waits_for_disk(&self) -> bool {
        self.shared.options.durability != Durability::Os
    }

    /// Whether files wait for a checkpoint to be removed. One that found no room is tried again when somebody is refused.
    fn expired_wait(&self) -> bool {
        !self.late && !self.expired.is_empty()
    }

    /// Compacts in the background what is on disk; for those who ask, that is everything.
    fn compact(&mut self, asked: Vec<Asked>) -> Result<()> {
        self.compactor.waiting.extend(asked);
        if self.compactor.is_running() {
            return Ok(());
        }
        let asked = std::mem::take(&mut self.compactor.waiting);
        let compacts = self.books.ledger.topics().any(|(_, spec)| spec.config.cleanup_policy.compacts());
        if !asked.is_empty()
            && compacts
            && let Err(error) = self.checkpoint_now()
        {
            // Whoever asked may be gone.
            asked.into_iter().for_each(|(to, _)| drop(to.send(Err(again(&error)))));
            return self.forgive_full(Err(error));
        }
        let jobs = self.compactor.on_disk.iter().filter_map(|(place, active)| {
            let topic = self.books.ledger.topic(place.topic)?;
            let partition = TopicPartition::new(topic.name.clone(), place.partition);
            Some(Job { place: *place, partition, config: topic.config.clone(), active: *active })
        });
        let jobs: Vec<_> = jobs.collect();
        if jobs.is_empty() {
            asked.into_iter().for_each(|(to, cleaned)| drop(to.send(Ok(cleaned))));
        } else {
            self.compactor.begin(&self.shared, jobs, asked);
        }
        Ok(())
    }

    /// Deletes what is too old, or too much, and forgets who is not there any more.
    fn clean(&mut self, round: &mut Round) -> Result<Cleaned> {
        self.clean_due = clean_due(&self.shared.options);
        let cleaned = self.delete_expired(round)?;
        let reviewed = self.review_producers(round);
        self.forgive_full(reviewed)?;
        Ok(cleaned)
    }

    /// Forgets the producers that were idle for long and that nobody holds. The entry says which: who held one is not in the
    /// journal.
    fn review_producers(&mut self, round: &mut Round) -> Result<()> {
        self.producers.retain(|_, producer| producer.strong_count() > 0);
        let options = &self.shared.options;
        let (now, is_held) = (options.clock.now(), |id| self.producers.contains_key(&id));
        let review = self.books.ledger.review_producers(now, options.producer_expiry, is_held);
        review.map_or(Ok(()), |entry| self.write_now(&mut vec![entry], round))
    }

    /// Writes entries of our own, which nobody has asked for, and shows them.
    fn write_now(&mut self, entries: &mut Vec<Entry>, round: &mut Round) -> Result<()> {
        self.enter(entries, round)?;
        self.make_durable()?;
        self.publish(std::mem::take(&mut round.entries));
        Ok(())
    }

    fn delete_expired(&mut self, round: &mut Round) -> Result<Cleaned> {
        let mut cleaned = Cleaned::default();
        if !self.books.ledger.topics().any(|(_, spec)| retention::is_limited(&spec.config)) {
            return Ok(cleaned);
        }
        // What is in no file yet may be too old too. On a full disk it is not looked at.
        let written = self.books.write_out(&self.shared);
        self.forgive_full(written)?;
        let mut entries = Vec::new();
        let now = self.shared.options.clock.now();
        for expired in retention::expired(&self.shared, &self.books.ledger, now) {
            cleaned.deleted_bytes += expired.bytes;
            entries.push(Entry::RecordsDeleted { place: expired.place, before: expired.before });
        }
        self.write_now(&mut entries, round)?;
        if !self.waits_for_disk() {
            // Nobody asked for them to go now: the next checkpoint says that they may.
            self.expired.append(&mut self.books.removals);
        }
        self.remove_files().map(|()| cleaned)
    }

    /// Removes the files that are of no use since the last entries. Whatever the mode, the disk has the entries first, or a
    /// checkpoint that knows of them: after a power cut, files that are missing must be missing for a reason.
    pub(super) fn remove_files(&mut self) -> Result<()> {
        let removed = self.try_remove_files();
        self.forgive_full(removed)
    }

    /// # Errors
    /// `Full`: some are left, and removed later.
    pub(super) fn try_remove_files(&mut self) -> Result<()> {
        if self.books.removals.is_empty() {
            return Ok(());
        }
        self.journal.sync()?;
        let expired = std::mem::take(&mut self.expired);
        self.books.removals.splice(0..0, expired);
        if self.books.removals.iter().any(|removal| matches!(removal, Removal::Topic(..))) {
            // It may have to sync a folder that goes.
            let made = self.finish_checkpoint();
            self.forgive_full(made)?;
        }
        let removed = self.books.remove_files(&self.shared);
        self.close_unlinked();
        self.sweep();
        removed
    }

    fn close_unlinked(&mut self) {
        let unlinked = std::mem::take(&mut self.books.unlinked);
        // Whoever waits for room waits for this.
        if !self.late {
            self.sweeper.close(unlinked);
        }
    }

    /// Removes what is left of deleted topics.
    pub(in crate::log) fn sweep(&mut self) {
        if std::mem::take(&mut self.books.to_sweep) {
            self.sweeper.begin(&self.shared.layout);
        }
    }

    /// Makes a checkpoint, unless the last one still says it all, and waits for it.
    pub(in crate::log) fn checkpoint_now(&mut self) -> Result<()> {
        let running = self.finish_checkpoint();
        self.forgive_full(running)?;
        if self.checkpointed == Some(self.journal.position()) {
            return Ok(());
        }
        self.begin_checkpoint()?;
        self.finish_checkpoint()
    }

    /// Writes all segments, and leaves the syncs to a thread of their own: commits go on meanwhile. What comes behind it needs
    /// the journal; what is before it does not.
    fn begin_checkpoint(&mut self) -> Result<()> {
        self.books.write_out(&self.shared)?;
        if self.waits_for_disk() {
            self.journal.sync()?;
        }
        let position = self.journal.position();
        let marks = self
            .books
            .partitions
            .iter()
            .filter_map(|(place, partition)| partition.mark(*place, self.books.ledger.offsets(*place)?));
        let bytes = checkpoint::encode(position, &self.books.ledger, &marks.collect::<Vec<_>>());
        let unsynced = self.books.files.take_unsynced();
        let (shared, done) = (Arc::clone(&self.shared), Arc::new(AtomicBool::new(false)));
        let done_there = Arc::clone(&done);
        let write = move || {
            let written = write_checkpoint(&unsynced, &shared.layout, &bytes);
            done_there.store(true, Ordering::Release);
            shared.queue.nudge();
            written
        };
        let thread = thread::Builder::new().name("headwater-checkpoint".into()).spawn(write);
        let thread = thread.map_err(|e| Error::io("cannot start the checkpoint thread", e))?;
        let active = self.books.compacted();
        let expired = std::mem::take(&mut self.expired);
        self.checkpoint = Some(RunningCheckpoint { thread, done, active, position, expired });
        self.journaled = 0;
        Ok(())
    }

    pub(super) fn finish_checkpoint(&mut self) -> Result<()> {
        let Some(running) = self.checkpoint.take() else { return Ok(()) };
        self.checkpointed = None;
        let written = running.thread.join();
        let written =
            written.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "checkpoint thread panicked")));
        if let Err(error) = written {
            self.expired.splice(0..0, running.expired);
            return Err(error);
        }
        self.checkpointed = Some(running.position);
        self.compactor.on_disk = running.active;
        self.catch_up();
        self.journal.recycle_before(running.position.segment)?;
        self.remove_expired(running.expired)
    }

    fn remove_expired(&mut self, expired: Vec<Removal>) -> Result<()> {
        if expired.is_empty() {
            return Ok(());
        }
        let others = std::mem::replace(&mut self.books.removals, expired);
        let removed = self.books.remove_files(&self.shared);
        self.books.removals.extend(others);
        self.close_unlinked();
        removed
    }

    /// Ends a checkpoint that is done. One that failed must stop the log before anything else is acknowledged.
    pub(super) fn reap_checkpoint(&mut self) -> Result<()> {
        if self.checkpoint.as_ref().is_some_and(|running| running.done.load(Ordering::Acquire)) {
            let made = self.finish_checkpoint();
            self.forgive_full(made)?;
        }
        Ok(())
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

/// When old records are looked for next; `None` for never.
pub(super) fn clean_due(options: &LogOptions) -> Option<Instant> {
    // There must be room for other work.
    Instant::now().checked_add(options.retention_check.max(Duration::from_millis(1)))
}

/// The order that matters: what the checkpoint speaks of is on disk before it.
fn write_checkpoint(unsynced: &Unsynced, layout: &Layout, bytes: &[u8]) -> Result<()> {
    unsynced.sync(layout)?;
    checkpoint::write(layout, bytes)
}
