//! What the handles of a producer and its driver share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_core::{Error, ErrorKind, Log, Result, Signal};
use tokio::sync::{Notify, Semaphore, TryAcquireError};

use super::{
    accumulator::{Accumulator, Closed, Phase, RawRecord, Target},
    builder::Limits,
    delivery::{Delivery, Failure},
    partitioner::Partitioner,
};

pub(super) struct Shared {
    pub(super) log: Arc<dyn Log>,
    pub(super) limits: Limits,
    accumulator: Mutex<Accumulator>,
    /// A permit for each byte of the buffer. Those who wait for more are served in the order in which they came.
    room: Semaphore,
    /// For the driver: there is something to do.
    pub(super) work: Notify,
    /// Raised by the driver when something is done.
    pub(super) progress: Signal,
}

/// A record on its way in.
#[derive(Clone, Copy)]
pub(super) struct Sending<'a> {
    pub(super) topic: &'a str,
    pub(super) target: Target,
    pub(super) record: RawRecord<'a>,
    /// `None` for the default.
    pub(super) partitioner: Option<&'a dyn Partitioner>,
}

/// What came of a record.
pub(super) enum Sent {
    Taken(Delivery),
    /// There is no room now.
    Full,
    /// The topic must be looked up.
    UnknownTopic,
}

impl Shared {
    pub(super) fn new(log: Arc<dyn Log>, limits: Limits, phase: Phase) -> Self {
        Self {
            log,
            accumulator: Mutex::new(Accumulator::new(limits.clone(), phase)),
            room: Semaphore::new(limits.buffer_bytes),
            limits,
            work: Notify::new(),
            progress: Signal::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Accumulator> {
        // No code of users runs under the lock.
        self.accumulator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much a record takes of the buffer.
    fn charge(&self, record: &RawRecord<'_>) -> Result<u32> {
        let (bytes, max) = (record.bytes(), self.limits.buffer_bytes);
        u32::try_from(bytes).ok().filter(|_| bytes <= max).ok_or_else(|| {
            Error::invalid(format!(
                "record is larger than the buffer: raise `buffer_bytes`. bytes={bytes}, buffer_bytes={max}"
            ))
        })
    }

    /// Takes a record in if that can be done at once.
    #[inline]
    pub(super) fn try_push(&self, sending: Sending<'_>) -> Result<Sent> {
        let bytes = self.charge(&sending.record)?;
        match self.room.try_acquire_many(bytes) {
            Ok(room) => {
                let sent = self.push(sending, bytes, None)?;
                if matches!(sent, Sent::Taken(_)) {
                    room.forget();
                }
                Ok(sent)
            }
            Err(TryAcquireError::NoPermits) => Ok(Sent::Full),
            Err(TryAcquireError::Closed) => Err(self.dead()),
        }
    }

    /// As [`Shared::try_push`], but waits for what is missing.
    pub(super) async fn push_when_possible(&self, sending: Sending<'_>) -> Result<Delivery> {
        let transaction = self.lock().check()?;
        let mut known = self.lock().topic(sending.topic).is_some();
        let bytes = self.charge(&sending.record)?;
        loop {
            if !known {
                self.look_up(sending.topic).await?;
            }
            let room = match self.room.try_acquire_many(bytes) {
                Ok(room) => room,
                Err(_) => {
                    // Batches that are not full hold room too, and within a transaction nothing else would close them.
                    self.lock().close_all();
                    self.work.notify_one();
                    self.room.acquire_many(bytes).await.map_err(|_| self.dead())?
                }
            };
            match self.push(sending, bytes, Some(transaction))? {
                Sent::Taken(delivery) => {
                    room.forget();
                    return Ok(delivery);
                }
                Sent::Full | Sent::UnknownTopic => known = false,
            }
        }
    }

    fn push(&self, sending: Sending<'_>, bytes: u32, transaction: Option<u64>) -> Result<Sent> {
        let Sending { topic, mut target, record, partitioner } = sending;
        let mut accumulator = self.lock();
        let current = accumulator.check()?;
        if transaction.is_some_and(|transaction| transaction != current) {
            return Err(Error::invalid("the transaction ended before the record found room"));
        }
        let Some(mut known) = accumulator.topic(topic) else { return Ok(Sent::UnknownTopic) };
        if let (Target::Key, Some(partitioner)) = (target, partitioner) {
            // Code of users, which may send records itself.
            drop(accumulator);
            let chosen = partitioner.partition(record.outgoing(topic, known.partitions));
            target = chosen.map_or(Target::Sticky, Target::Partition);
            accumulator = self.lock();
            if accumulator.check()? != current {
                return Err(Error::invalid("the transaction ended before the record was taken in"));
            }
            let Some(still) = accumulator.topic(topic) else { return Ok(Sent::UnknownTopic) };
            known = still;
        }
        let (delivery, news) = accumulator.push(known, target, &record, bytes as usize)?;
        drop(accumulator);
        if news {
            self.work.notify_one();
        }
        Ok(Sent::Taken(delivery))
    }

    async fn look_up(&self, topic: &str) -> Result<()> {
        let specs = self.log.topics().await?;
        let mut accumulator = self.lock();
        accumulator.update(&specs, Some(topic));
        match accumulator.topic(topic) {
            Some(_) => Ok(()),
            None => Err(Error::invalid(format!("no such topic: create it first. topic={topic}"))),
        }
    }

    /// Gives room back.
    pub(super) fn release(&self, bytes: usize) {
        self.room.add_permits(bytes);
    }

    /// Waits until `done` holds, or nothing can be done any more.
    pub(super) async fn wait_until(&self, done: impl Fn(&Accumulator) -> bool) {
        loop {
            let seen = self.progress.count();
            {
                let accumulator = self.lock();
                if done(&accumulator) || accumulator.dead.is_some() {
                    return;
                }
            }
            if self.progress.after(seen).await.is_none() {
                return;
            }
        }
    }

    /// Why nothing is written any more.
    pub(super) fn dead(&self) -> Error {
        match &self.lock().dead {
            Some(dead) => dead.error(),
            None => Error::new(ErrorKind::Closed, "the producer was closed"),
        }
    }

    /// Nothing is written from here on, because of `failure`.
    pub(super) fn die(&self, failure: &Failure) {
        let (forgotten, ending) = {
            let mut accumulator = self.lock();
            accumulator.dead.get_or_insert_with(|| failure.clone());
            let forgotten = accumulator.forget();
            if !forgotten.is_empty() {
                accumulator.failed(failure);
            }
            (forgotten, accumulator.ending.take())
        };
        self.fail(forgotten, failure);
        if let Some(ending) = ending {
            drop(ending.to.send(Err(failure.error())));
        }
        self.room.close();
        self.progress.close();
    }

    /// Tells the deliveries of batches that were never handed to the log.
    pub(super) fn fail(&self, batches: Vec<Closed>, failure: &Failure) {
        for batch in batches {
            self.release(batch.charged);
            batch.promise.keep(Err(failure.clone()));
        }
    }

    /// Takes no more records, and does not wait: what was sent is still written.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.work.notify_one();
    }
}
