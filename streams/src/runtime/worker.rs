//! A worker owns some tasks, without locks, and gives each its turn.

use std::{
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use headwater_core::{Log, LogVersion, Result, Signal, TaskId};

use super::{
    board::Board,
    commit::commit,
    metrics::MetricsSink,
    plan::Plan,
    ports::Ports,
    task::{Task, was_begun},
};

/// An idle worker looks at the clock at least this often when it has something to do by it.
const WAIT_MAX: Duration = Duration::from_secs(3600);

pub(crate) struct Worker {
    plan: Arc<Plan>,
    ports: Ports,
    board: Arc<Board>,
    metrics: MetricsSink,
    tasks: Vec<Task>,
    last_commit: Instant,
    /// Records taken since then.
    uncommitted: usize,
    /// Up to where the log and the board were looked at.
    seen: (LogVersion, u64),
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Something was processed or committed: there may be more.
    Busy,
    /// Everything is committed that can be, and nothing can be taken until the log or the board changes, or a call is over.
    Idle,
}

impl Worker {
    /// Opens `tasks`: fences their earlier owners, restores their state.
    pub(crate) async fn open(
        plan: Arc<Plan>,
        ports: Ports,
        (board, metrics): (Arc<Board>, MetricsSink),
        tasks: &[TaskId],
    ) -> Result<Self> {
        if !board.is_closing() && was_begun(&plan, &*ports.log).await? {
            board.close_windows();
        }
        let mut opened = Vec::with_capacity(tasks.len());
        for id in tasks {
            let start = Instant::now();
            let mut task = Task::open(*id, &plan, &ports, &metrics).await?;
            task.opened_in(start.elapsed());
            tracing::info!(task = %id, restored = task.metrics().restored, "task opened");
            metrics.set(*id, task.metrics(), true);
            opened.push(task);
        }
        let seen = (LogVersion::default(), 0);
        Ok(Self {
            plan,
            ports,
            board,
            metrics,
            tasks: opened,
            last_commit: Instant::now(),
            uncommitted: 0,
            seen,
        })
    }

    /// Gives every task one turn, the one that is furthest back in time first, and commits when it is time to.
    pub(crate) async fn turn(&mut self) -> Result<Turn> {
        let version = version(&*self.ports.log)?;
        self.seen.0 = version;
        let (now, plan) = (self.ports.clock.now(), Arc::clone(&self.plan));
        let (settings, before) = (&plan.settings, plan.pace.map(|pace| pace.before(now)));
        self.tasks.sort_by_key(|task| (task.time(), task.id()));
        let mut taken = 0;
        for at in 0..self.tasks.len() {
            let task = &mut self.tasks[at];
            let may_end = task.may_end(&self.board);
            taken += task.fill(&*self.ports.log, &self.board).await?;
            let records_max = settings.turn_records_max.min(settings.commit_records_max - self.uncommitted);
            let processed = task.process(records_max, before)?;
            self.uncommitted = settings.commit_records_max.min(self.uncommitted + processed);
            taken += processed;
            if may_end {
                taken += task.pass_time(settings.turn_records_max, settings.uncommitted_bytes_max)?;
            }
            taken += task.tick(now)?;
            if let Some(finished) = poll_fn(|cx| task.poll_calls(cx)).now_or_never() {
                taken += finished?;
            }
            // Those behind it are to have their turn, too.
            if self.uncommitted >= settings.commit_records_max && self.commit_is_due() {
                taken += self.commit().await?;
            }
        }
        if self.commit_is_due() || taken == 0 {
            taken += self.commit().await?;
        }
        for task in &mut self.tasks {
            let is_committed = !task.is_dirty();
            if is_committed {
                self.board.post(task.id(), task.progress(version));
            }
            self.metrics.set(task.id(), task.metrics(), is_committed);
            self.metrics.set_lags(task.lags());
        }
        Ok(if taken > 0 { Turn::Busy } else { Turn::Idle })
    }

    /// Whether a call of any task is open.
    pub(crate) fn has_open_calls(&self) -> bool {
        self.tasks.iter().any(|task| task.open_calls() > 0)
    }

    /// Waits until a call of any task is over, for ever when none is open.
    pub(crate) async fn a_call_is_over(&mut self) -> Result<()> {
        let tasks = &mut self.tasks;
        let finished = poll_fn(|cx| {
            let mut open =
                tasks.iter_mut().filter(|task| task.open_calls() > 0).map(|task| task.poll_calls(cx));
            open.find(Poll::is_ready).unwrap_or(Poll::Pending)
        });
        finished.await.map(drop)
    }

    /// Whether it is time to commit. Tasks whose calls are in the way take nothing more then, until they are over; all others
    /// are not held up.
    fn commit_is_due(&mut self) -> bool {
        let bytes: usize = self.tasks.iter_mut().map(Task::uncommitted_bytes).sum();
        let urgent = bytes >= self.plan.settings.uncommitted_bytes_max
            || self.tasks.iter().any(Task::waits_for_commit);
        let due = urgent
            || self.uncommitted >= self.plan.settings.commit_records_max
            || Instant::now().duration_since(self.last_commit) >= self.plan.settings.commit_interval;
        if due {
            self.tasks.iter_mut().for_each(|task| task.drain(urgent));
        }
        due
    }

    /// Commits what tasks took that have no open calls. How many tasks those were.
    async fn commit(&mut self) -> Result<usize> {
        let start = Instant::now();
        let newest = match commit(&mut self.tasks).await {
            Ok(newest) => newest,
            Err(error) => {
                // Some may have committed before another failed: they have counted.
                for task in self.tasks.iter_mut().filter(|task| !task.is_dirty()) {
                    self.metrics.set(task.id(), task.metrics(), true);
                }
                return Err(error);
            }
        };
        self.uncommitted = 0;
        let committed = newest.len();
        if committed > 0 {
            let newest: Vec<_> = newest.into_iter().flatten().collect();
            self.metrics.committed_at(self.ports.clock.now(), &newest);
            self.last_commit = Instant::now();
            self.metrics.commit_took(self.last_commit.duration_since(start));
        }
        Ok(committed)
    }

    /// Runs until `stop`, then waits for open calls, commits and writes the state out, so that the next start has nothing to
    /// restore; unless the application was `abandoned`.
    pub(crate) async fn run(&mut self, stop: impl Future<Output = ()>, abandoned: &Signal) -> Result<()> {
        let mut stop = std::pin::pin!(stop.fuse());
        loop {
            // A turn is never cut short: a commit that was begun is waited for.
            if futures::poll!(&mut stop).is_ready() {
                break;
            }
            if self.turn().await? == Turn::Idle {
                let (board, log) = (Arc::clone(&self.board), Arc::clone(&self.ports.log));
                let (seen, due) = (self.seen, self.until_due());
                tokio::select! {
                    biased;
                    () = &mut stop => break,
                    version = log.appended(seen.0) => { version?; }
                    count = board.changed().after(seen.1) => self.seen.1 = count.unwrap_or(u64::MAX),
                    over = self.a_call_is_over() => over?,
                    () = wait(due) => {}
                }
            } else if self.has_open_calls() {
                // Timers and sockets of calls have their turn as well.
                tokio::task::yield_now().await;
            }
        }
        self.close(abandoned).await
    }

    /// How long until a punctuation by the wall clock or a record at its pace is due, or state must be written to the engine.
    fn until_due(&self) -> Option<Duration> {
        let paced = |task: &Task| Some(self.plan.pace?.due(task.held_at()?));
        let due = |task: &Task| {
            task.next_punctuation().into_iter().chain(task.next_spill()).chain(paced(task)).min()
        };
        let due = self.tasks.iter().filter_map(due).min()?;
        let millis = due.0.saturating_sub(self.ports.clock.now().0);
        // A clock in whole milliseconds may be behind the timer: one more, and the next turn does not come too early.
        Some(
            Duration::from_millis(u64::try_from(millis).unwrap_or(0))
                .saturating_add(Duration::from_millis(1)),
        )
    }

    /// Commits what was taken once calls are over, and spills all state; ends as it is when the application was `abandoned`.
    pub(crate) async fn close(&mut self, abandoned: &Signal) -> Result<()> {
        loop {
            if abandoned.count() > 0 {
                return Ok(());
            }
            // A call may wait for what another task commits.
            self.commit().await?;
            if !self.tasks.iter().any(Task::is_dirty) {
                break;
            }
            tokio::select! {
                over = self.a_call_is_over() => over?,
                _ = abandoned.after(0) => {}
            }
        }
        for task in &mut self.tasks {
            task.spill(false)?;
            self.metrics.set(task.id(), task.metrics(), true);
        }
        Ok(())
    }
}

/// Waits for the time, or forever when there is none.
async fn wait(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep_until(tokio::time::Instant::now() + time.min(WAIT_MAX)).await,
        None => std::future::pending().await,
    }
}

/// Up to where the log is now.
pub(crate) fn version(log: &dyn Log) -> Result<LogVersion> {
    // Ready at once when anything was ever appended, and else the version is that of an empty log.
    log.appended(LogVersion::default()).now_or_never().unwrap_or(Ok(LogVersion::default()))
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use headwater_core::{
        BatchBuilder, Clock as _, Headers, ManualClock, Partition, ProducerName, Timestamp, TopicName,
        TopicPartition, TopicSpec,
        memory::{MemoryBackend, MemoryLog},
    };

    use super::*;
    use crate::{Concurrency, Settings, StreamsBuilder, replay::Pace};

    const FIRST: i64 = 1_000_000;

    /// Records of an hour in two partitions, the first of which is far behind the other now and then.
    fn times() -> Vec<(u32, i64)> {
        (0..10_000i64).map(|n| (u32::from(n % 7 < 3), FIRST + n * 360 + n * n % 997)).collect()
    }

    async fn worker(
        log: &MemoryLog,
        clock: &Arc<ManualClock>,
        settings: Settings,
        pace: Option<Pace>,
    ) -> Worker {
        let builder = StreamsBuilder::new();
        builder.stream::<String, u64>("in").to("out");
        worker_of(builder, log, clock, settings, pace).await
    }

    async fn worker_of(
        builder: StreamsBuilder,
        log: &MemoryLog,
        clock: &Arc<ManualClock>,
        settings: Settings,
        pace: Option<Pace>,
    ) -> Worker {
        let topology = Arc::new(builder.build().unwrap());
        let mut plan = Plan::resolve(topology, settings, log).await.unwrap();
        plan.pace = pace;
        let (log, state) = (Arc::new(log.clone()) as _, Arc::new(MemoryBackend::default()) as _);
        let ports = Ports { log, state, clock: Arc::clone(clock) as _ };
        let (board, tasks) = (Arc::new(Board::new(plan.tasks())), plan.tasks().collect::<Vec<_>>());
        Worker::open(Arc::new(plan), ports, (board, MetricsSink::new()), &tasks).await.unwrap()
    }

    async fn append(log: &MemoryLog, times: impl IntoIterator<Item = (u32, i64)>) {
        log.create_topic(&TopicSpec::new("in", 2).unwrap()).await.unwrap();
        let mut producer = log.producer(&ProducerName("input".into())).await.unwrap();
        for (partition, time) in times {
            let mut batch = BatchBuilder::default();
            batch.push(Timestamp(time), Some(b"k"), Some(&1u64.to_be_bytes()), &Headers::new());
            let partition = TopicPartition::new(TopicName::new("in").unwrap(), Partition(partition));
            producer.append(&partition, &mut batch).unwrap();
        }
        producer.commit(None).await.unwrap();
    }

    /// However far behind in time another one is, and stays.
    #[test]
    fn a_commit_after_few_records_takes_no_task_its_turn() {
        let (log, clock) = (MemoryLog::default(), Arc::new(ManualClock::new(Timestamp(77))));
        block_on(async {
            append(&log, (0..100).flat_map(|_| [(0, 5), (1, 1_000)])).await;
            let settings = Settings { commit_records_max: 3, turn_records_max: 7, ..Settings::new("app") };
            let mut worker = worker(&log, &clock, settings, None).await;
            for turn in 1..20 {
                worker.turn().await.unwrap();
                let tasks = worker.metrics.snapshot().tasks;
                let taken: Vec<_> = tasks.values().map(|task| (task.records, task.commits)).collect();
                assert_eq!(taken, [(3 * turn, turn); 2]);
            }
        });
    }

    /// A write of state that is due comes behind the commit, which comes behind the call.
    #[test]
    fn a_worker_that_waits_for_a_call_does_not_wake_to_write_state() {
        let (log, clock) = (MemoryLog::default(), Arc::new(ManualClock::new(Timestamp(77))));
        let builder = StreamsBuilder::new();
        let counts = builder.stream::<String, u64>("in").group_by_key().count("counts").to_stream();
        let first_only = |_: String, count: Option<u64>| async move {
            if count > Some(1) { std::future::pending().await } else { Ok(count) }
        };
        counts.map_async("asked", Concurrency::ordered(4), first_only).to("out");
        block_on(async {
            append(&log, [(0, 1)]).await;
            let mut worker = worker_of(builder, &log, &clock, Settings::new("app"), None).await;
            while worker.turn().await.unwrap() == Turn::Busy {}
            let due = worker.until_due().map(|due| due.as_secs());
            assert_eq!(due, Some(600), "a row is to be written");
            append(&log, [(0, 2)]).await;
            clock.advance_ms(601_000);
            while worker.turn().await.unwrap() == Turn::Busy {}
            assert!(worker.has_open_calls());
            assert_eq!(worker.until_due(), None);
        });
    }

    #[test]
    fn at_a_pace_records_are_taken_when_they_are_due_and_the_worker_wakes_for_the_next() {
        let (log, clock) = (MemoryLog::default(), Arc::new(ManualClock::new(Timestamp(77))));
        let times = times();
        block_on(async {
            append(&log, times.iter().copied()).await;
            let pace = Pace::new(60.0, Timestamp(FIRST), clock.now());
            let settings = Settings { turn_records_max: 64, ..Settings::new("app") };
            let mut worker = worker(&log, &clock, settings, Some(pace)).await;
            let mut wakes = 0;
            loop {
                while worker.turn().await.unwrap() == Turn::Busy {}
                let until = FIRST + (clock.now().0 - 77) * 60;
                // By the time of their lane: one that is out of order comes with those before it.
                let due = [0, 1].map(|partition| {
                    let of = times.iter().filter(|(p, _)| *p == partition).map(|(_, time)| *time);
                    of.take_while(|time| *time <= until).count() as u64
                });
                let taken = worker.metrics.snapshot().total().records;
                assert_eq!(taken, due.iter().sum::<u64>(), "at {}", clock.now());
                let Some(wait) = worker.until_due() else { break };
                clock.advance_ms(i64::try_from(wait.as_millis()).unwrap());
                wakes += 1;
            }
            let taken = worker.metrics.snapshot().total().records;
            assert_eq!(taken, 10_000);
            let last = times.iter().map(|(_, time)| *time).max().unwrap();
            let (ideal, real) = ((last - FIRST) / 60, clock.now().0 - 77);
            assert!(ideal <= real && real <= ideal + ideal / 100, "{real} ms, and {ideal} at this pace");
            assert!((1_000..20_000).contains(&wakes), "{wakes}");
        });
    }
}
