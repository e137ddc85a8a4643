//! The task that writes: takes closed batches, hands them to the log, commits, tells the deliveries. It ends with the last
//! handle of its producer, or with the runtime.

use std::{collections::HashMap, sync::Arc, time::Duration};

use headwater_core::{
    BatchBuilder, Error, ErrorKind, Log, Offset, Positions, Producer as Port, ProducerName, Result,
    TopicPartition, Written,
};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    accumulator::{Closed, End, Ending, Phase, Work},
    builder::Limits,
    delivery::{Failure, Outcome, Promise},
    shared::Shared,
};

/// The first wait before the log is asked again for a producer; each further one is twice as long.
const BACKOFF: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Opens the log's producer, again when what it did is not known.
pub(super) struct Opener {
    log: Arc<dyn Log>,
    name: ProducerName,
    timeout: Duration,
}

impl Opener {
    pub(super) fn new(log: Arc<dyn Log>, name: ProducerName, limits: &Limits) -> Self {
        Self { log, name, timeout: limits.open_timeout }
    }

    pub(super) fn name(&self) -> &ProducerName {
        &self.name
    }

    async fn open(&self) -> Result<Box<dyn Port>> {
        let give_up = Instant::now() + self.timeout;
        let mut backoff = BACKOFF;
        loop {
            match self.log.producer(&self.name).await {
                Err(error) if may_go_away(&error) && Instant::now() + backoff < give_up => {
                    tracing::warn!(producer = %self.name, error = error.report(), "log is not there: trying again");
                    sleep_until(Instant::now() + backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
                opened => return opened,
            }
        }
    }
}

fn may_go_away(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Full)
}

/// Writes until the producer is closed or must stop.
pub(super) fn run(
    shared: Arc<Shared>,
    opener: Opener,
    port: Box<dyn Port>,
) -> impl Future<Output = ()> + Send + 'static {
    // Made here and not in the future, so that a runtime that ends before it polls the future drops a driver too.
    let mut driver = Driver {
        shared,
        opener,
        port: Some(port),
        held: Vec::new(),
        refused: None,
        unknown: false,
        refreshed: Instant::now(),
    };
    async move { driver.serve().await }
}

struct Driver {
    shared: Arc<Shared>,
    opener: Opener,
    /// `None` after a commit of unknown outcome.
    port: Option<Box<dyn Port>>,
    /// What the log holds back until the commit.
    held: Vec<Held>,
    /// Why the open transaction can only be aborted.
    refused: Option<Failure>,
    /// A commit is on its way.
    unknown: bool,
    /// When topics were looked up last.
    refreshed: Instant,
}

struct Held {
    promise: Promise,
    records: u32,
}

impl Driver {
    async fn serve(&mut self) {
        loop {
            let work = self.shared.lock().work(Instant::now());
            match work {
                Work::Write(batches) => self.write(batches).await,
                Work::End(ending) => self.end(ending).await,
                Work::Wait(Some(due)) => {
                    let _ = timeout_at(due, self.shared.work.notified()).await;
                }
                Work::Wait(None) => self.shared.work.notified().await,
                Work::Stop => return,
            }
            if self.shared.lock().dead.is_some() {
                return;
            }
        }
    }

    async fn write(&mut self, batches: Vec<Closed>) {
        let (count, bytes) = (batches.len() as u64, batches.iter().map(|batch| batch.charged).sum());
        self.refresh().await;
        let builders = match self.port().await {
            Ok(()) => self.append(batches),
            Err(error) => {
                let failure = Failure::of(&error.context("the record was not written"));
                batches.into_iter().for_each(|batch| self.settle(batch.promise, Err(failure.clone())));
                Vec::new()
            }
        };
        let plain = {
            let mut accumulator = self.shared.lock();
            accumulator.recycle(builders.into_iter());
            accumulator.phase == Phase::Plain
        };
        if plain && !self.held.is_empty() {
            // Errors are told to the deliveries.
            let _ = self.commit(None).await;
        }
        self.shared.release(bytes);
        self.shared.lock().handled += count;
        self.shared.progress.raise();
    }

    /// Hands batches to the log, which holds them back.
    fn append(&mut self, batches: Vec<Closed>) -> Vec<BatchBuilder> {
        let mut builders = Vec::with_capacity(batches.len());
        for Closed { mut builder, promise, .. } in batches {
            let records = builder.record_count();
            let port = self.port.as_mut().expect("it was opened before");
            match port.append(promise.partition(), &mut builder) {
                Ok(()) => self.held.push(Held { promise, records }),
                Err(error) => {
                    let failure = Failure::of(&error);
                    // The topic may have gone, or be another one now.
                    self.shared.lock().doubt(&promise.partition().topic);
                    self.refused.get_or_insert_with(|| failure.clone());
                    self.settle(promise, Err(failure));
                    builder.clear();
                }
            }
            builders.push(builder);
        }
        builders
    }

    async fn port(&mut self) -> Result<()> {
        if self.port.is_none() {
            match self.opener.open().await {
                Ok(port) => self.port = Some(port),
                Err(error) => {
                    self.die_of(&error);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Commits what the log holds back, and tells its deliveries.
    async fn commit(&mut self, positions: Option<&Positions>) -> Result<()> {
        self.unknown = true;
        let port = self.port.as_mut().expect("it was opened before");
        let committed = port.commit(positions).await;
        self.unknown = false;
        match committed {
            Ok(written) => {
                self.written(&written);
                Ok(())
            }
            Err(error) => {
                let failure = Failure::of(&error);
                self.fail_held(&failure);
                let of_a_member = positions.is_some_and(|positions| positions.member.is_some());
                if error.kind() == ErrorKind::Fenced && of_a_member && self.is_newest().await {
                    return Err(error.context("the positions were refused, and the transaction with them"));
                }
                self.after_refusal(&error);
                Err(error)
            }
        }
    }

    /// Whether no newer producer of the name has taken over: a commit of nothing is refused then, too.
    async fn is_newest(&mut self) -> bool {
        match &mut self.port {
            Some(port) => port.commit(None).await.is_ok(),
            None => false,
        }
    }

    /// The log says where the batches of a partition begin; they follow one another as they were appended.
    fn written(&mut self, written: &[Written]) {
        let mut next: HashMap<&TopicPartition, Offset> =
            written.iter().map(|written| (&written.partition, written.base)).collect();
        for Held { promise, records } in std::mem::take(&mut self.held) {
            match next.get_mut(promise.partition()) {
                Some(next) => {
                    promise.keep(Ok(*next));
                    *next = next.plus(u64::from(records));
                }
                None => {
                    let partition = promise.partition();
                    let text = format!("written, but the log does not say where. partition={partition}");
                    self.settle(promise, Err(Failure::new(ErrorKind::Corrupt, &text)));
                }
            }
        }
    }

    fn after_refusal(&mut self, error: &Error) {
        match error.kind() {
            // Nothing of it was written, and the next may be.
            ErrorKind::Invalid => {}
            // The same, but the log still holds it: those who sent it are told, and may send it again.
            ErrorKind::Full => self.port.iter_mut().for_each(|port| port.abort()),
            // Whether it was written is known to nobody here: it is not written again. A new producer of the name
            // settles it. One that has others' transactions to end leaves that to them, who may be there already.
            ErrorKind::Unavailable if self.shared.lock().phase == Phase::Plain => self.port = None,
            _ => self.die_of(error),
        }
    }

    fn die_of(&self, error: &Error) {
        let plain = self.shared.lock().phase == Phase::Plain;
        if !may_go_away(error) || !plain {
            self.shared.die(&Failure::of(error));
        }
    }

    async fn end(&mut self, Ending { how, to }: Ending) {
        let (ended, next) = match how {
            End::Abort => {
                self.abort();
                (Ok(()), Phase::Idle)
            }
            End::Commit(positions) => match self.commit_transaction(positions.as_ref()).await {
                Ok(()) => (Ok(()), Phase::Idle),
                Err(error) => (Err(error), Phase::Failed),
            },
        };
        self.shared.lock().phase = next;
        // Whoever asked may be gone.
        drop(to.send(ended));
        self.shared.progress.raise();
    }

    async fn commit_transaction(&mut self, positions: Option<&Positions>) -> Result<()> {
        if let Some(refused) = &self.refused {
            return Err(refused.error().context("a record of the transaction was refused: abort it"));
        }
        self.port().await?;
        self.commit(positions).await
    }

    fn abort(&mut self) {
        if let Some(port) = &mut self.port {
            port.abort();
        }
        self.refused = None;
        self.fail_held(&aborted());
    }

    fn fail_held(&mut self, failure: &Failure) {
        for held in std::mem::take(&mut self.held) {
            self.settle(held.promise, Err(failure.clone()));
        }
    }

    fn settle(&self, promise: Promise, outcome: Outcome) {
        if let Err(failure) = &outcome {
            self.shared.lock().failed(failure);
        }
        promise.keep(outcome);
    }

    /// Learns of new partitions now and then.
    async fn refresh(&mut self) {
        if self.refreshed.elapsed() < self.shared.limits.metadata_age_max {
            return;
        }
        self.refreshed = Instant::now();
        match self.shared.log.topics().await {
            Ok(specs) => self.shared.lock().update(&specs, None),
            // It is asked again, and what is known is not wrong because of it.
            Err(error) => tracing::debug!(error = error.report(), "topics could not be looked up"),
        }
    }
}

/// What deliveries of an aborted transaction are told.
pub(super) fn aborted() -> Failure {
    Failure::new(
        ErrorKind::Unavailable,
        "the transaction was aborted: the record was not written, and may be sent in another",
    )
}

impl Drop for Driver {
    /// Whatever ends the driver, nobody waits for it any longer.
    fn drop(&mut self) {
        let text = if self.unknown {
            "the producer's task ended while a commit was on its way: not known whether it was written"
        } else {
            "the producer was closed: the record was not written"
        };
        let failure = Failure::new(ErrorKind::Closed, text);
        self.fail_held(&failure);
        self.shared.die(&Failure::new(ErrorKind::Closed, "the producer was closed"));
    }
}
