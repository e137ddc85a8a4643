//! The journal thread: the only one that changes a log.
//!
//! A round: take all requests that wait, decide each, write what they come to as one journal group, sync once, show it
//! to readers, answer. Then, now and then, write the segments and make a checkpoint.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use headwater_core::{
    Error, Result, Timestamp,
    ledger::{Decision, Entry, Ledger, Place},
};

use super::{
    checkpoint,
    files::{Unsynced, WriteFiles},
    group::GroupBuilder,
    journal::{Journal, Position},
    layout::Layout,
    options::Durability,
    partition::PartitionWriter,
    queue::{Answer, Request},
    shared::Shared,
    visible::Visible,
};

/// Requests of about this many bytes become one group.
const ROUND_BYTES: usize = 16 << 20;
/// What a batch in memory costs beyond its bytes.
const BATCH_OVERHEAD_BYTES: usize = 96;

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
}

/// The state that entries change, live and in recovery.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) ledger: Ledger,
    pub(super) partitions: BTreeMap<Place, PartitionWriter>,
    pub(super) files: WriteFiles,
    /// Batches in memory, oldest first.
    tail: VecDeque<Place>,
    tail_bytes: usize,
}

#[derive(Debug)]
struct RunningCheckpoint {
    thread: JoinHandle<Result<()>>,
    /// Journal segments before this one are free when it is done.
    position: Position,
}

/// What a round has come to so far.
#[derive(Debug)]
struct Round {
    /// When its records are appended.
    now: Timestamp,
    entries: Vec<Entry>,
    answers: Vec<Answer>,
    checkpoint: bool,
    last: Option<Last>,
}

impl Round {
    fn new(now: Timestamp) -> Self {
        Self { now, entries: Vec::new(), answers: Vec::new(), checkpoint: false, last: None }
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
        let group = GroupBuilder::default();
        Self { shared, books, journal, group, journaled: 0, checkpoint: None, checkpointed, sync_due: None }
    }

    /// Serves until the log is closed or must stop.
    pub(super) fn run(self) {
        let _guard = StopGuard(Arc::clone(&self.shared));
        // Dropped before the guard, so that even after a panic the folder is given free behind the last write.
        let mut writer = self;
        loop {
            let requests = writer.shared.queue.take(ROUND_BYTES, writer.sync_due);
            match writer.round(requests) {
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

    /// One round; `false` after the last.
    fn round(&mut self, requests: Vec<Request>) -> Result<bool> {
        let mut round = Round::new(self.shared.options.clock.now());
        for request in requests {
            self.decide(request, &mut round);
        }
        if let Err(error) = self.make_durable(&round.entries) {
            round.answers.into_iter().for_each(|answer| answer.send_unknown(&error));
            return Err(error);
        }
        self.publish(round.entries);
        let kept = self.keep_house(round.checkpoint);
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
            Request::Commit(commit, to) => {
                let decided = self.books.ledger.commit(commit, round.now);
                let answer = decided.map(|Decision { entries, written }| {
                    entries.into_iter().for_each(|entry| self.enter(entry, round));
                    written
                });
                round.answers.push(Answer::Committed(to, answer));
            }
            Request::CommitPositions(positions, to) => {
                let decided = self.books.ledger.commit_positions(positions);
                let decided =
                    decided.map(|entry| entry.into_iter().for_each(|entry| self.enter(entry, round)));
                round.answers.push(Answer::Done(to, decided));
            }
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
        let mut visible = self.shared.visible_mut();
        for entry in entries {
            self.books.show(entry, &mut visible, &self.shared);
        }
        drop(visible);
        self.shared.appended.raise();
    }

    /// Bounds memory and journal.
    fn keep_house(&mut self, checkpoint_wanted: bool) -> Result<()> {
        self.books.bound_tail(&self.shared)?;
        let limit = self.shared.options.checkpoint_bytes;
        if self
            .checkpoint
            .as_ref()
            .is_some_and(|running| running.thread.is_finished() || self.journaled >= limit)
        {
            self.finish_checkpoint()?;
        }
        if checkpoint_wanted {
            self.checkpoint_now()
        } else if self.journaled >= limit && self.checkpoint.is_none() {
            self.begin_checkpoint()
        } else {
            Ok(())
        }
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

    /// Makes a checkpoint, unless the last one still says it all, and waits for it.
    pub(super) fn checkpoint_now(&mut self) -> Result<()> {
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

    fn finish_checkpoint(&mut self) -> Result<()> {
        let Some(running) = self.checkpoint.take() else { return Ok(()) };
        let written = running.thread.join();
        written.unwrap_or_else(|_| {
            Err(Error::new(headwater_core::ErrorKind::Closed, "checkpoint thread panicked"))
        })?;
        self.checkpointed = Some(running.position);
        self.journal.recycle_before(running.position.segment)
    }

    /// Waits for a checkpoint that nobody needs any more: whoever owns the folder next must not find it replacing theirs.
    fn abandon_checkpoint(&mut self) {
        let Some(running) = self.checkpoint.take() else { return };
        if let Ok(Err(error)) = running.thread.join() {
            let folder = self.shared.layout.folder.display();
            tracing::error!(%folder, error = error.report(), "the last checkpoint was not finished");
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

/// The order that matters: what the checkpoint speaks of is on disk before it.
fn write_checkpoint(unsynced: &Unsynced, layout: &Layout, bytes: &[u8]) -> Result<()> {
    unsynced.sync(layout)?;
    layout.replace(&layout.checkpoint(), bytes)
}

impl Books {
    pub(super) fn new(ledger: Ledger, files: WriteFiles) -> Self {
        Self { ledger, partitions: BTreeMap::new(), files, tail: VecDeque::new(), tail_bytes: 0 }
    }

    /// Shows an entry that is durable, and remembers what is to be written.
    pub(super) fn show(&mut self, entry: Entry, visible: &mut Visible, shared: &Shared) {
        match &entry {
            Entry::TopicCreated { id, spec } => {
                for partition in spec.topic_partitions() {
                    let place = Place { topic: *id, partition: partition.partition };
                    let writer = PartitionWriter::new(shared.layout.partition(&partition), spec, None);
                    self.partitions.insert(place, writer);
                }
            }
            Entry::Batch { place, batch } => {
                let writer = self.partitions.get_mut(place).expect("the ledger knows the partition");
                writer.push(batch.clone());
                self.tail.push_back(*place);
                self.tail_bytes += batch.bytes().len() + BATCH_OVERHEAD_BYTES;
            }
            _ => {}
        }
        visible.apply(entry, &shared.layout);
    }

    /// Writes and forgets the oldest batches when there are too many in memory.
    pub(super) fn bound_tail(&mut self, shared: &Shared) -> Result<()> {
        let limit = shared.options.tail_bytes_max;
        if self.tail_bytes <= limit {
            return Ok(());
        }
        self.write_out(shared)?;
        let mut visible = shared.visible_mut();
        while self.tail_bytes > limit / 2
            && let Some(place) = self.tail.pop_front()
        {
            let evicted = visible.evict(place).expect("both lists are in the order of the journal");
            self.tail_bytes -= evicted.bytes().len() + BATCH_OVERHEAD_BYTES;
        }
        Ok(())
    }

    /// Writes everything to segments, then tells readers.
    fn write_out(&mut self, shared: &Shared) -> Result<()> {
        let mut written = Vec::new();
        for (place, partition) in &mut self.partitions {
            if let Some((segments, end)) = partition.write_out(&mut self.files)? {
                written.push((*place, segments, end));
            }
        }
        if !written.is_empty() {
            let mut visible = shared.visible_mut();
            written.iter().for_each(|(place, segments, end)| visible.wrote(*place, segments, *end));
        }
        Ok(())
    }
}

/// Stops the log when the journal thread ends in a way that nobody thought of.
struct StopGuard(Arc<Shared>);

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.0.stop_failed("the journal thread panicked: this is a bug".into());
    }
}
