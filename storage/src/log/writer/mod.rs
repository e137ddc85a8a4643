//! The journal thread: the only one that changes a log.
//!
//! A round: take all requests that wait, decide each, write what they come to as one journal group (`filing`: what is large goes to segments
//! first), sync once, show it to readers, answer. Then, now and then, write the segments and make a checkpoint.

mod books;
mod filing;
mod house;
mod sweeper;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Weak},
    time::Instant,
};

use futures::channel::oneshot;
use headwater_core::{
    Cleaned, Error, ErrorKind, Membership, ProducerName, RecordBatch, Result, Timestamp, TopicSpec,
    ledger::{self, Decision, Entry, GroupPositions, Incarnation, Place, TopicId},
};

pub(super) use self::books::Books;
use self::{
    books::{FiledRun, Removal},
    house::{DiskWork, RunningCheckpoint},
    sweeper::Sweeper,
};
use super::{
    compaction::Compactor,
    group::GroupBuilder,
    journal::{Journal, Position},
    options::Durability,
    published::Publisher,
    queue::{Answer, Outcome, Request, Upkeep},
    room::again,
    shared::Shared,
};

/// Requests of about this many bytes become one group.
const ROUND_BYTES: usize = 16 << 20;

/// All that only the journal thread touches.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) books: Books,
    pub(super) journal: Journal,
    published: Publisher,
    pub(super) group: GroupBuilder,
    /// Bytes since the last checkpoint was begun, in the journal or, as far as they count, filed.
    journaled: u64,
    checkpoint: Option<RunningCheckpoint>,
    /// Topics of which batches may be filed, and how many of their partitions: those that the last finished checkpoint knows.
    filable: BTreeMap<TopicId, u32>,
    /// Syncs segments before a checkpoint has to.
    early_sync: Option<DiskWork>,
    /// Files that the next checkpoint makes useless: only in mode `os`.
    expired: Vec<Removal>,
    /// Where the last finished checkpoint stands.
    checkpointed: Option<Position>,
    sync_due: Option<Instant>,
    /// When old records are looked for; `None` for never.
    clean_due: Option<Instant>,
    /// Producers that were opened, by the number of their name: those that can be upgraded are held.
    producers: BTreeMap<i64, Weak<Incarnation>>,
    /// Something waits for room.
    pub(super) late: bool,
    sweeper: Sweeper,
    compactor: Compactor,
}

/// What a round has come to so far.
#[derive(Debug)]
pub(super) struct Round {
    /// When its records are appended.
    now: Timestamp,
    pub(super) entries: Vec<Entry>,
    /// Batches that were filed. They lie in files before any other of the round does.
    filed: Vec<FiledRun>,
    /// Partitions of which batches go into the journal whole.
    whole: BTreeSet<Place>,
    answers: Vec<Answer>,
    /// Those who wait for old records to be deleted.
    cleaning: Vec<oneshot::Sender<Result<Cleaned>>>,
    /// Those who wait for a checkpoint of all that came before.
    checkpoints: Vec<oneshot::Sender<Result<()>>>,
    /// What comes next builds on files that are not yet as the entries say.
    full: bool,
    last: Option<Last>,
    /// Why nothing is decided that takes memory.
    pub(super) no_room: Option<Error>,
    /// Something was refused for want of room.
    pub(super) refused: bool,
    /// Why the log must stop.
    pub(super) failed: Option<Error>,
}

impl Round {
    fn new(now: Timestamp) -> Self {
        Self {
            now,
            entries: Vec::new(),
            filed: Vec::new(),
            whole: BTreeSet::new(),
            answers: Vec::new(),
            cleaning: Vec::new(),
            checkpoints: Vec::new(),
            full: false,
            last: None,
            no_room: None,
            refused: false,
            failed: None,
        }
    }
}

/// How it ends.
#[derive(Debug)]
enum Last {
    Close,
    #[cfg(test)]
    Crash,
}

impl Writer {
    /// Goes on at the end of `journal`. The checkpoint on disk stands at `checkpointed`.
    pub(super) fn new(
        shared: Arc<Shared>,
        books: Books,
        journal: Journal,
        checkpointed: Option<Position>,
    ) -> Self {
        let published = Publisher::begin(&shared.layout, journal.position());
        let clean_due = house::clean_due(&shared.options);
        let mut compactor = Compactor::default();
        let mut filable = BTreeMap::new();
        if checkpointed.is_some() {
            compactor.on_disk = books.compacted();
            filable = filing::filable(&shared.options, &books.ledger);
        }
        Self {
            shared,
            books,
            journal,
            published,
            group: GroupBuilder::default(),
            journaled: 0,
            checkpoint: None,
            filable,
            early_sync: None,
            expired: Vec::new(),
            checkpointed,
            sync_due: None,
            clean_due,
            producers: BTreeMap::new(),
            late: false,
            sweeper: Sweeper::default(),
            compactor,
        }
    }

    /// Serves until the log is closed or must stop.
    pub(super) fn run(self) {
        let _guard = StopGuard(Arc::clone(&self.shared));
        // Dropped before the guard, so that even after a panic the folder is given free behind the last write.
        let mut writer = self;
        let mut requests = VecDeque::new();
        loop {
            // Those that an error leaves here are answered when it is known that the log has stopped.
            if requests.is_empty() {
                let due = [writer.sync_due, writer.clean_due].into_iter().flatten().min();
                requests.extend(writer.shared.queue.take(ROUND_BYTES, due));
            }
            match writer.round(&mut requests) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    let folder = writer.shared.layout.folder.display();
                    tracing::error!(%folder, error = error.report(), "log stops");
                    writer.abandon_checkpoint();
                    writer.shared.stop_failed(error.report());
                    break;
                }
            }
        }
    }

    /// One round, of all `requests` or the first of them; `false` after the last.
    fn round(&mut self, requests: &mut VecDeque<Request>) -> Result<bool> {
        self.reap_disk_work()?;
        let mut round = Round { no_room: self.bound_tail()?, ..Round::new(self.shared.options.clock.now()) };
        while !round.full
            && round.failed.is_none()
            && let Some(request) = requests.pop_front()
        {
            self.decide(request, &mut round);
        }
        let done =
            round.failed.take().map_or(Ok(()), Err).and_then(|()| self.make_durable(&round.filed)).and_then(
                |()| {
                    self.publish(&mut round);
                    self.remove_files()
                },
            );
        if let Err(error) = done {
            round.answers.into_iter().for_each(|answer| answer.send_unknown(&error));
            return Err(error);
        }
        std::mem::take(&mut round.answers).into_iter().for_each(Answer::send);
        let kept = self.keep_house(&mut round).and_then(|()| match &round.last {
            Some(last) => self.end(last),
            None if round.checkpoints.is_empty() => Ok(()),
            None => self.checkpoint_now(),
        });
        for to in round.checkpoints {
            // Whoever asked may be gone.
            let _ = to.send(kept.as_ref().copied().map_err(again));
        }
        self.forgive_full(kept)?;
        Ok(round.last.is_none())
    }

    fn decide(&mut self, request: Request, round: &mut Round) {
        match request {
            Request::CreateTopic(spec, to) => {
                let decided = self.create_topic(&spec, round);
                round.answers.push(Answer::Done(to, decided));
            }
            Request::OpenProducer(name, to) => {
                let opened = self.open_producer(&name, round);
                round.answers.push(Answer::Opened(to, opened));
            }
            Request::Commit(commit, member, to) => {
                let checked = self.check_member(commit.positions.as_ref(), member);
                let decided = checked.and_then(|()| self.books.ledger.commit(commit, round.now));
                let answer =
                    decided.map(|Decision { mut entries, written }| match self.enter(&mut entries, round) {
                        Ok(()) => Outcome::Written(written),
                        Err(full) => Outcome::Refused(batches(entries), full),
                    });
                round.answers.push(Answer::Committed(to, answer));
            }
            Request::CommitPositions(positions, member, to) => {
                let checked = self.check_member(Some(&positions), member);
                let decided = checked.and_then(|()| self.books.ledger.commit_positions(positions));
                let decided = decided.and_then(|entry| self.enter(&mut entry.into_iter().collect(), round));
                round.answers.push(Answer::Done(to, decided));
            }
            Request::Upkeep(upkeep) => self.decide_upkeep(upkeep, round),
            Request::Clean(to) => round.cleaning.push(to),
            Request::Swap(swap, to) => {
                // Whoever asked is gone when the log is being closed.
                let _ = to.send(self.books.swap(&swap, &self.shared));
            }
            Request::Compacted => self.compactor.finish(),
            Request::Checkpoint(to) => round.checkpoints.push(to),
            Request::Close(to) => {
                round.last = Some(Last::Close);
                round.checkpoints.push(to);
            }
            #[cfg(test)]
            Request::Settle(to) => {
                self.sweeper.settle();
                let synced = self.finish_early_sync();
                let made = synced.and_then(|()| self.finish_checkpoint());
                round.failed = self.forgive_full(made).err();
                round.answers.push(Answer::Done(to, Ok(())));
            }
            #[cfg(test)]
            Request::Crash(to) => {
                round.last = Some(Last::Crash);
                round.checkpoints.push(to);
            }
        }
    }

    /// Requests of whoever looks after the log.
    fn decide_upkeep(&mut self, upkeep: Upkeep, round: &mut Round) {
        match upkeep {
            Upkeep::AlterTopic(name, changes, to) => {
                let decided = self.books.ledger.alter_topic(&name, &changes);
                let answer = decided.and_then(|mut entries| {
                    self.enter(&mut entries, round)?;
                    let spec = self.books.ledger.spec(&name).cloned();
                    spec.ok_or_else(|| ledger::no_such_topic(&name))
                });
                round.answers.push(Answer::Altered(to, answer));
            }
            Upkeep::DeleteTopic(name, to) => {
                let decided = self.books.ledger.delete_topic(&name);
                let answer = decided.and_then(|entry| self.enter(&mut vec![entry], round));
                // A new topic of this name needs the folder.
                round.full |= answer.is_ok();
                round.answers.push(Answer::Done(to, answer));
            }
            Upkeep::DeleteRecords(partition, before, to) => {
                let decided = self.books.ledger.delete_records(&partition, before);
                let answer = decided.and_then(|entry| {
                    self.enter(&mut entry.into_iter().collect(), round)?;
                    let offsets = self.books.ledger.offsets(self.books.ledger.place(&partition)?);
                    Ok(offsets.ok_or_else(|| ledger::unknown_partition(&partition))?.earliest)
                });
                round.answers.push(Answer::Deleted(to, answer));
            }
            Upkeep::DeleteGroup(group, to) => {
                let decided = self.books.ledger.delete_group(&group);
                let answer = decided.and_then(|entry| self.enter(&mut vec![entry], round));
                round.answers.push(Answer::Done(to, answer));
            }
        }
    }

    /// Whether positions may be committed by the member whose they are. This is the moment that counts: partitions are
    /// given to another one behind what was decided before (see [`Coordinator::join`]).
    ///
    /// [`Coordinator::join`]: headwater_core::group::Coordinator::join
    fn check_member(&self, positions: Option<&GroupPositions>, member: Option<Membership>) -> Result<()> {
        let (Some(positions), Some(member)) = (positions, member) else { return Ok(()) };
        let partitions: Vec<_> =
            positions.places().map(|place| self.books.ledger.partition(place)).collect::<Result<_>>()?;
        self.shared.groups.check(&positions.group, member, &partitions)
    }

    fn create_topic(&mut self, spec: &TopicSpec, round: &mut Round) -> Result<()> {
        let Some(entry) = self.books.ledger.create_topic(spec)? else { return Ok(()) };
        // Files of a deleted topic of this name, which could not be removed yet, must not be taken for its own.
        let free = self.try_remove_files().and_then(|()| self.shared.layout.set_aside(&spec.name));
        if let Err(error) = free {
            if error.kind() != ErrorKind::Full {
                round.failed = Some(again(&error));
            }
            return Err(error);
        }
        self.enter(&mut vec![entry], round)
    }

    fn open_producer(&mut self, name: &ProducerName, round: &mut Round) -> Result<Arc<Incarnation>> {
        let (producer, entry) = self.books.ledger.open_producer(name);
        self.enter(&mut vec![entry], round)?;
        let producer = Arc::new(producer);
        self.producers.insert(producer.id, Arc::downgrade(&producer));
        Ok(producer)
    }

    fn make_durable(&mut self, filed: &[FiledRun]) -> Result<()> {
        if self.waits_for_disk() {
            filed.iter().try_for_each(|run| self.books.sync(run, &self.shared))?;
        }
        if !self.group.is_empty() {
            self.journaled += self.group.size() as u64;
            self.journal.write(&mut self.group)?;
            self.group.clear();
        }
        match self.shared.options.durability {
            Durability::Fsync => self.journal.sync()?,
            Durability::Os => {}
            Durability::Interval(interval) => self.sync_when_due(interval)?,
        }
        self.published.publish(self.journal.position());
        Ok(())
    }

    fn sync_when_due(&mut self, interval: std::time::Duration) -> Result<()> {
        if !self.journal.is_dirty() {
            self.sync_due = None;
            return Ok(());
        }
        let now = Instant::now();
        let due = *self.sync_due.get_or_insert_with(|| now + interval);
        if due <= now {
            self.journal.sync()?;
            self.sync_due = None;
        }
        Ok(())
    }

    /// Shows what is durable, all at once.
    fn publish(&mut self, round: &mut Round) {
        let (entries, filed) = (std::mem::take(&mut round.entries), std::mem::take(&mut round.filed));
        if entries.is_empty() {
            return;
        }
        let partitions = entries.iter().any(Entry::changes_partitions);
        let mut visible = self.shared.visible_mut();
        // First, because what is deleted in the same round goes by what lies in files.
        filed.iter().for_each(|run| visible.wrote(run.place, &run.segments, run.end));
        for entry in entries {
            self.books.show(entry, &mut visible, &self.shared);
        }
        drop(visible);
        if partitions {
            self.shared.share_out();
        }
        self.shared.appended.raise();
    }

    /// Closes the log. Without room for a checkpoint it is closed all the same: the journal has everything.
    fn end(&mut self, last: &Last) -> Result<()> {
        // Nothing was asked after this, so it waits for no answer.
        self.compactor.stop();
        let ended = match last {
            Last::Close if self.waits_for_disk() => self.journal.sync().and_then(|()| self.last_checkpoint()),
            Last::Close => self.last_checkpoint(),
            #[cfg(test)]
            Last::Crash => self.finish_early_sync().and_then(|()| self.finish_checkpoint()),
        };
        // It ends here: the folder is somebody else's then.
        self.sweeper = Sweeper::default();
        match ended {
            Err(full) if full.kind() == ErrorKind::Full => {
                self.shared.stop_closed();
                Err(full.context("the log is closed, and opening it will read the journal"))
            }
            Err(error) => Err(error),
            Ok(()) => {
                self.shared.stop_closed();
                Ok(())
            }
        }
    }

    /// Makes the last checkpoint, and keeps no room on the disk behind it.
    fn last_checkpoint(&mut self) -> Result<()> {
        // It keeps room, too. When there is none for it, the checkpoint says so.
        let written = self.books.write_out(&self.shared);
        self.forgive_full(written)?;
        if let Err(error) = self.books.give_room_back() {
            tracing::warn!(error = error.report(), "room that was kept on the disk is not given back");
        }
        self.checkpoint_now()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The compaction thread must not wait for an answer that nobody gives.
        self.shared.queue.close();
        self.compactor.stop();
        self.abandon_checkpoint();
    }
}

/// The batches of a commit, from what it was to come to.
fn batches(entries: Vec<Entry>) -> Vec<(Place, RecordBatch)> {
    let batch = |entry| match entry {
        Entry::Batch { place, batch } => Some((place, batch)),
        _ => None,
    };
    entries.into_iter().filter_map(batch).collect()
}

/// Stops the log when the journal thread ends in a way that nobody thought of.
struct StopGuard(Arc<Shared>);

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.0.stop_failed("the journal thread panicked: this is a bug".into());
    }
}
