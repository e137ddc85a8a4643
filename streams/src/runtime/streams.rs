//! A running application.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use headwater_core::{Error, ErrorKind, Log, Result, Signal, StateBackend, TaskId};

use super::{
    Plan, Worker,
    board::Board,
    metrics::{Metrics, MetricsSink},
    ports::Ports,
    settings::Settings,
};
use crate::Topology;

/// A topology that runs: its workers are threads of this process.
///
/// Dropping it stops the workers as a crash would; [`Streams::close`] commits first.
pub struct Streams {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    board: Arc<Board>,
    metrics: MetricsSink,
    stop: Signal,
    /// Set when the application is dropped without being closed: workers end after their turn, and make no last commit.
    abandoned: AtomicBool,
    /// Why it stopped; kept, so that everybody who asks is told.
    failure: Mutex<Option<(ErrorKind, String)>>,
    log: Arc<dyn Log>,
}

impl Streams {
    /// Resolves the topology on `log` (missing sink and internal topics are created) and starts its workers.
    ///
    /// # Errors
    /// `Invalid` when a source topic is missing or a setting is wrong; those of the log. What goes wrong later is told
    /// by [`Streams::caught_up`], [`Streams::failed`] and [`Streams::close`].
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
        let plan = Arc::new(Plan::resolve(Arc::new(topology), settings, &*ports.log).await?);
        let shared = Arc::new(Shared {
            board: Arc::new(Board::new(plan.tasks())),
            metrics: MetricsSink::new(),
            stop: Signal::default(),
            abandoned: AtomicBool::new(false),
            failure: Mutex::new(None),
            log: Arc::clone(&ports.log),
        });
        let mut streams = Self { shared, workers: Vec::new() };
        let tasks: Vec<TaskId> = plan.tasks().collect();
        for number in 0..plan.settings.workers {
            let own: Vec<TaskId> =
                tasks.iter().copied().skip(number).step_by(plan.settings.workers).collect();
            let (plan, ports) = (Arc::clone(&plan), ports.clone());
            let shared = Arc::clone(&streams.shared);
            let handle = std::thread::Builder::new()
                .name(format!("headwater-worker-{number}"))
                .spawn(move || shared.run_worker(plan, ports, &own))
                .map_err(|e| Error::io("cannot start a worker thread", e))?;
            streams.workers.push(handle);
        }
        Ok(streams)
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

    /// Waits until the application stops because of an error, and gives it.
    pub async fn failed(&self) -> Error {
        match self.shared.wait(|_| Ok(false)).await {
            Err(error) => error,
            Ok(()) => Error::new(ErrorKind::Closed, "the application was closed"),
        }
    }

    /// Takes no more records, commits, writes state out and waits for the workers to end.
    ///
    /// # Errors
    /// Why the application stopped before, or why the last commit failed. Nothing is lost then: it goes on from the
    /// last commit.
    pub async fn close(mut self) -> Result<Metrics> {
        self.join();
        match self.shared.failure() {
            Some(error) => Err(error),
            None => Ok(self.metrics()),
        }
    }

    fn join(&mut self) {
        self.shared.stop.raise();
        for worker in self.workers.drain(..) {
            // A worker reports its own panic; see `run_worker`.
            let _ = worker.join();
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        if !self.workers.is_empty() {
            self.shared.abandoned.store(true, Ordering::SeqCst);
            self.join();
        }
    }
}

impl Shared {
    fn run_worker(&self, plan: Arc<Plan>, ports: Ports, tasks: &[TaskId]) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.work(plan, ports, tasks)));
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                Error::processing(format!(
                    "a worker panicked; started again, the application goes on from the last commit: {text}"
                ))
            }
        };
        tracing::error!(error = error.report(), "worker stopped");
        let failure = (error.kind(), error.report());
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        // One task that stands still holds those behind it: the application stops as a whole.
        self.stop.raise();
        self.board.posted().raise();
    }

    fn work(&self, plan: Arc<Plan>, ports: Ports, tasks: &[TaskId]) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|e| Error::io("cannot make the runtime of a worker", e))?;
        runtime.block_on(async {
            let board = (Arc::clone(&self.board), self.metrics.clone());
            let mut worker = Worker::open(plan, ports, board, tasks).await?;
            let stop = async {
                self.stop.after(0).await;
            };
            worker.run(stop, || self.abandoned.load(Ordering::SeqCst)).await
        })
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
