//! The journal thread: the only one that changes a log.
//!
//! A round: take all requests that wait, decide each, write what they come to as one journal group, sync once, show it
//! to readers, answer. Then, now and then, write the segments and make a checkpoint.

mod books;
mod house;

use std::{collections::VecDeque, sync::Arc, time::Instant};

use futures::channel::oneshot;
use headwater_core::{
    Cleaned, Error, Membership, Result, Timestamp,
    ledger::{self, Decision, Entry, GroupPositions},
};

pub(super) use self::books::Books;
use self::house::RunningCheckpoint;
use super::{
    group::GroupBuilder,
    journal::{Journal, Position},
    options::Durability,
    queue::{Answer, Request, Upkeep},
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
    group: GroupBuilder,
    /// Journal bytes since the last checkpoint was begun.
    journaled: u64,
    checkpoint: Option<RunningCheckpoint>,
    /// Where the last finished checkpoint stands.
    checkpointed: Option<Position>,
    sync_due: Option<Instant>,
    /// When old records are looked for; `None` for never.
    clean_due: Option<Instant>,
}

/// What a round has come to so far.
#[derive(Debug)]
struct Round {
    /// When its records are appended.
    now: Timestamp,
    entries: Vec<Entry>,
    answers: Vec<Answer>,
    /// Those who wait for old records to be deleted.
    cleaning: Vec<oneshot::Sender<Result<Cleaned>>>,
    checkpoint: bool,
    /// What comes next builds on files that are not yet as the entries say.
    full: bool,
    last: Option<Last>,
}

impl Round {
    fn new(now: Timestamp) -> Self {
        let (entries, answers, cleaning) = (Vec::new(), Vec::new(), Vec::new());
        Self { now, entries, answers, cleaning, checkpoint: false, full: false, last: None }
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
        let clean_due = Instant::now().checked_add(shared.options.retention_check);
        Self {
            shared,
            books,
            journal,
            group: GroupBuilder::default(),
            journaled: 0,
            checkpoint: None,
            checkpointed,
            sync_due: None,
            clean_due,
        }
    }

    /// Serves until the log is closed or must stop.
    pub(super) fn run(self) {
        let _guard = StopGuard(Arc::clone(&self.shared));
        // Dropped before the guard, so that even after a panic the folder is given free behind the last write.
        let mut writer = self;
        let mut requests = VecDeque::new();
        loop {
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
        let mut round = Round::new(self.shared.options.clock.now());
        while let Some(request) = requests.pop_front_if(|_| !round.full) {
            self.decide(request, &mut round);
        }
        if let Err(error) = self.make_durable(&round.entries) {
            round.answers.into_iter().for_each(|answer| answer.send_unknown(&error));
            return Err(error);
        }
        self.publish(std::mem::take(&mut round.entries));
        let kept = self.keep_house(&mut round);
        if let Some(last) = round.last {
            return self.end(&last, round.answers, kept);
        }
        match kept {
            Ok(()) => {
                round.answers.into_iter().for_each(Answer::send);
                Ok(true)
            }
            Err(error) => {
                answer_without_checkpoint(round.answers, &error);
                Err(error)
            }
        }
    }

    fn decide(&mut self, request: Request, round: &mut Round) {
        match request {
            Request::CreateTopic(spec, to) => {
                let decided = self.books.ledger.create_topic(&spec).and_then(|entry| {
                    let Some(entry) = entry else { return Ok(()) };
                    self.shared.layout.set_aside(&spec.name)?;
                    self.enter(entry, round);
                    Ok(())
                });
                round.answers.push(Answer::Done(to, decided));
            }
            Request::OpenProducer(name, to) => {
                let (producer, entry) = self.books.ledger.open_producer(&name);
                self.enter(entry, round);
                round.answers.push(Answer::Opened(to, Ok(producer)));
            }
            Request::Commit(commit, member, to) => {
                let checked = self.check_member(commit.positions.as_ref(), member);
                let decided = checked.and_then(|()| self.books.ledger.commit(commit, round.now));
                let answer = decided.map(|Decision { entries, written }| {
                    entries.into_iter().for_each(|entry| self.enter(entry, round));
                    written
                });
                round.answers.push(Answer::Committed(to, answer));
            }
            Request::CommitPositions(positions, member, to) => {
                let checked = self.check_member(Some(&positions), member);
                let decided = checked.and_then(|()| self.books.ledger.commit_positions(positions));
                let decided =
                    decided.map(|entry| entry.into_iter().for_each(|entry| self.enter(entry, round)));
                round.answers.push(Answer::Done(to, decided));
            }
            Request::Upkeep(upkeep) => self.decide_upkeep(upkeep, round),
            Request::Clean(to) => round.cleaning.push(to),
            Request::Checkpoint(to) => {
                round.checkpoint = true;
                round.answers.push(Answer::Checkpointed(to));
            }
            Request::Close(to) => {
                round.last = Some(Last::Close);
                round.answers.push(Answer::Checkpointed(to));
            }
            #[cfg(test)]
            Request::Crash(to) => {
                round.last = Some(Last::Crash);
                round.answers.push(Answer::Checkpointed(to));
            }
        }
    }

    /// Requests of whoever looks after the log.
    fn decide_upkeep(&mut self, upkeep: Upkeep, round: &mut Round) {
        match upkeep {
            Upkeep::AlterTopic(name, changes, to) => {
                let decided = self.books.ledger.alter_topic(&name, &changes);
                let answer = decided.and_then(|entries| {
                    entries.into_iter().for_each(|entry| self.enter(entry, round));
                    let spec = self.books.ledger.spec(&name).cloned();
                    spec.ok_or_else(|| ledger::no_such_topic(&name))
                });
                round.answers.push(Answer::Altered(to, answer));
            }
            Upkeep::DeleteTopic(name, to) => {
                let decided = self.books.ledger.delete_topic(&name);
                // A new topic of this name needs the folder.
                round.full |= decided.is_ok();
                let answer = decided.map(|entry| self.enter(entry, round));
                round.answers.push(Answer::Done(to, answer));
            }
            Upkeep::DeleteRecords(partition, before, to) => {
                let decided = self.books.ledger.delete_records(&partition, before);
                let answer = decided.and_then(|entry| {
                    entry.into_iter().for_each(|entry| self.enter(entry, round));
                    let offsets = self.books.ledger.offsets(self.books.ledger.place(&partition)?);
                    Ok(offsets.ok_or_else(|| ledger::unknown_partition(&partition))?.earliest)
                });
                round.answers.push(Answer::Deleted(to, answer));
            }
            Upkeep::DeleteGroup(group, to) => {
                let decided = self.books.ledger.delete_group(&group);
                let answer = decided.map(|entry| self.enter(entry, round));
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

    /// Later decisions of the round build on earlier ones; if the round fails, the log stops.
    fn enter(&mut self, entry: Entry, round: &mut Round) {
        self.books.ledger.apply(&entry).expect("the ledger decided so itself");
        round.entries.push(entry);
    }

    fn make_durable(&mut self, entries: &[Entry]) -> Result<()> {
        if !entries.is_empty() {
            self.group.clear();
            entries.iter().for_each(|entry| self.group.push(entry));
            self.journaled += self.group.size() as u64;
            self.journal.write(&mut self.group)?;
        }
        match self.shared.options.durability {
            Durability::Fsync => self.journal.sync(),
            Durability::Os => Ok(()),
            Durability::Interval(interval) => self.sync_when_due(interval),
        }
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
    fn publish(&mut self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let partitions = entries.iter().any(Entry::changes_partitions);
        let mut visible = self.shared.visible_mut();
        for entry in entries {
            self.books.show(entry, &mut visible, &self.shared);
        }
        drop(visible);
        if partitions {
            self.shared.share_out();
        }
        self.shared.appended.raise();
    }

    fn end(&mut self, last: &Last, answers: Vec<Answer>, kept: Result<()>) -> Result<bool> {
        let ended = match last {
            Last::Close => kept.and_then(|()| self.journal.sync()).and_then(|()| self.checkpoint_now()),
            #[cfg(test)]
            Last::Crash => self.finish_checkpoint().and(kept),
        };
        match ended {
            Ok(()) => {
                self.shared.stop_closed();
                answers.into_iter().for_each(Answer::send);
                Ok(false)
            }
            Err(error) => {
                answer_without_checkpoint(answers, &error);
                Err(error)
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.abandon_checkpoint();
    }
}

/// What was decided is durable; only the checkpoint that was asked for did not come to be.
fn answer_without_checkpoint(answers: Vec<Answer>, error: &Error) {
    for answer in answers {
        match answer {
            Answer::Checkpointed(_) => answer.send_unknown(error),
            answer => answer.send(),
        }
    }
}

/// Stops the log when the journal thread ends in a way that nobody thought of.
struct StopGuard(Arc<Shared>);

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.0.stop_failed("the journal thread panicked: this is a bug".into());
    }
}
