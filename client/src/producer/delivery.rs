//! What becomes of a record: one shared state for each batch, and a place in it for each record.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
};

use headwater_core::{Error, ErrorKind, Offset, Result, Timestamp, TopicPartition};

/// Where a record was written (Kafka: `RecordMetadata`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The partition.
    pub partition: TopicPartition,
    /// Its place there.
    pub offset: Offset,
    /// Its time, as it was sent: a topic whose `message.timestamp.type` is `LogAppendTime` keeps another.
    pub timestamp: Timestamp,
}

/// The acknowledgement of a record that was taken in; ready when it is written, or will not be.
///
/// It need not be awaited or even polled: the record is written all the same, and [`Producer::flush`] tells of those
/// that could not be. Safe to drop half way, and to await later.
///
/// [`Producer::flush`]: super::Producer::flush
pub struct Delivery {
    batch: Arc<BatchState>,
    /// Which record of the batch it is.
    index: u32,
    timestamp: Timestamp,
    /// Which of the batch's wakers is ours, once we have waited.
    slot: Option<usize>,
}

impl Delivery {
    /// The partition that was chosen for the record.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        &self.batch.partition
    }

    fn result(&self, outcome: &Outcome) -> Result<RecordMetadata> {
        let base = outcome.as_ref().map_err(Failure::error)?;
        Ok(RecordMetadata {
            partition: self.batch.partition.clone(),
            offset: base.plus(u64::from(self.index)),
            timestamp: self.timestamp,
        })
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(outcome) = this.batch.outcome.get() {
            return Poll::Ready(this.result(outcome));
        }
        let mut wakers = this.batch.wakers();
        // Looked at again: whoever sets it takes the wakers after that.
        if let Some(outcome) = this.batch.outcome.get() {
            return Poll::Ready(this.result(outcome));
        }
        match this.slot.and_then(|slot| wakers.get_mut(slot)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                this.slot = Some(wakers.len());
                wakers.push(context.waker().clone());
            }
        }
        Poll::Pending
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = self.batch.outcome.get().map(|outcome| self.result(outcome));
        f.debug_struct("Delivery").field("partition", self.partition()).field("outcome", &outcome).finish()
    }
}

/// The offset of the first record, or why there is none.
pub(super) type Outcome = Result<Offset, Failure>;

/// What the deliveries of one batch share.
struct BatchState {
    partition: TopicPartition,
    outcome: OnceLock<Outcome>,
    /// One for each delivery that waits.
    wakers: Mutex<Vec<Waker>>,
}

impl BatchState {
    fn new(partition: TopicPartition) -> Arc<Self> {
        Arc::new(Self { partition, outcome: OnceLock::new(), wakers: Mutex::default() })
    }

    fn wakers(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says once what became of the batch, and wakes those who wait.
    fn settle(&self, outcome: Outcome) {
        if self.outcome.set(outcome).is_ok() {
            let wakers = std::mem::take(&mut *self.wakers());
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

/// Whoever has it owes the deliveries of a batch an answer. Dropped without one, it says that there will be none.
pub(super) struct Promise(Arc<BatchState>);

impl Promise {
    pub(super) fn new(partition: TopicPartition) -> Self {
        Self(BatchState::new(partition))
    }

    pub(super) fn partition(&self) -> &TopicPartition {
        &self.0.partition
    }

    /// The acknowledgement of record `index`.
    pub(super) fn delivery(&self, index: u32, timestamp: Timestamp) -> Delivery {
        Delivery { batch: Arc::clone(&self.0), index, timestamp, slot: None }
    }

    pub(super) fn keep(self, outcome: Outcome) {
        self.0.settle(outcome);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.0.outcome.get().is_none() {
            self.0.settle(Err(Failure::new(
                ErrorKind::Closed,
                "the producer was closed: the record was not written",
            )));
        }
    }
}

/// An error that many are told of.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    kind: ErrorKind,
    text: Arc<str>,
}

impl Failure {
    pub(super) fn new(kind: ErrorKind, text: &str) -> Self {
        Self { kind, text: text.into() }
    }

    pub(super) fn of(error: &Error) -> Self {
        Self::new(error.kind(), &error.report())
    }

    pub(super) fn error(&self) -> Error {
        Error::new(self.kind, self.text.as_ref())
    }
}
