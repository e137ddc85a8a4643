//! A running application.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures::stream::BoxStream;
use headwater_core::{Error, ErrorKind, Log, Result, Signal, StateBackend, TaskId};

use super::{
    Plan, Worker,
    board::Board,
    life::{Life, StreamsState},
    metrics::{Metrics, MetricsSink},
    panic::catch,
    ports::Ports,
    restarts::{Failure, Restarts},
    settings::Settings,
};
use crate::{Topology, replay::Pace};

/// A topology that runs: its workers are threads of this process.
///
/// Dropping it stops the workers as a crash would; [`Streams::close`] commits first.
pub struct Streams {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    life: Arc<Life>,
    board: Arc<Board>,
    metrics: MetricsSink,
    stop: Signal,
    /// Raised when the application is dropped without being closed: workers end after their turn, and make no last commit.
    abandoned: Signal,
    /// How many workers have ended.
    ended: Signal,
    /// Why it stopped; kept, so that everybody who asks is told.
    failure: Mutex<Option<(ErrorKind, String)>>,
    log: Arc<dyn Log>,
}

impl Streams {
    /// Resolves the topology on `log` (missing sink and internal topics are created) and starts its workers.
    ///
    /// # Errors
    /// `Invalid` when a source topic is missing, topics that meet in a store have different numbers of partitions, an internal
    /// topic is there with another number of them, or a setting is wrong; those of the log. What goes wrong later is told
    /// by [`Streams::caught_up`], [`Streams::failed`], [`Streams::close`] and [`Streams::states`].
    pub async fn start(
        topology: Topology,
        settings: Settings,
        log: Arc<dyn Log>,
        state: Arc<dyn StateBackend>,
    ) -> Result<Self> {
        Self::start_on(topology, settings, Ports::new(log, state)).await
    }

    /// As [`Streams::start`], with all ports.
    ///
    /// # Errors
    /// As [`Streams::start`].
    pub async fn start_on(topology: Topology, settings: Settings, ports: Ports) -> Result<Self> {
        Self::start_paced(topology, settings, ports, None).await
    }

    /// As [`Streams::start_on`], no faster than `pace` says.
    pub(crate) async fn start_paced(
        topology: Topology,
        settings: Settings,
        ports: Ports,
        pace: Option<Pace>,
    ) -> Result<Self> {
        let mut plan = Plan::resolve(Arc::new(topology), settings, &*ports.log).await?;
        plan.pace = pace;
        let plan = Arc::new(plan);
        let shared = Arc::new(Shared {
            life: Arc::new(Life::new(plan.settings.workers)),
            board: Arc::new(Board::new(plan.tasks())),
            metrics: MetricsSink::new(),
            stop: Signal::default(),
            abandoned: Signal::default(),
            ended: Signal::default(),
            failure: Mutex::new(None),
            log: Arc::clone(&ports.log),
        });
        let mut streams = Self { shared, workers: Vec::new() };
        let tasks: Vec<TaskId> = plan.tasks().collect();
        for number in 0..plan.settings.workers {
            let own: Vec<TaskId> =
                tasks.iter().copied().skip(number).step_by(plan.settings.workers).collect();
            let (plan, ports) = (Arc::clone(&plan), ports.clone());
            let ending = Ending(Arc::clone(&streams.shared));
            let handle = std::thread::Builder::new()
                .name(format!("headwater-worker-{number}"))
                .spawn(move || ending.0.run_worker(&plan, &ports, &own))
                .map_err(|e| Error::io("cannot start a worker thread", e))?;
            streams.workers.push(handle);
        }
        Ok(streams)
    }

    /// What the application is doing.
    #[must_use]
    pub fn state(&self) -> StreamsState {
        self.shared.life.state()
    }

    /// What it is doing, and every change of that from now on, up to the last (Kafka: `StateListener`). Outlives the
    /// application. Somebody who falls a thousand changes behind misses the oldest.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use futures::StreamExt;
    /// use headwater_core::{Log, TopicSpec, memory::{MemoryBackend, MemoryLog}};
    /// use headwater_streams::{Settings, Streams, StreamsBuilder, StreamsState};
    /// # futures::executor::block_on(async {
    /// let log = Arc::new(MemoryLog::default());
    /// log.create_topic(&TopicSpec::new("in", 1)?).await?;
    /// let builder = StreamsBuilder::new();
    /// builder.stream::<String, u64>("in").to("out");
    /// let state = Arc::new(MemoryBackend::default());
    /// let streams = Streams::start(builder.build()?, Settings::new("app"), log, state).await?;
    /// let states = streams.states();
    /// streams.caught_up().await?;
    /// assert_eq!(streams.state(), StreamsState::Running);
    /// streams.close().await?;
    /// assert_eq!(states.collect::<Vec<_>>().await.last(), Some(&StreamsState::Closed));
    /// # Ok::<(), headwater_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn states(&self) -> BoxStream<'static, StreamsState> {
        self.shared.life.states()
    }

    /// Counters as of the last turn of each task.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics.snapshot()
    }

    /// Waits until every task has processed and committed all input that there is: what was appended before the call,
    /// what came since, and what the tasks sent one another.
    ///
    /// # Errors
    /// Why the application stopped, if it did.
    pub async fn caught_up(&self) -> Result<()> {
        self.shared.wait(Shared::is_caught_up).await
    }

    /// Closes all windows, sessions and windows of joins though no record comes any more that would, and waits until that is
    /// done and committed: for an input that has an end, such as a file that was loaded, or a replay.
    ///
    /// When everything is taken that there is ([`Streams::caught_up`]), time passes by itself in every task, in those that send
    /// to others first: to each moment at which something closes, one after the other, and then to its end. So results go out in
    /// the order, and with the timestamps, that they would have if records of other keys came all the time; those that closed
    /// windows send carry no headers. They are the same whatever the number of workers, the commits and the crashes.
    ///
    /// That cannot be taken back: afterwards every record is late to every window. Once a task has begun, the application goes
    /// on with it after a restart by itself; called again, this waits for the end of it, and when it has come does nothing.
    /// Stream time stays that of the records: [`Punctuate::StreamTime`](crate::Punctuate::StreamTime) does not fire. A
    /// [`Processor`](crate::Processor) of yours gets what closes before it, and calls of `flush` and `advance`. Where a topology
    /// reads a topic that it writes itself, and so goes round in a circle, nobody in it waits for the others.
    ///
    /// ```
    /// use std::{sync::Arc, time::Duration};
    /// use headwater_core::{
    ///     BatchBuilder, Headers, Log, Offset, Partition, ProducerName, Timestamp, TopicName, TopicPartition, TopicSpec,
    ///     memory::{MemoryBackend, MemoryLog},
    /// };
    /// use headwater_streams::{Emit, Settings, Streams, StreamsBuilder, TimeWindows};
    /// # futures::executor::block_on(async {
    /// let log = Arc::new(MemoryLog::default());
    /// log.create_topic(&TopicSpec::new("clicks", 1)?).await?;
    /// let mut clicks = log.producer(&ProducerName("loader".into())).await?;
    /// let mut batch = BatchBuilder::default();
    /// batch.push(Timestamp(7), Some(b"ann"), Some(b"here"), &Headers::new());
    /// clicks.append(&TopicPartition::new(TopicName::new("clicks")?, Partition(0)), &mut batch)?;
    /// clicks.commit(None).await?;
    ///
    /// let builder = StreamsBuilder::new();
    /// let by_minute = TimeWindows::tumbling(Duration::from_secs(60));
    /// builder
    ///     .stream::<String, String>("clicks")
    ///     .group_by_key()
    ///     .windowed_by(by_minute)
    ///     .emit(Emit::OnClose)
    ///     .count("counts")
    ///     .to_stream()
    ///     .to("counts");
    /// let state = Arc::new(MemoryBackend::default());
    /// let streams = Streams::start(builder.build()?, Settings::new("app"), Arc::clone(&log) as _, state).await?;
    /// streams.close_windows().await?;
    /// streams.close().await?;
    /// let counts = TopicPartition::new(TopicName::new("counts")?, Partition(0));
    /// assert_eq!(log.offsets(&counts).await?.end, Offset(1));
    /// # Ok::<(), headwater_core::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Why the application stopped, if it did.
    pub async fn close_windows(&self) -> Result<()> {
        let shared = &self.shared;
        if !shared.board.is_closing() {
            self.caught_up().await?;
            shared.board.close_windows();
        }
        shared.wait(|shared| Ok(shared.board.all_have_ended() && shared.is_caught_up()?)).await
    }

    /// Waits until the application stops because of an error, and gives it.
    pub async fn failed(&self) -> Error {
        match self.shared.wait(|_| Ok(false)).await {
            Err(error) => error,
            Ok(()) => Error::new(ErrorKind::Closed, "the application was closed"),
        }
    }

    /// Takes no more records, waits for calls of [`KStream::map_async`](crate::KStream::map_async) that are open, however long
    /// they take, commits, writes state out and waits for the workers to end. Who does not want to wait that long drops it, or
    /// this future: the application then ends as by a crash.
    ///
    /// # Errors
    /// Why the application stopped before, or why the last commit failed. Nothing is lost then: it goes on from the
    /// last commit.
    pub async fn close(mut self) -> Result<Metrics> {
        self.stop();
        // Not by joining them: who answers their calls may need this thread.
        self.shared.ended.after((self.workers.len() as u64).saturating_sub(1)).await;
        self.join();
        match self.shared.failure() {
            Some(error) => Err(error),
            None => Ok(self.metrics()),
        }
    }

    /// Runs until `stop` is ready, and closes then; ends before that when the application stops by itself.
    ///
    /// ```no_run
    /// # async fn run(streams: headwater_streams::Streams) -> headwater_core::Result<()> {
    /// let (ask_to_stop, asked) = futures::channel::oneshot::channel::<()>();
    /// // A handler of SIGTERM keeps `ask_to_stop`, and drops or sends it.
    /// # drop(ask_to_stop);
    /// let metrics = streams.run_until(async { drop(asked.await) }).await?;
    /// println!("{metrics}");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Streams::close`].
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<Metrics> {
        {
            let (stop, failed) = (std::pin::pin!(stop), std::pin::pin!(self.failed()));
            futures::future::select(stop, failed).await;
        }
        self.close().await
    }

    fn stop(&self) {
        self.shared.life.becomes(StreamsState::Closing);
        self.shared.stop.raise();
    }

    fn join(&mut self) {
        for worker in self.workers.drain(..) {
            // A worker reports its own panic; see `run_worker`.
            let _ = worker.join();
        }
        // Not after a failure, which is the last state.
        self.shared.life.becomes(StreamsState::Closed);
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        if !self.workers.is_empty() {
            self.shared.abandoned.raise();
            self.stop();
            self.join();
        }
    }
}

/// Tells when a worker has ended, in whatever way.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended.raise();
    }
}

impl Shared {
    /// The life of a worker, and of those that replace it.
    fn run_worker(&self, plan: &Arc<Plan>, ports: &Ports, tasks: &[TaskId]) {
        let mut restarts = Restarts::new(&plan.settings);
        let error = loop {
            let mut is_open = false;
            let outcome = catch(|| self.work(plan, ports, tasks, &mut is_open));
            let failure = match outcome {
                Ok(Ok(())) => return,
                Ok(Err(error)) => Failure::Error(error),
                Err(panic) => Failure::Panic(panic),
            };
            self.board.stopped(tasks);
            let backoff = restarts.after(&failure, Instant::now());
            let error = failure.into_error();
            let Some(backoff) = backoff.filter(|_| self.stop.count() == 0) else { break error };
            tracing::warn!(error = error.report(), ?backoff, "a worker failed and is replaced");
            self.metrics.worker_replaced();
            if is_open {
                self.life.reopens();
            }
            if self.stops_within(backoff) {
                break error;
            }
        };
        tracing::error!(error = error.report(), "worker stopped");
        let failure = (error.kind(), error.report());
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.life.becomes(StreamsState::Failed);
        // One task that stands still holds those behind it: the application stops as a whole.
        self.stop.raise();
        self.board.posted().raise();
    }

    fn work(&self, plan: &Arc<Plan>, ports: &Ports, tasks: &[TaskId], is_open: &mut bool) -> Result<()> {
        let runtime = runtime()?;
        let outcome = runtime.block_on(async {
            let board = (Arc::clone(&self.board), self.metrics.clone());
            let mut worker = Worker::open(Arc::clone(plan), ports.clone(), board, tasks).await?;
            *is_open = true;
            self.life.opened();
            let stop = async {
                self.stop.after(0).await;
            };
            worker.run(stop, &self.abandoned).await
        });
        // What calls have left running on other threads is not waited for.
        runtime.shutdown_background();
        outcome
    }

    /// Waits for the time, or until the application stops; whether it did.
    fn stops_within(&self, time: Duration) -> bool {
        let stop = self.stop.after(0);
        runtime()
            .is_ok_and(|runtime| runtime.block_on(async { tokio::time::timeout(time, stop).await.is_ok() }))
    }

    /// All tasks looked at a log that has not changed since, and none found anything to do.
    fn is_caught_up(&self) -> Result<bool> {
        let version = super::version(&*self.log)?;
        Ok(self.board.all_caught_up(version) && super::version(&*self.log)? == version)
    }

    async fn wait(&self, done: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        loop {
            let seen = self.board.posted().count();
            if let Some(error) = self.failure() {
                return Err(error);
            }
            if done(self)? {
                return Ok(());
            }
            self.board.posted().after(seen).await;
        }
    }

    fn failure(&self) -> Option<Error> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().map(|(kind, report)| Error::new(*kind, report.clone()))
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Error::io("cannot make the runtime of a worker", e))
}
