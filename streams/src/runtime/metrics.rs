//! What an application counts, kept per task and read by a snapshot.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use headwater_core::{TaskId, Timestamp, TopicPartition};

/// Counters of one task since the application started. What a worker did and did not commit before it was replaced does
/// not count, and neither does a commit of which it did not learn whether it succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskMetrics {
    /// Records taken from its inputs.
    pub records: u64,
    /// Records left out of a window that was closed, once for each such window; those that went to
    /// [`on_late`](crate::WindowedStream::on_late), too. And records that were too old for a join of streams and met nobody.
    pub late: u64,
    /// Records dropped because they have no key to be grouped or joined by (Kafka drops them, too).
    pub null_keys: u64,
    /// Records dropped because they have no value to be joined (Kafka drops them, too).
    pub null_values: u64,
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
    /// Changelog records that are still to be replayed of the store that is being restored; 0 when the task is open.
    pub to_restore: u64,
    /// How long opening it took, its state included, when it was opened last.
    pub opening: Duration,
    /// Memory of its stores' rows at hand, in bytes (see [`Settings::memory_bytes`](crate::Settings::memory_bytes)).
    pub state_bytes: u64,
}

impl TaskMetrics {
    /// Without what is only so at a moment: what an earlier worker leaves to the next one.
    pub(crate) fn counters(self) -> Self {
        Self { to_restore: 0, opening: Duration::ZERO, state_bytes: 0, ..self }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            records,
            late,
            null_keys,
            null_values,
            skipped,
            dead_letters,
            written,
            commits,
            punctuations,
            restored,
            ..
        } = other;
        self.records += records;
        self.late += late;
        self.null_keys += null_keys;
        self.null_values += null_values;
        self.skipped += skipped;
        self.dead_letters += dead_letters;
        self.written += written;
        self.commits += commits;
        self.punctuations += punctuations;
        self.restored += restored;
        self.to_restore += other.to_restore;
        self.opening += other.opening;
        self.state_bytes += other.state_bytes;
    }
}

/// A snapshot of all counters of an application.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// By task.
    pub tasks: BTreeMap<TaskId, TaskMetrics>,
    /// Workers that failed and were replaced; see [`Settings::restarts_max`](crate::Settings::restarts_max).
    pub replaced_workers: u64,
    /// For each input partition, how many offsets are behind what its task has taken, as of the last look at the partition.
    pub lags: BTreeMap<TopicPartition, u64>,
    /// How long commits took, in microseconds, from closing the batches to being durable.
    pub commit_micros: Histogram<u64>,
    /// How old the newest record of a task was, in milliseconds by its own timestamp, when its results became durable: one
    /// value per task and commit. Of a backlog that is the age of the data.
    pub latency_millis: Histogram<u64>,
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
            "{:<6} {:>12} {:>12} {:>8} {:>8} {:>8} {:>10} {:>10} {:>11}",
            "task", "records", "written", "late", "skipped", "letters", "punctuated", "restored", "state KiB"
        )?;
        for (task, metrics) in &self.tasks {
            metrics.row(&task.to_string(), f)?;
        }
        self.total().row("all", f)?;
        for (partition, lag) in self.lags.iter().filter(|(_, lag)| **lag > 0) {
            writeln!(f, "behind in {partition}: {lag}")?;
        }
        for (what, unit, histogram) in
            [("commits", "us", &self.commit_micros), ("latency", "ms", &self.latency_millis)]
        {
            if !histogram.is_empty() {
                let [half, most] = [0.5, 0.99].map(|share| histogram.value_at_quantile(share));
                let (count, max) = (histogram.len(), histogram.max());
                writeln!(f, "{what}: {count}, p50 {half} {unit}, p99 {most} {unit}, max {max} {unit}")?;
            }
        }
        if self.replaced_workers > 0 {
            writeln!(f, "workers replaced: {}", self.replaced_workers)?;
        }
        Ok(())
    }
}

impl TaskMetrics {
    fn row(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{name:<6} {:>12} {:>12} {:>8} {:>8} {:>8} {:>10} {:>10} {:>11}",
            self.records,
            self.written,
            self.late,
            self.skipped,
            self.dead_letters,
            self.punctuations,
            self.restored,
            self.state_bytes >> 10
        )?;
        if self.to_restore > 0 {
            write!(f, "  {} to restore", self.to_restore)?;
        }
        writeln!(f)
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
        let latency_millis = Histogram::new_with_bounds(1, 86_400_000, 2).expect("the bounds are legal");
        let metrics = Metrics {
            tasks: BTreeMap::new(),
            replaced_workers: 0,
            lags: BTreeMap::new(),
            commit_micros,
            latency_millis,
        };
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

    pub(crate) fn set_lags<'a>(&self, lags: impl Iterator<Item = (&'a TopicPartition, u64)>) {
        let mut sunk = self.lock();
        for (partition, lag) in lags {
            match sunk.metrics.lags.get_mut(partition) {
                Some(known) => *known = lag,
                None => {
                    sunk.metrics.lags.insert(partition.clone(), lag);
                }
            }
        }
    }

    /// The newest records of the tasks that were committed.
    pub(crate) fn committed_at(&self, now: Timestamp, newest: &[Timestamp]) {
        let mut sunk = self.lock();
        for time in newest {
            let millis = u64::try_from(now.0.saturating_sub(time.0)).unwrap_or(0);
            sunk.metrics.latency_millis.saturating_record(millis.max(1));
        }
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

#[cfg(test)]
mod tests {
    use headwater_core::{Partition, TopicName};

    use super::*;

    #[test]
    fn prints_what_there_is_and_nothing_else() {
        let sink = MetricsSink::new();
        let task = TaskId { subtopology: 0, partition: Partition(3) };
        let counted = TaskMetrics { records: 12, to_restore: 7, state_bytes: 4096, ..TaskMetrics::default() };
        sink.set(task, counted, false);
        let partition = |p| TopicPartition::new(TopicName::new("in").expect("a name"), Partition(p));
        let lags = [(partition(0), 0), (partition(1), 5)];
        sink.set_lags(lags.iter().map(|(partition, lag)| (partition, *lag)));
        sink.committed_at(Timestamp(100), &[Timestamp(90), Timestamp(400)]);
        sink.worker_replaced();
        insta::assert_snapshot!(sink.snapshot(), @"
        task        records      written     late  skipped  letters punctuated   restored   state KiB
        0_3              12            0        0        0        0          0          0           4  7 to restore
        all              12            0        0        0        0          0          0           4  7 to restore
        behind in in-1: 5
        latency: 2, p50 1 ms, p99 10 ms, max 10 ms
        workers replaced: 1
        ");
        assert_eq!(sink.committed(task), TaskMetrics::default());
    }
}
