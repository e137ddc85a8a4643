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
    ledger::{Entry, Place, TopicId},
};

use super::{Round, Writer, books::Removal, filing};
use crate::log::{
    checkpoint,
    compaction::{Asked, Job},
    files::Unsynced,
    journal::Position,
    layout::Layout,
    options::{Durability, LogOptions},
    retention,
    room::again,
    shared::Shared,
};

/// Work that waits for the disk, and nobody for it.
#[derive(Debug)]
pub(super) struct DiskWork {
    thread: JoinHandle<Result<()>>,
    /// The thread has nothing more to do.
    done: Arc<AtomicBool>,
}

impl DiskWork {
    fn begin(
        name: &str,
        shared: &Arc<Shared>,
        work: impl FnOnce(&Shared) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let (shared, done) = (Arc::clone(shared), Arc::new(AtomicBool::new(false)));
        let done_there = Arc::clone(&done);
        let work = move || {
            let worked = work(&shared);
            done_there.store(true, Ordering::Release);
            shared.queue.nudge();
            worked
        };
        let thread = thread::Builder::new().name(name.into()).spawn(work);
        let thread = thread.map_err(|e| Error::io(format!("cannot start a thread. name={name}"), e))?;
        Ok(Self { thread, done })
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    fn finish(self) -> Result<()> {
        let worked = self.thread.join();
        worked.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Closed, "a thread that works for the disk panicked"))
        })
    }
}

#[derive(Debug)]
pub(super) struct RunningCheckpoint {
    work: DiskWork,
    /// Where active segments of compacted topics begin.
    active: BTreeMap<Place, Offset>,
    /// Topics of which batches may be filed when it is done.
    pub(super) filable: BTreeMap<TopicId, u32>,
    /// Journal segments before this one are free when it is done.
    position: Position,
    /// Files of records that were too old or too many, which nobody needs when it is done.
    expired: Vec<Removal>,
}

/// Segments are synced when this part of what makes a checkpoint was written to them: the disk is not busy for long with what a
/// checkpoint has left to sync, while commits wait for it.
const SYNC_PARTS: u64 = 16;

/// In mode `os` bytes that commits wrote to segments themselves count so many times less than those of the journal: whoever opens the log
/// looks whether they are there, and has not to write them again.
const FILED_LESS: u64 = 8;

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
        self.write_early()?;
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

    /// Writes to segments what makes a write of its own, and has them synced now and then.
    fn write_early(&mut self) -> Result<()> {
        if self.late {
            // What found no room is tried again when something is to be decided.
            return Ok(());
        }
        let written = self.books.write_long(&self.shared);
        self.forgive_full(written)?;
        let due = self.books.unsynced_bytes >= self.shared.options.checkpoint_bytes / SYNC_PARTS;
        let busy = self.checkpoint.is_some() || self.early_sync.is_some();
        if due && !busy && self.waits_for_disk() {
            self.books.unsynced_bytes = 0;
            if let Some(unsynced) = self.books.files.few_unsynced() {
                let sync = move |shared: &Shared| unsynced.sync(&shared.layout);
                self.early_sync = Some(DiskWork::begin("headwater-sync", &self.shared, sync)?);
            }
        }
        Ok(())
    }

    /// Waits for a sync that was begun early. When it failed, nobody else is told so: the log must stop.
    pub(super) fn finish_early_sync(&mut self) -> Result<()> {
        self.early_sync.take().map_or(Ok(()), DiskWork::finish)
    }

    /// Whether what was written is synced before it is built upon.
    pub(super) fn waits_for_disk(&self) -> bool {
        self.shared.options.durability != Durability::Os
    }

    /// Takes note of what a commit wrote to segments itself.
    pub(super) fn count_filed(&mut self, bytes: usize) {
        self.journaled += bytes as u64 / if self.waits_for_disk() { 1 } else { FILED_LESS };
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
        self.make_durable(&round.filed)?;
        self.publish(round);
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
        // What found no room to be removed does not wait: a new topic may need the name of a deleted one.
        let due = self.books.removals.len();
        self.write_now(&mut entries, round)?;
        if !self.waits_for_disk() {
            // Nobody asked for them to go now: the next checkpoint says that they may.
            self.expired.extend(self.books.removals.drain(due..));
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
        if self.shared.options.durability == Durability::Os {
            // What the journal refers to goes to disk before it does.
            let made = self.finish_checkpoint();
            self.forgive_full(made)?;
            self.books.close_deleted_topics();
            self.books.files.take_unsynced().sync(&self.shared.layout)?;
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
        // What the checkpoint says to be gone need not be on the disk.
        self.books.close(&self.expired);
        let unsynced = self.books.files.take_unsynced();
        self.books.unsynced_bytes = 0;
        let early = self.early_sync.take();
        let write = move |shared: &Shared| {
            // An error that a sync has told of is told to no other.
            early.map_or(Ok(()), DiskWork::finish)?;
            write_checkpoint(&unsynced, &shared.layout, &bytes)
        };
        let work = DiskWork::begin("headwater-checkpoint", &self.shared, write)?;
        let active = self.books.compacted();
        let filable = filing::filable(&self.shared.options, &self.books.ledger);
        let expired = std::mem::take(&mut self.expired);
        self.checkpoint = Some(RunningCheckpoint { work, active, filable, position, expired });
        self.journaled = 0;
        Ok(())
    }

    pub(super) fn finish_checkpoint(&mut self) -> Result<()> {
        let Some(running) = self.checkpoint.take() else { return Ok(()) };
        self.checkpointed = None;
        if let Err(error) = running.work.finish() {
            self.books.reopen(&running.expired);
            self.expired.splice(0..0, running.expired);
            return Err(error);
        }
        self.checkpointed = Some(running.position);
        self.compactor.on_disk = running.active;
        self.filable = running.filable;
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

    /// Ends a checkpoint or a sync that is done. One that failed must stop the log before anything else is acknowledged.
    pub(super) fn reap_disk_work(&mut self) -> Result<()> {
        if self.early_sync.as_ref().is_some_and(DiskWork::is_done) {
            self.finish_early_sync()?;
        }
        if self.checkpoint.as_ref().is_some_and(|running| running.work.is_done()) {
            let made = self.finish_checkpoint();
            self.forgive_full(made)?;
        }
        Ok(())
    }

    /// Waits for a checkpoint that nobody needs any more: whoever owns the folder next must not find it replacing theirs.
    pub(super) fn abandon_checkpoint(&mut self) {
        let synced = self.finish_early_sync();
        let made = self.checkpoint.take().map_or(Ok(()), |running| running.work.finish());
        if let Err(error) = synced.and(made) {
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
