//! Calls that a task has begun and not heard the end of: the futures of `map_async`.
//!
//! A task does not wait. It puts futures here, its worker drives them between two turns, and what they give goes to a
//! repartition topic of the application, like any other output. A commit waits for all of them, so that positions are
//! committed only behind calls that are over.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{FuturesOrdered, FuturesUnordered},
};
use headwater_core::{Headers, Offset, Partition, RecordRef, Result, Timestamp, TopicPartition};

use super::lanes::LANE_HEADER;

/// What a call came to, as bytes for the topic.
pub(crate) struct Answer {
    pub(crate) partition: Partition,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
}

/// A call that is over, and whose it was.
pub(crate) struct Finished {
    pub(crate) answer: Result<Answer>,
    pub(crate) sink: usize,
    pub(crate) timestamp: Timestamp,
    pub(crate) headers: Headers,
    /// Of the task, when the call began: the time of the lane.
    pub(crate) stream_time: Timestamp,
    /// The record that the task had taken, as it lay in the log; missing for what a timer or a closed window sent.
    pub(crate) raw: Option<RawRecord>,
}

/// A copy of a record in the log: the task has moved on when its call fails.
#[derive(Debug, Clone)]
pub(crate) struct RawRecord {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: Offset,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) timestamp: Timestamp,
    pub(crate) headers: Headers,
}

impl RawRecord {
    pub(crate) fn of(record: RecordRef<'_>, partition: &TopicPartition) -> Self {
        Self {
            partition: partition.clone(),
            offset: record.offset,
            key: record.key.map(Bytes::copy_from_slice),
            value: record.value.map(Bytes::copy_from_slice),
            timestamp: record.timestamp,
            headers: record.headers.to_owned_without(LANE_HEADER.as_bytes()),
        }
    }
}

enum Running {
    /// Answers come in the order in which the calls began.
    Ordered(FuturesOrdered<BoxFuture<'static, Finished>>),
    Unordered(FuturesUnordered<BoxFuture<'static, Finished>>),
}

/// The calls of one operator in one task.
pub(crate) struct Calls {
    running: Running,
    /// Begun by the current record, which may yet be taken back.
    begun: VecDeque<BoxFuture<'static, Finished>>,
    concurrency: usize,
}

impl Calls {
    pub(crate) fn new(concurrency: usize, ordered: bool) -> Self {
        let running = if ordered {
            Running::Ordered(FuturesOrdered::new())
        } else {
            Running::Unordered(FuturesUnordered::new())
        };
        Self { running, begun: VecDeque::new(), concurrency }
    }

    pub(crate) fn begin(&mut self, call: BoxFuture<'static, Finished>) {
        self.begun.push_back(call);
    }

    /// What was begun so far stays.
    pub(crate) fn begin_record(&mut self) {
        for call in self.begun.drain(..) {
            match &mut self.running {
                Running::Ordered(running) => running.push_back(call),
                Running::Unordered(running) => running.push(call),
            }
        }
    }

    pub(crate) fn roll_back(&mut self) {
        self.begun.clear();
    }

    pub(crate) fn in_flight(&self) -> usize {
        let running = match &self.running {
            Running::Ordered(running) => running.len(),
            Running::Unordered(running) => running.len(),
        };
        running + self.begun.len()
    }

    /// Whether no other call may begin before one is over.
    pub(crate) fn is_full(&self) -> bool {
        self.in_flight() >= self.concurrency
    }

    /// The next call that is over; `None` when there are none.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Finished>> {
        self.begin_record();
        match &mut self.running {
            Running::Ordered(running) => running.poll_next_unpin(cx),
            Running::Unordered(running) => running.poll_next_unpin(cx),
        }
    }
}

/// The next call of any operator that is over; `None` when there are none.
pub(crate) fn poll_any(all: &mut [Calls], cx: &mut Context<'_>) -> Poll<Option<Finished>> {
    let mut waits = false;
    for calls in all {
        match calls.poll_next(cx) {
            Poll::Ready(Some(finished)) => return Poll::Ready(Some(finished)),
            Poll::Ready(None) => {}
            Poll::Pending => waits = true,
        }
    }
    if waits { Poll::Pending } else { Poll::Ready(None) }
}

/// `call`, and an error in place of a panic.
pub(crate) async fn caught<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    let outcome = std::panic::AssertUnwindSafe(call).catch_unwind().await;
    outcome.unwrap_or_else(|panic| Err(super::panic::panicked(&panic.into())))
}
