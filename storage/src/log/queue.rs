//! What waits for the journal thread: bounded in bytes, so that a slow disk slows writers down.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Instant,
};

use futures::channel::oneshot;
use headwater_core::{
    Cleaned, Error, ErrorKind, GroupId, Membership, Offset, ProducerName, RecordBatch, Result, TopicChanges,
    TopicName, TopicPartition, TopicSpec, Written,
    ledger::{Commit, GroupPositions, Incarnation, Place},
};

use super::compaction::{Swap, Swapped};

/// A request and where its answer goes.
#[derive(Debug)]
pub(super) enum Request {
    CreateTopic(TopicSpec, oneshot::Sender<Result<()>>),
    /// Whoever has the answer holds the producer.
    OpenProducer(ProducerName, oneshot::Sender<Result<Arc<Incarnation>>>),
    /// The positions are those of a member, or of nobody in particular.
    Commit(Commit, Option<Membership>, oneshot::Sender<Result<Outcome>>),
    /// Positions that go with no record.
    CommitPositions(GroupPositions, Option<Membership>, oneshot::Sender<Result<()>>),
    Upkeep(Upkeep),
    Clean(oneshot::Sender<Result<Cleaned>>),
    /// A compacted segment is to take the place of others.
    Swap(Swap, oneshot::Sender<Result<Swapped>>),
    /// The compaction thread is done.
    Compacted,
    Checkpoint(oneshot::Sender<Result<()>>),
    /// The last one: nothing is taken after it.
    Close(oneshot::Sender<Result<()>>),
    /// Waits for what is done in the background, so that a test knows what happens next.
    #[cfg(test)]
    Settle(oneshot::Sender<Result<()>>),
    /// As if the process was killed.
    #[cfg(test)]
    Crash(oneshot::Sender<Result<()>>),
}

/// What somebody asks for who looks after the log.
#[derive(Debug)]
pub(super) enum Upkeep {
    AlterTopic(TopicName, TopicChanges, oneshot::Sender<Result<TopicSpec>>),
    DeleteTopic(TopicName, oneshot::Sender<Result<()>>),
    DeleteRecords(TopicPartition, Offset, oneshot::Sender<Result<Offset>>),
    DeleteGroup(GroupId, oneshot::Sender<Result<()>>),
}

/// What became of a commit.
#[derive(Debug)]
pub(super) enum Outcome {
    Written(Vec<Written>),
    /// Nothing of it was, for want of room; its batches come back.
    Refused(Vec<(Place, RecordBatch)>, Error),
}

impl Request {
    fn bytes(&self) -> usize {
        let (batches, positions) = match self {
            Request::Commit(commit, ..) => (commit.batches.as_slice(), commit.positions.as_ref()),
            Request::CommitPositions(positions, ..) => (&[][..], Some(positions)),
            _ => (&[][..], None),
        };
        let positions = positions.map_or(0, GroupPositions::bytes);
        256 + positions + batches.iter().map(|(_, batch)| batch.bytes().len()).sum::<usize>()
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    requests: VecDeque<Request>,
    bytes: usize,
    closed: bool,
    /// Whoever takes shall look around, even when there is no request.
    nudged: bool,
    /// Those who wait for room, in the order in which they came: a large commit would never find room behind small ones
    /// that may pass it.
    waiting: BTreeMap<u64, Waker>,
    last_ticket: u64,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), work: Condvar::new(), bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for `bytes`, then makes the request and puts it in; `false` when the log has stopped.
    /// When the future is dropped before that, nothing was made.
    pub(super) async fn push(&self, bytes: usize, make: impl FnOnce() -> Request + Send) -> bool {
        let mut make = Some(make);
        let mut turn = Turn { queue: self, ticket: None };
        poll_fn(|context| {
            let mut state = self.lock();
            if state.closed {
                return Poll::Ready(false);
            }
            let first = state.waiting.keys().next().is_none_or(|first| Some(*first) == turn.ticket);
            let room = state.bytes == 0 || state.bytes + bytes <= self.bytes_max;
            if !(first && room) {
                let ticket = *turn.ticket.get_or_insert_with(|| state.ticket());
                let old = state.waiting.insert(ticket, context.waker().clone());
                drop(state);
                // Not while we have the lock: whoever is dropped or woken may come back here.
                drop(old);
                return Poll::Pending;
            }
            let make = make.take().expect("the future ends here");
            state.enqueue(make());
            self.work.notify_one();
            Poll::Ready(true)
        })
        .await
    }

    /// Whether nothing is taken any more.
    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Puts a small request in, room or not; `false` when the log has stopped.
    pub(super) fn push_now(&self, request: Request) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        state.enqueue(request);
        self.work.notify_one();
        true
    }

    /// Puts the last request in, room or not; `false` when there was a last one before.
    pub(super) fn push_last(&self, request: Request) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        state.enqueue(request);
        let waiting = state.close();
        self.work.notify_one();
        drop(state);
        waiting.into_values().for_each(Waker::wake);
        true
    }

    /// Ends a wait of [`Queue::take`].
    pub(super) fn nudge(&self) {
        self.lock().nudged = true;
        self.work.notify_one();
    }

    /// Waits for requests and takes about `bytes_max` of them, at least one; none when `until` or a nudge comes first, or
    /// when the queue is closed and empty.
    pub(super) fn take(&self, bytes_max: usize, until: Option<Instant>) -> Vec<Request> {
        let mut state = self.lock();
        while state.requests.is_empty() && !state.closed && !state.nudged {
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => break,
                Some(left) => self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.nudged = false;
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some(request) = state.requests.pop_front()
        {
            bytes += request.bytes();
            taken.push(request);
        }
        state.bytes -= bytes;
        let first = state.waiting.values().next().cloned();
        drop(state);
        // The next one is woken when the first has gone.
        first.into_iter().for_each(Waker::wake);
        taken
    }

    /// Nothing is taken any more, and what waits is dropped.
    pub(super) fn close(&self) {
        let (dropped, waiting) = {
            let mut state = self.lock();
            state.bytes = 0;
            (mem::take(&mut state.requests), state.close())
        };
        drop(dropped);
        waiting.into_values().for_each(Waker::wake);
    }
}

/// A place in the line of those who wait for room.
struct Turn<'a> {
    queue: &'a Queue,
    ticket: Option<u64>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let (own, next) = {
            let mut state = self.queue.lock();
            (state.waiting.remove(&ticket), state.waiting.values().next().cloned())
        };
        drop(own);
        next.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn enqueue(&mut self, request: Request) {
        self.bytes += request.bytes();
        self.requests.push_back(request);
    }

    fn ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Returns those who are to be woken, once the lock is free.
    #[must_use]
    fn close(&mut self) -> BTreeMap<u64, Waker> {
        self.closed = true;
        mem::take(&mut self.waiting)
    }
}

/// What waits for the end of the round in which it was decided.
#[derive(Debug)]
pub(super) enum Answer {
    Done(oneshot::Sender<Result<()>>, Result<()>),
    Opened(oneshot::Sender<Result<Arc<Incarnation>>>, Result<Arc<Incarnation>>),
    Committed(oneshot::Sender<Result<Outcome>>, Result<Outcome>),
    Altered(oneshot::Sender<Result<TopicSpec>>, Result<TopicSpec>),
    /// Records before this offset are gone.
    Deleted(oneshot::Sender<Result<Offset>>, Result<Offset>),
}

impl Answer {
    /// Answers. Whoever asked may be gone.
    pub(super) fn send(self) {
        match self {
            Answer::Done(to, answer) => drop(to.send(answer)),
            Answer::Opened(to, answer) => drop(to.send(answer)),
            Answer::Committed(to, answer) => drop(to.send(answer)),
            Answer::Altered(to, answer) => drop(to.send(answer)),
            Answer::Deleted(to, answer) => drop(to.send(answer)),
        }
    }

    /// Answers that it is not known what became of it.
    pub(super) fn send_unknown(self, cause: &Error) {
        let text = format!("not known whether it was written: {}", cause.report());
        let error = || Error::new(ErrorKind::Unavailable, text);
        match self {
            Answer::Done(to, _) => drop(to.send(Err(error()))),
            Answer::Opened(to, _) => drop(to.send(Err(error()))),
            Answer::Committed(to, _) => drop(to.send(Err(error()))),
            Answer::Altered(to, _) => drop(to.send(Err(error()))),
            Answer::Deleted(to, _) => drop(to.send(Err(error()))),
        }
    }
}
