//! Calls that a task has begun and not heard the end of: the futures of `map_async`.
//!
//! A task does not wait. It puts futures here, its worker drives them between two turns, and what they give goes to a
//! repartition topic of the application, like any other output. The commit of a task comes after all of them, so that
//! positions are committed only behind calls that are over.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{FuturesOrdered, FuturesUnordered},
};
use headwater_core::{
    Error, ErrorKind, Headers, Offset, Partition, RecordRef, Result, Timestamp, TopicPartition,
};

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
}

/// What is kept of a record that began calls: the task has moved on when one fails.
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
    /// With a copy of its bytes, or only where it lies.
    pub(crate) fn of(record: RecordRef<'_>, partition: &TopicPartition, copied: bool) -> Self {
        let place = Self {
            partition: partition.clone(),
            offset: record.offset,
            key: None,
            value: None,
            timestamp: record.timestamp,
            headers: Headers::new(),
        };
        if !copied {
            return place;
        }
        Self {
            key: record.key.map(Bytes::copy_from_slice),
            value: record.value.map(Bytes::copy_from_slice),
            headers: record.headers.to_owned_without(LANE_HEADER.as_bytes()),
            ..place
        }
    }
}

/// A call, and the record that the task had taken; missing for what a timer or a closed window sent.
struct Open {
    call: BoxFuture<'static, Finished>,
    raw: Option<RawRecord>,
}

impl Future for Open {
    type Output = (Finished, Option<RawRecord>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let finished = ready!(self.call.poll_unpin(cx));
        Poll::Ready((finished, self.raw.take()))
    }
}

enum Running {
    /// Answers come in the order in which the calls began.
    Ordered(FuturesOrdered<Open>),
    Unordered(FuturesUnordered<Open>),
}

impl Running {
    fn len(&self) -> usize {
        match self {
            Self::Ordered(running) => running.len(),
            Self::Unordered(running) => running.len(),
        }
    }

    fn push(&mut self, call: Open) {
        match self {
            Self::Ordered(running) => running.push_back(call),
            Self::Unordered(running) => running.push(call),
        }
    }
}

/// The calls of one operator in one task.
pub(crate) struct Calls {
    running: Running,
    /// Begun by records that stay. They do nothing yet: futures are lazy.
    settled: VecDeque<Open>,
    /// Begun by the current record, which may yet be taken back.
    begun: VecDeque<Open>,
    concurrency: usize,
}

impl Calls {
    pub(crate) fn new(concurrency: usize, ordered: bool) -> Self {
        let running = if ordered {
            Running::Ordered(FuturesOrdered::new())
        } else {
            Running::Unordered(FuturesUnordered::new())
        };
        Self { running, settled: VecDeque::new(), begun: VecDeque::new(), concurrency }
    }

    pub(crate) fn begin(&mut self, call: BoxFuture<'static, Finished>) {
        self.begun.push_back(Open { call, raw: None });
    }

    /// Whether the current record began any.
    pub(crate) fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Says which record it is that began calls.
    pub(crate) fn begun_by(&mut self, raw: &RawRecord) {
        self.begun.iter_mut().for_each(|call| call.raw = Some(raw.clone()));
    }

    /// What was begun so far stays.
    pub(crate) fn begin_record(&mut self) {
        self.settled.append(&mut self.begun);
    }

    pub(crate) fn roll_back(&mut self) {
        self.begun.clear();
    }

    /// Calls that are not over, those that wait for others included.
    pub(crate) fn in_flight(&self) -> usize {
        self.running.len() + self.settled.len() + self.begun.len()
    }

    /// Whether no other call may begin before one is over.
    pub(crate) fn is_full(&self) -> bool {
        self.in_flight() >= self.concurrency
    }

    /// The next call that is over; `None` when there are none. One record may have begun more calls than there may be at a
    /// time.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Finished, Option<RawRecord>)>> {
        self.begin_record();
        while self.running.len() < self.concurrency
            && let Some(call) = self.settled.pop_front()
        {
            self.running.push(call);
        }
        match &mut self.running {
            Running::Ordered(running) => running.poll_next_unpin(cx),
            Running::Unordered(running) => running.poll_next_unpin(cx),
        }
    }
}

/// The next call of any operator that is over, with the record that began it; `None` when there are none.
pub(crate) fn poll_any(
    all: &mut [Calls],
    cx: &mut Context<'_>,
) -> Poll<Option<(Finished, Option<RawRecord>)>> {
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

/// `call`, and an error of its record in place of a panic, and of every other error: what a network does to a call does not
/// concern the log or the worker.
pub(crate) async fn caught<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    let outcome = std::panic::AssertUnwindSafe(call).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|panic| Err(super::panic::panicked(&panic.into())));
    outcome.map_err(|error| match error.kind() {
        ErrorKind::Processing => error,
        kind => Error::processing(format!("a call failed. kind={kind:?}")).with_source(error),
    })
}
