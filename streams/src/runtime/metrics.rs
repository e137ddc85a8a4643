//! What an application counts, kept per task and read by a snapshot.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use headwater_core::TaskId;

/// Counters of one task since the application started. What a worker did and did not commit before it was replaced does
/// not count, and neither does a commit of which it did not learn whether it succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskMetrics {
    /// Records taken from its inputs.
    pub records: u64,
    /// Records dropped because their window was closed.
    pub late: u64,
    /// Records dropped because they have no key to be grouped by (Kafka drops them, too).
    pub null_keys: u64,
    /// Records left out by [`ErrorPolicy::Skip`](crate::ErrorPolicy::Skip).
    pub skipped: u64,
    /// Records sent to the dead-letter topic.
    pub dead_letters: u64,
    /// Records written to topics, changelogs included.
    pub written: u64,
    /// Commits.
    pub commits: u64,
    /// Calls of [`Processor::punctuate`](crate::Processor::punctuate).
    pub punctuations: u64,
    /// Changelog records replayed when it was opened, and opened again.
    pub restored: u64,
}

impl TaskMetrics {
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            records,
            late,
            null_keys,
            skipped,
            dead_letters,
            written,
            commits,
            punctuations,
            restored,
        } = other;
        self.records += records;
        self.late += late;
        self.null_keys += null_keys;
        self.skipped += skipped;
        self.dead_letters += dead_letters;
        self.written += written;
        self.commits += commits;
        self.punctuations += punctuations;
        self.restored += restored;
    }
}

/// A snapshot of all counters of an application.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// By task.
    pub tasks: BTreeMap<TaskId, TaskMetrics>,
    /// Workers that failed and were replaced; see [`Settings::restarts_max`](crate::Settings::restarts_max).
    pub replaced_workers: u64,
    /// How long commits took, in microseconds, from closing the batches to being durable.
    pub commit_micros: Histogram<u64>,
}

impl Metrics {
    /// The sum over all tasks.
    #[must_use]
    pub fn total(&self) -> TaskMetrics {
        self.tasks.values().fold(TaskMetrics::default(), |mut sum, task| {
            sum.add(task);
            sum
        })
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<6} {:>12} {:>12} {:>8} {:>8} {:>8} {:>10}",
            "task", "records", "written", "late", "skipped", "letters", "restored"
        )?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, m: &TaskMetrics| {
            writeln!(
                f,
                "{name:<6} {:>12} {:>12} {:>8} {:>8} {:>8} {:>10}",
                m.records, m.written, m.late, m.skipped, m.dead_letters, m.restored
            )
        };
        for (task, metrics) in &self.tasks {
            row(f, &task.to_string(), metrics)?;
        }
        row(f, "all", &self.total())
    }
}

/// Where workers leave their counters, once per turn and never per record.
#[derive(Debug, Clone)]
pub(crate) struct MetricsSink(Arc<Mutex<Sunk>>);

#[derive(Debug)]
struct Sunk {
    metrics: Metrics,
    /// Counters of each task as of its last commit.
    committed: BTreeMap<TaskId, TaskMetrics>,
}

impl MetricsSink {
    pub(crate) fn new() -> Self {
        let commit_micros = Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are legal");
        let metrics = Metrics { tasks: BTreeMap::new(), replaced_workers: 0, commit_micros };
        Self(Arc::new(Mutex::new(Sunk { metrics, committed: BTreeMap::new() })))
    }

    /// What an earlier worker has counted and committed of `task`.
    pub(crate) fn committed(&self, task: TaskId) -> TaskMetrics {
        self.lock().committed.get(&task).copied().unwrap_or_default()
    }

    /// `is_committed`: the task has nothing that a crash could take back.
    pub(crate) fn set(&self, task: TaskId, metrics: TaskMetrics, is_committed: bool) {
        let mut sunk = self.lock();
        sunk.metrics.tasks.insert(task, metrics);
        if is_committed {
            sunk.committed.insert(task, metrics);
        }
    }

    pub(crate) fn worker_replaced(&self) {
        self.lock().metrics.replaced_workers += 1;
    }

    pub(crate) fn commit_took(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.lock().metrics.commit_micros.saturating_record(micros.max(1));
    }

    pub(crate) fn snapshot(&self) -> Metrics {
        self.lock().metrics.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sunk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
