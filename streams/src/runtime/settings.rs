//! What a user can set.

use std::time::Duration;

use headwater_core::{Error, Result, TopicName};

/// What becomes of a record that cannot be decoded or whose processing fails, the encoding of what comes out of it included: with
/// an error, or with a panic.
///
/// What the record had stored and forwarded is taken back first, so that a record counts wholly or not at all. After a panic
/// that holds for stores, output and time, which are the task's; fields of a processor are its own, and keep what a
/// code path that was cut short left in them. A program that is compiled to abort on panics cannot leave anything out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ErrorPolicy {
    /// The application stops with the error. Nothing is lost: after a fix it goes on with this record.
    #[default]
    Fail,
    /// The record is left out and counted.
    Skip,
    /// The record is left out and counted, and its original bytes go to this topic in the same commit, with the error
    /// and its place in the headers that Kafka Streams uses (KIP-1034): `__streams.errors.exception`, `.message`,
    /// `.topic`, `.partition`, `.offset`. A record that would be too large with them loses what it must: the end of the
    /// message, its value, then its key and headers. `__headwater.errors.cut` says what, and it can be read at its place.
    DeadLetter(String),
}

/// In which order a task takes the records of a partition that several tasks wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InputOrder {
    /// By the upstream tasks' stream times: what comes out does not depend on which of them was faster.
    #[default]
    Lanes,
    /// As they arrived, like Kafka Streams. On a backlog, a task that runs ahead makes the others' records late.
    Arrival,
}

/// Settings of an application: plain data, with a default for all but its name.
///
/// ```
/// use std::time::Duration;
/// use headwater_streams::Settings;
/// let settings = Settings { workers: 2, commit_interval: Duration::from_millis(10), ..Settings::new("word-count") };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Names the application's positions, internal topics and state (Kafka: `application.id`). Must be the legal name of a
    /// topic.
    pub application_id: String,
    /// How many threads share the tasks, at least one (Kafka: `num.stream.threads`).
    pub workers: usize,
    /// Time between commits under load (Kafka: `commit.interval.ms`, 100 ms under exactly-once). A worker that has
    /// nothing left to do commits at once.
    pub commit_interval: Duration,
    /// A commit is made early when this much output waits for it, in bytes per worker.
    pub uncommitted_bytes_max: usize,
    /// A commit is made early when a worker has taken this many records for it, at least one. With it and a long
    /// [`Settings::commit_interval`], what one worker commits together, and so what `Emit::OnCommit` sends of a backlog, depends on
    /// the records and not on the clock.
    pub commit_records_max: usize,
    /// Records that a task takes before the next task has its turn, at least one.
    pub turn_records_max: usize,
    /// Memory for all stores of the application, in bytes: half for rows at hand, half for the state engine. A store
    /// above its share moves its rows to the engine. What a value keeps on the heap (strings, lists) is taken for as much as
    /// it has bytes.
    pub memory_bytes: usize,
    /// What becomes of records that fail.
    pub on_error: ErrorPolicy,
    /// See [`InputOrder`].
    pub input_order: InputOrder,
    /// How often within [`Settings::restart_window`] a worker that failed is replaced by a new one, which opens its tasks
    /// and goes on from the last commit, before the application stops: when log or disk did not do it this time, when
    /// another instance had taken over a task, and when code of yours panicked elsewhere than at a record. A disk that is full is
    /// waited for however long it takes. Damage, mistakes, and under [`ErrorPolicy::Fail`] failed records and panics stop
    /// the application at once: they would come again. (Kafka: `REPLACE_THREAD`.)
    pub restarts_max: u32,
    /// See [`Settings::restarts_max`].
    pub restart_window: Duration,
    /// How long the first new worker in a window waits; each further one twice as long, 30 seconds at most.
    pub restart_backoff: Duration,
}

impl Settings {
    /// Defaults for the application `application_id`.
    pub fn new(application_id: impl Into<String>) -> Self {
        Self {
            application_id: application_id.into(),
            workers: 1,
            commit_interval: Duration::from_millis(100),
            uncommitted_bytes_max: 64 << 20,
            commit_records_max: usize::MAX,
            turn_records_max: 10_000,
            memory_bytes: 256 << 20,
            on_error: ErrorPolicy::default(),
            input_order: InputOrder::default(),
            restarts_max: 5,
            restart_window: Duration::from_secs(600),
            restart_backoff: Duration::from_millis(100),
        }
    }

    /// Memory for the rows at hand of all stores.
    pub(crate) fn table_bytes(&self) -> usize {
        self.memory_bytes / 2
    }

    pub(crate) fn check(&self) -> Result<()> {
        TopicName::new(&self.application_id)
            .map_err(|e| e.context("an application id begins the names of its topics"))?;
        let Self { workers, turn_records_max, commit_records_max, .. } = self;
        if [workers, turn_records_max, commit_records_max].contains(&&0) {
            return Err(Error::invalid(format!(
                "an application needs at least one worker, and one record per turn and commit. workers={workers}, \
                 turn_records_max={turn_records_max}, commit_records_max={commit_records_max}"
            )));
        }
        Ok(())
    }
}
